"""What accuracy does not tell: networks side by side, output by output and input by input."""

from onnxprune.evaluate.conditions import MEASURABLE, Condition, parse_condition
from onnxprune.evaluate.detections import Detections
from onnxprune.evaluate.figures import (
    CLASSES,
    DECISIONS,
    KINDS,
    NUMBERS,
    Pair,
    answers_of,
    kind_of,
    log_shares,
    rows_of,
)
from onnxprune.evaluate.runner import Latency, Runner, latencies, runner_of

__all__ = [
    "CLASSES",
    "DECISIONS",
    "KINDS",
    "MEASURABLE",
    "NUMBERS",
    "Condition",
    "Detections",
    "Latency",
    "Pair",
    "Runner",
    "answers_of",
    "kind_of",
    "latencies",
    "log_shares",
    "parse_condition",
    "rows_of",
    "runner_of",
]
