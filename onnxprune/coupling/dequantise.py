"""Quantised weights as the numbers that they stand for: (q − zero) · scale, per tensor, per channel or per block."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph.index import Index
from onnxprune.ops.trace import Quantised, Trace, Use

__all__ = ["Dequantiser"]

Read = Callable[[str], NDArray[Any]]
Singles = NDArray[np.float32]

# Where a layer of integers has its bias, and the scales whose product is the bias's, if it is stored as integers.
_BIASES: dict[str, tuple[int, tuple[int, ...]]] = {
    "DynamicQuantizeMatMul": (4, ()),
    "MatMulIntegerToFloat": (6, ()),
    "MatMulNBits": (5, ()),
    "QGemm": (6, (1, 4)),
    "QLinearConv": (8, (1, 4)),
}
_WITHOUT = frozenset({"ConvInteger", "DequantizeLinear", "MatMul", "MatMulInteger", "QLinearMatMul"})


class Dequantiser:
    """Gives the numbers that stored integers stand for.

    Parameters
    ----------
    trace : Trace
        Says which inputs are quantised, and by what.
    index : Index
    read : callable
        Value of a stored tensor by name.
    """

    def __init__(self, trace: Trace, index: Index, read: Read) -> None:
        self.trace = trace
        self.index = index
        self.read = read

    def numbers(self, use: Use, stored: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers of a weight as one node uses it; of one that is not quantised, what is stored.

        Where integers share bytes, the last axis is longer than the stored one.
        """
        return self._numbers(use.node, use.input, stored)

    def bias(self, number: int) -> NDArray[np.float64] | None:
        """Return the bias of a layer, None where it has none, or one that is computed."""
        node = self.index.nodes[number]
        if node.op_type in _WITHOUT:
            return None
        place, scales = _BIASES.get(node.op_type, (2, ()))
        name = node.input[place] if place < len(node.input) else ""
        values = self.vector(name)
        if values is None or self.index.weights.get(name) is None or self.read(name).dtype.kind not in "iu":
            return values
        factors = [self.vector(node.input[scale]) for scale in scales]
        for factor in factors:
            values = values if factor is None else values * factor
        return values

    def vector(self, name: str) -> NDArray[np.float64] | None:
        """Return a stored vector, or one that is dequantised from one; None for anything else."""
        made = self.index.producer.get(name)
        if name and self.index.is_weight(name):
            array = self.read(name)
        elif (
            made is not None
            and (made, 0) in self.trace.quantised
            and self.index.is_weight(stored := self._input(made, 0))
        ):
            array = self._numbers(made, 0, self.read(stored))
        else:
            return None
        return array.astype(np.float64).ravel() if max(array.shape, default=1) == array.size else None

    def _input(self, number: int, place: int) -> str:
        name: str = self.index.nodes[number].input[place]
        return name

    def _numbers(self, number: int, place: int, stored: NDArray[Any]) -> NDArray[Any]:
        record = self.trace.quantised.get((number, place))
        if record is None:
            return stored
        scale = self._parameter(number, record.scale)
        zero = self._parameter(number, record.zero)
        if record.bits:
            return _unpacked(stored, scale, zero, record.bits)
        values: Singles = stored.astype(np.float32)
        if zero is not None:
            values -= _laid_out(zero, record, values.shape)
        if scale is not None:
            values *= _laid_out(scale, record, values.shape)
        return values

    def _parameter(self, number: int, place: int | None) -> NDArray[Any] | None:
        """Scale or zero point, where it is stored."""
        if place is None or not self.index.is_weight(self._input(number, place)):
            return None
        return self.read(self._input(number, place))


def _laid_out(parameter: NDArray[Any], record: Quantised, shape: tuple[int, ...]) -> Singles:
    """Lay scales or zero points over the integers that they belong to."""
    values: Singles = parameter.astype(np.float32)
    if values.size == 1:
        return values.reshape(())
    if record.block:
        wide = np.repeat(values, record.block, axis=record.axis)
        return wide.take(np.arange(shape[record.axis]), axis=record.axis)
    if values.ndim > 1:
        return values
    return values.reshape([-1 if axis == record.axis else 1 for axis in range(len(shape))])


def _unpacked(stored: NDArray[Any], scale: NDArray[Any] | None, zero: NDArray[Any] | None, bits: int) -> Singles:
    """Numbers of bytes (n, blocks, bytes) that hold several integers each, with scales and zero points per block."""
    rows, blocks = stored.shape[:2]
    values: Singles = _split(stored, bits).astype(np.float32)
    if zero is None:
        values -= 2.0 ** (bits - 1)
    elif zero.dtype == np.uint8:
        values -= _split(zero.reshape(rows, -1), bits)[:, :blocks, None]
    else:
        values -= zero.reshape(rows, blocks, 1)
    return values if scale is None else values * scale.reshape(rows, blocks, 1).astype(np.float32)


def _split(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Cut each byte into integers, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    pieces = (values[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return pieces.reshape(*values.shape[:-1], -1)
