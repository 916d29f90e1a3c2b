"""Linear operators as matrix products y = aᵀW + b: what of an activation makes a row a, what of a weight the matrix W.

    Gemm, MatMul     a = the input along the contracted axis
    Conv             a = the patch (channel, offset) that an output position sees; padding gives zeros
    ConvTranspose    a = (channel, offset) with the input that this offset takes to the output position, else zero

A convolution in g groups is g products: rows are (g, R, n), matrices (g, n, k), with n = channels per group times
offsets, the channel varying slowest.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

__all__ = ["Convolution", "Form", "Product", "Transposed", "form_of"]

Floats = NDArray[Any]
Places = NDArray[np.int64] | None


class Form(Protocol):
    """One operator as a matrix product."""

    @property
    def groups(self) -> int:
        """Products that it consists of."""

    @property
    def offsets(self) -> int:
        """Columns of each channel."""

    def positions(self, shape: Sequence[int]) -> int:
        """Rows that one sample of an output of this shape gives; 0 where all are taken anyway."""

    def rows(self, activation: Floats, shape: Sequence[int], places: Places) -> Floats:
        """Rows (g, R, n) of an activation whose result has this shape, at some output positions."""

    def targets(self, result: Floats, places: Places) -> Floats:
        """The same rows of a result, (g, R, k)."""

    def matrix(self, weight: Floats) -> Floats:
        """See a weight as (g, n, k)."""

    def weight(self, matrix: Floats) -> Floats:
        """Make of a matrix the weight that it is seen from."""


@dataclass(frozen=True)
class Product:
    """Gemm or MatMul by a matrix (k, n) or, `transposed`, (n, k)."""

    transposed: bool = False
    groups: int = 1
    offsets: int = 1

    def positions(self, shape: Sequence[int]) -> int:
        return math.prod(shape[1:-1]) if len(shape) > 2 else 0

    def rows(self, activation: Floats, shape: Sequence[int], places: Places) -> Floats:
        return self.targets(activation, places)

    def targets(self, result: Floats, places: Places) -> Floats:
        if places is not None:
            result = result.reshape(len(result), -1, result.shape[-1])[:, places]
        return result.reshape(1, -1, result.shape[-1])

    def matrix(self, weight: Floats) -> Floats:
        seen: Floats = (weight.T if self.transposed else weight)[None]
        return seen

    def weight(self, matrix: Floats) -> Floats:
        own: Floats = matrix[0].T if self.transposed else matrix[0]
        return own


@dataclass(frozen=True)
class _Windows:
    """What convolutions have in common; `kernel` is that of the weight.

    `pads` are those at the start of each axis as written; with `auto` they follow from the sizes.
    """

    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str = ""

    @property
    def offsets(self) -> int:
        return math.prod(self.kernel)

    def positions(self, shape: Sequence[int]) -> int:
        return math.prod(shape[2:])

    def targets(self, result: Floats, places: Places) -> Floats:
        flat = result.reshape(len(result), self.groups, -1, math.prod(result.shape[2:]))
        chosen = flat if places is None else np.take(flat, places, axis=3)
        rows: Floats = chosen.transpose(1, 0, 3, 2).reshape(self.groups, -1, flat.shape[2])
        return rows

    def _gathered(self, activation: Floats, sources: Floats) -> Floats:
        """Rows from the sources (offset, R) of each position among the flat places of an input; −1 is a zero."""
        count, channels = activation.shape[:2]
        flat = activation.reshape(count, self.groups, channels // self.groups, -1)
        made = np.empty((self.groups, count, sources.shape[1], flat.shape[2], self.offsets), dtype=activation.dtype)
        for offset, source in enumerate(sources):
            taken = np.take(flat, np.maximum(source, 0), axis=3)
            taken[..., source < 0] = 0
            made[..., offset] = taken.transpose(1, 0, 3, 2)
        return made.reshape(self.groups, count * sources.shape[1], -1)

    def _starts(self, source: Sequence[int], result: Sequence[int]) -> NDArray[np.int64]:
        """Padding at the start of each axis of an input and a result of these shapes; (dimensions, 1)."""
        pads = self.pads
        if self.auto:
            both = [max(total, 0) for total in self._missing(source[2:], result[2:])]
            pads = tuple(total // 2 if self.auto == "SAME_UPPER" else total - total // 2 for total in both)
        return np.array(pads, dtype=np.int64)[:, None]

    def _missing(self, source: Sequence[int], result: Sequence[int]) -> list[int]:
        """How much both sides of each axis are padded by together, where it follows from the sizes."""
        raise NotImplementedError

    def _reach(self) -> list[int]:
        return [dilation * (size - 1) + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True)]

    def _all(self, shape: Sequence[int], places: Places) -> NDArray[np.int64]:
        """Coordinates of output positions, (dimensions, R)."""
        flat = np.arange(math.prod(shape[2:])) if places is None else places
        return np.array(np.unravel_index(flat, tuple(shape[2:])))


def _flattened(coordinates: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Flat places of coordinates (dimensions, R), −1 outside."""
    bounds = np.array(sizes)[:, None]
    inside = ((coordinates >= 0) & (coordinates < bounds)).all(axis=0)
    flat = np.ravel_multi_index(tuple(np.clip(coordinates, 0, bounds - 1)), tuple(sizes))
    return np.where(inside, flat, -1).astype(np.int64)


