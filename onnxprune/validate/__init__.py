"""Is the pruned network sound: the twin as an oracle, and fidelity to the original."""

from onnxprune.validate.alike import compare_plain
from onnxprune.validate.cut import foreign_nodes
from onnxprune.validate.fidelity import Fidelity, fidelity_on
from onnxprune.validate.probe import Made, Measured, NewWeights, Probed, measure
from onnxprune.validate.prove import TwinResult, Validation, validate

__all__ = [
    "Fidelity",
    "Made",
    "Measured",
    "NewWeights",
    "Probed",
    "TwinResult",
    "Validation",
    "compare_plain",
    "fidelity_on",
    "foreign_nodes",
    "measure",
    "validate",
]
