"""Structured pruning of ONNX files: no framework, little or no data, and a proof of what was done.

>>> import onnxprune
>>> result = onnxprune.prune("models/lenet-300-100.onnx", ratio=0.6)  # doctest: +SKIP
>>> round(result.report["achieved"]["params"], 2)  # doctest: +SKIP
0.6
"""

from onnxprune.api import Result, inspect, prune
from onnxprune.errors import (
    DataError,
    ModelError,
    OnnxPruneError,
    OutputError,
    RefusedError,
    UsageError,
    ValidationError,
)
from onnxprune.rewrite import Plan

__all__ = [
    "DataError",
    "ModelError",
    "OnnxPruneError",
    "OutputError",
    "Plan",
    "RefusedError",
    "Result",
    "UsageError",
    "ValidationError",
    "inspect",
    "prune",
]
