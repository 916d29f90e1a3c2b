"""What changing some weights does to a network's outputs, on one batch.

    error = mean over outputs of  E‖out' − out‖² / E‖out − E out‖²

The loss at the readers says which channels of a group are worth least; how much a loss there matters for what comes out
differs from layer to layer, and is measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.numpy_helper import from_array

from onnxprune.calibrate.feeds import Feeds
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import Session

__all__ = ["Changed", "Trial"]

Changed = dict[str, NDArray[Any]]
"""New values of some initializers."""

_SAMPLES = 32


class Trial:
    """A network that is run with some of its weights changed, on one batch.

    Parameters
    ----------
    proto : ModelProto
        Not modified.
    batch : dict of str to ndarray
    providers : sequence of str
    """

    def __init__(self, proto: ModelProto, batch: Feeds, providers: Sequence[str]) -> None:
        self._proto = ModelProto()
        self._proto.CopyFrom(proto)
        self._stored = Index(self._proto).weights
        self._batch = {name: value[:_SAMPLES] if value.ndim else value for name, value in batch.items()}
        self._providers = providers
        try:
            self._expected = self._outputs()
        except ModelError:  # it takes whole batches only
            self._batch = batch
            self._expected = self._outputs()

    def _outputs(self) -> dict[str, NDArray[Any]]:
        found = Session(self._proto.SerializeToString(), self._providers).run(self._batch)
        return {name: value for name, value in found.items() if value.dtype.kind == "f"}

    def error(self, changed: Mapping[str, NDArray[Any]]) -> float:
        """Mean relative squared error of the outputs with these initializers changed.

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        before = {name: self._stored[name].SerializeToString() for name in changed}
        for name, value in changed.items():
            self._stored[name].CopyFrom(from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        found = self._outputs()
        for name, value in before.items():
            self._stored[name].ParseFromString(value)
        errors = [_relative(found[name], value) for name, value in self._expected.items() if name in found]
        return float(np.mean(errors)) if errors else 0.0


def _relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape or not expected.size or not np.isfinite([found, expected]).all():
        return 0.0
    wide = expected.astype(np.float64)
    spread = float(np.square(wide - wide.mean(axis=0)).sum()) if wide.ndim else 0.0
    spread = spread or float(np.square(wide).sum())
    error = float(np.square(found - wide).sum()) / max(spread, 1e-30)
    return error if np.isfinite(error) else 1.0