@dataclass(frozen=True)
class Convolution(_Windows):
    """Conv: weight (O, I/g, kernel…)."""

    def rows(self, activation: Floats, shape: Sequence[int], places: Places) -> Floats:
        at = self._all(shape, places) * np.array(self.strides)[:, None] - self._starts(activation.shape, shape)
        offsets = itertools.product(*map(range, self.kernel))
        moved = (at + (np.array(offset) * self.dilations)[:, None] for offset in offsets)
        return self._gathered(activation, np.array([_flattened(each, activation.shape[2:]) for each in moved]))

    def _missing(self, source: Sequence[int], result: Sequence[int]) -> list[int]:
        sizes = zip(source, result, self.strides, self._reach(), strict=True)
        return [(made - 1) * stride + reach - size for size, made, stride, reach in sizes]

    def matrix(self, weight: Floats) -> Floats:
        grouped = weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        return grouped.transpose(0, 2, 1)

    def weight(self, matrix: Floats) -> Floats:
        outputs = matrix.transpose(0, 2, 1)
        return outputs.reshape(self.groups * matrix.shape[2], -1, *self.kernel)


@dataclass(frozen=True)
class Transposed(_Windows):
    """ConvTranspose: weight (I, O/g, kernel…)."""

    def rows(self, activation: Floats, shape: Sequence[int], places: Places) -> Floats:
        at = self._all(shape, places) + self._starts(activation.shape, shape)
        sources = []
        for offset in itertools.product(*map(range, self.kernel)):
            source, left = np.divmod(at - (np.array(offset) * self.dilations)[:, None], np.array(self.strides)[:, None])
            flat = _flattened(source, activation.shape[2:])
            sources.append(np.where((left == 0).all(axis=0), flat, -1))
        return self._gathered(activation, np.array(sources))

    def _missing(self, source: Sequence[int], result: Sequence[int]) -> list[int]:
        sizes = zip(source, result, self.strides, self._reach(), strict=True)
        return [(size - 1) * stride + reach - made for size, made, stride, reach in sizes]

    def matrix(self, weight: Floats) -> Floats:
        inputs = weight.shape[0] // self.groups
        split = weight.reshape(self.groups, inputs, weight.shape[1], -1)
        return split.transpose(0, 1, 3, 2).reshape(self.groups, -1, weight.shape[1])

    def weight(self, matrix: Floats) -> Floats:
        split = matrix.reshape(self.groups, -1, self.offsets, matrix.shape[2])
        return split.transpose(0, 1, 3, 2).reshape(-1, matrix.shape[2], *self.kernel)


def form_of(node: NodeProto, weight: Sequence[int], source: Sequence[int]) -> Form | None:
    """See a node as a product of its input 0 with the stored weight that is its input 1.

    Parameters
    ----------
    node : NodeProto
    weight, source : sequence of int
        Shapes of the weight and of input 0.

    Returns
    -------
    Form or None
        None where it is no such product.
    """
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gemm":
        plain = not found.get("transA", 0) and found.get("alpha", 1.0) == 1.0 and found.get("beta", 1.0) == 1.0
        return Product(bool(found.get("transB", 0))) if plain else None
    if node.op_type == "MatMul":
        return Product() if len(weight) == 2 and len(source) >= 2 else None
    if node.op_type not in ("Conv", "ConvTranspose"):
        return None
    kernel, rank, group = tuple(weight[2:]), len(weight) - 2, int(found.get("group", 1))
    if group == source[1] > 1:
        return None  # each channel by itself: a scale, not a sum over channels
    strides, dilations = tuple(found.get("strides", [1] * rank)), tuple(found.get("dilations", [1] * rank))
    kind = Transposed if node.op_type == "ConvTranspose" else Convolution
    return kind(group, kernel, strides, dilations, *_padding(found, rank))


def _padding(found: dict[str, Any], rank: int) -> tuple[tuple[int, ...], str]:
    """Padding at the start of each axis as written, and how it follows from the sizes otherwise."""
    auto = found.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME") or "output_shape" in found:
        return (0,) * rank, auto
    return tuple(found.get("pads", [0] * rank)[:rank]) if auto == "NOTSET" else (0,) * rank, ""
