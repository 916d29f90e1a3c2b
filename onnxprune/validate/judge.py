"""The verdict on one run: every tensor that the pruned network and its twin share, in its own tolerance.

Tolerances are on the relative L2 of a tensor: on the CPU float32 1e-5, float64 1e-11, float16 5e-3, bfloat16 4e-2;
elsewhere (CUDA, with TF32 off) ten times the first two, since kernels differ between sizes. Sums of products of
integers are held to float32's: one step in a tensor is too much, unless it has a million numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.coupling import Coupling
from onnxprune.graph.runtime import CPU
from onnxprune.ops.labels import Labels
from onnxprune.ops.trace import Kept
from onnxprune.shapes.infer import Shapes
from onnxprune.validate.compare import difference

__all__ = ["NOISE", "Judge", "Outputs", "TwinResult", "noise_of"]

Outputs = dict[str, NDArray[Any]]
"""Tensors by name, as a session returns them."""

TOLERANCES: dict[int, float] = {
    TensorProto.FLOAT: 1e-5,
    TensorProto.DOUBLE: 1e-11,
    TensorProto.FLOAT16: 5e-3,
    TensorProto.BFLOAT16: 4e-2,
}
ELSEWHERE: dict[int, float] = TOLERANCES | {TensorProto.FLOAT: 1e-4, TensorProto.DOUBLE: 1e-10}

NOISE = 1e-6
"""Relative change of the inputs, some units in the last place of float32, that shows how a tensor is conditioned."""

NOISE_FACTOR = 10.0
"""How much rounding in all layers may move a tensor, relative to that change of the inputs alone."""


@dataclass(frozen=True)
class TwinResult:
    """The pruned network compared with its twin; the worst tensor counts."""

    passed: bool
    max_abs: float
    max_rel: float
    relative_l2: float
    tolerance: float
    compared: int
    worst: str


def _kept_part(value: NDArray[Any], labels: Labels, kept: Kept) -> NDArray[Any] | None:
    """Positions of a twin's tensor that the pruned network has too; None where they cannot be laid out like it."""
    for bundle in labels.bundles:
        mask = kept.of(bundle.array)
        if mask.shape != tuple(value.shape[axis] for axis in bundle.axes):  # at other symbolic sizes
            return None
        counts = [mask.any(axis=tuple(d for d in range(mask.ndim) if d != dim)) for dim in range(mask.ndim)]
        if math.prod(int(count.sum()) for count in counts) == int(mask.sum()):
            for count, axis in zip(counts, bundle.axes, strict=True):
                value = value.take(np.flatnonzero(count), axis=axis)
            continue
        rows = mask.reshape(-1, mask.shape[-1]).sum(axis=1)
        if (rows != rows[0]).any():
            return None
        order = [*bundle.axes, *(axis for axis in range(value.ndim) if axis not in bundle.axes)]
        taken = value.transpose(order)[mask]
        value = taken.reshape(*mask.shape[:-1], -1, *taken.shape[1:]).transpose(np.argsort(order))
    return value


@dataclass(frozen=True)
class Judge:
    """Compares a pruned network's tensors with its twin's.

    Attributes
    ----------
    provider : str
        What ran them; it decides on the tolerances.
    noise : mapping of str to float
        How far each of the twin's tensors moves when its inputs change in their last digits, relative L2.
    coupling, shapes, kept
        Which positions the two share, and of which type they are.
    integers : frozenset of str
        Tensors that are compared though they are not floating; see `Twin`.
    """

    provider: str
    noise: Mapping[str, float]
    coupling: Coupling
    shapes: Shapes
    kept: Kept
    integers: frozenset[str] = frozenset()

    def compare(self, names: Sequence[str], expected: Outputs, found: Outputs) -> tuple[TwinResult, set[str]]:
        """Compare tensors by name; the one nearest to its tolerance, or furthest beyond, counts.

        A tensor beyond its tolerance that moves as much when the twin's own inputs change in their last digits (a
        sigmoid far out) proves nothing either way: its name is returned beside the result.
        """
        tolerances = TOLERANCES if self.provider == CPU else ELSEWHERE
        loose: set[str] = set()
        result = TwinResult(False, 0.0, 0.0, 0.0, tolerances[TensorProto.FLOAT], 0, "")
        excess, compared = -1.0, 0
        for name in names:
            kind = TensorProto.FLOAT if name in self.integers else self.shapes.types.get(name, 0)
            reference = self._reference(name, expected) if name in found and kind in tolerances else None
            if reference is None:
                continue
            gap, tolerance = difference(found[name], reference), tolerances[kind]
            ratio = gap.relative_l2 / tolerance
            if ratio > 1.0 and gap.relative_l2 <= NOISE_FACTOR * self.noise.get(name, 0.0):
                loose.add(name)
                continue
            compared += gap.comparable
            if ratio > excess:
                excess = ratio
                result = TwinResult(ratio <= 1.0, gap.max_abs, gap.max_rel, gap.relative_l2, tolerance, 0, name)
        return replace(result, compared=compared, passed=result.passed and compared > 0), loose

    def _reference(self, name: str, expected: Outputs) -> NDArray[Any] | None:
        labels = self.coupling.trace.labels.get(name)
        value = expected.get(name)
        return value if value is None or labels is None else _kept_part(value, labels, self.kept)


def noise_of(moved: Outputs, still: Outputs) -> dict[str, float]:
    """How far each tensor of numbers moved, relative L2."""
    return {name: difference(moved[name], still[name]).relative_l2 for name in moved if moved[name].dtype.kind in "fiu"}
