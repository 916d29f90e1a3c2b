"""What channels are worth by derivatives: how much a loss changes where their readers see zero in their place."""

from onnxprune.salience.edges import Edges
from onnxprune.salience.flow import Flow, flow_of
from onnxprune.salience.found import saliences
from onnxprune.salience.removal import STATISTICS, last_to_go
from onnxprune.salience.seeds import seeds_of
from onnxprune.salience.slopes import FlowSlopes, loss_slopes, ways

__all__ = [
    "STATISTICS",
    "Edges",
    "Flow",
    "FlowSlopes",
    "flow_of",
    "last_to_go",
    "loss_slopes",
    "saliences",
    "seeds_of",
    "ways",
]
