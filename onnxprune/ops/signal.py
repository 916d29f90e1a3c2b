"""Operators of signal processing: Fourier transforms, windows, filter banks. A transformed axis is mixed."""

from collections.abc import Iterable

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = ["RULES", "fourier", "fourier_by_input", "last_axes_fourier", "numbers", "short_time_fourier"]


def _transformed(op: Op, axes: Iterable[int]) -> Answer:
    rank = min(len(op.shape(0)), len(op.out_shape()))
    held = set(axes)
    op.hold(0, held, Purpose.MIXED)
    return op.carry(0, {axis: axis for axis in range(rank) if axis not in held})


def fourier(op: Op) -> Answer:
    """DFT along an axis given as attribute; the last axis holds real and imaginary part."""
    rank = len(op.shape(0))
    return _transformed(op, [op.attribute("axis", 1) % rank, rank - 1])


def fourier_by_input(op: Op) -> Answer:
    """DFT along an axis given as input, by default the last but one."""
    rank = len(op.shape(0))
    known = op.known(2)
    if op.has(2) and known is None:
        return op.unknown()
    return _transformed(op, [-2 % rank if known is None else int(known.value.item()) % rank, rank - 1])


def short_time_fourier(op: Op) -> Answer:
    """STFT: (batch, length, 1 or 2) becomes (batch, frames, frequencies, 2)."""
    op.keep(2)
    op.hold(0, range(1, len(op.shape(0))), Purpose.MIXED)
    return op.carry(0, {0: 0})


def last_axes_fourier(op: Op) -> Answer:
    """Rfft, Irfft of com.microsoft, along the last axes; complex numbers have one more."""
    rank = len(op.shape(0))
    count = op.attribute("signal_ndim", 1) + (op.node.op_type == "Irfft")
    return _transformed(op, range(rank - count, rank))


def numbers(op: Op) -> Answer:
    """Windows and filter banks are made of sizes alone."""
    return op.nothing()


_MADE = ("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")

RULES: tuple[Rule, ...] = (
    Rule("DFT", fourier),
    Rule("DFT", fourier_by_input, since=20),
    Rule("STFT", short_time_fourier),
    Rule("Rfft", last_axes_fourier, domain="com.microsoft"),
    Rule("Irfft", last_axes_fourier, domain="com.microsoft"),
    *(Rule(name, numbers) for name in _MADE),
)
