"""The exceptions of onnxprune; each message names the site, the value, the fact and the remedy.

::

    OnnxPruneError                     (exit code)
    ├── UsageError                     2  an option is wrong by itself
    ├── ModelError                     1  the input cannot be read, or is not a network that can be run
    ├── DataError                      1  calibration data cannot be read, or do not fit the network
    ├── OutputError                    1  the output cannot be written
    ├── RefusedError                   1  the input is sound, what was asked of it cannot be done
    ├── ValidationError                3  the pruned network is not the network that was planned; nothing was written
    └── ConditionError                 3  a comparison came to what it was to fail by
"""

from typing import ClassVar

__all__ = [
    "ConditionError",
    "DataError",
    "ModelError",
    "OnnxPruneError",
    "OutputError",
    "RefusedError",
    "UsageError",
    "ValidationError",
]


class OnnxPruneError(Exception):
    """Base of every error that onnxprune raises on purpose; `exit_code` is the command's exit status."""

    exit_code: ClassVar[int] = 1


class UsageError(OnnxPruneError):
    """An option has a value that no network could satisfy."""

    exit_code = 2


class ModelError(OnnxPruneError):
    """The input file is missing, damaged, or not a network that onnxruntime can run."""


class DataError(OnnxPruneError):
    """Calibration data are missing, damaged, or no inputs of the network."""


class OutputError(OnnxPruneError):
    """The output cannot be written where it was asked for."""


class RefusedError(OnnxPruneError):
    """The network is sound, but what was asked cannot be done with it."""


class ValidationError(OnnxPruneError):
    """The pruned network differs from the original with the same channels masked."""

    exit_code = 3


class ConditionError(OnnxPruneError):
    """A comparison came to what `--fail-if` says that it is to fail by."""

    exit_code = 3
