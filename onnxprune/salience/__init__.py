"""What channels are worth by derivatives: how much a loss changes where their readers see zero in their place."""

from onnxprune.salience.edges import Edges
from onnxprune.salience.found import saliences
from onnxprune.salience.removal import STATISTICS, last_to_go
from onnxprune.salience.seeds import seeds_of

__all__ = ["STATISTICS", "Edges", "last_to_go", "saliences", "seeds_of"]
