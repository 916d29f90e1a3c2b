"""What channels are worth by derivatives: how much a loss changes where their readers see zero in their place."""

from onnxprune.salience.edges import Edges
from onnxprune.salience.flow import Flow, flow_of
from onnxprune.salience.found import saliences
from onnxprune.salience.removal import STATISTICS, last_to_go
from onnxprune.salience.seeds import seeds_of

__all__ = ["STATISTICS", "Edges", "Flow", "flow_of", "last_to_go", "saliences", "seeds_of"]
