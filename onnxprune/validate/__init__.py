"""Is the pruned network sound: the twin as an oracle, and fidelity to the original."""

from onnxprune.validate.accuracy import Accuracy, Exam, Scores, find_scores, set_exam
from onnxprune.validate.alike import compare_plain
from onnxprune.validate.cut import foreign_nodes
from onnxprune.validate.fidelity import Fidelity, fidelity_on, outputs_of
from onnxprune.validate.probe import Made, Measured, NewWeights, Probed, measure
from onnxprune.validate.prove import TwinResult, Validation, validate

__all__ = [
    "Accuracy",
    "Exam",
    "Fidelity",
    "Made",
    "Measured",
    "NewWeights",
    "Probed",
    "Scores",
    "TwinResult",
    "Validation",
    "compare_plain",
    "fidelity_on",
    "find_scores",
    "foreign_nodes",
    "measure",
    "outputs_of",
    "set_exam",
    "validate",
]
