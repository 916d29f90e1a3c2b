"""Derivatives of convolutions, of any number of dimensions.

    y[o, p] = Σ W[o, i, k] x[i, s·p + d·k − pad]

    x̄ = ȳ spread by W again, a transposed convolution;  W̄[o, i, k] = Σ ȳ[o, p] x[i, s·p + d·k − pad]

The weights' gradient is one product of matrices for each offset k: a convolution with its axes exchanged, which would
be the same, runs many times slower. A transposed convolution has the two in exchanged roles.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES", "Window", "window_of"]


class Window:
    """Kernel, strides, dilations and padding of a node that goes over pictures, along each axis of these.

    Parameters
    ----------
    op : Op
    kernel : sequence of int
    source, result : str
        The tensor that the window goes over, and the one with a place for each window.
    """

    def __init__(self, op: Op, kernel: Sequence[int], source: str, result: str) -> None:
        self.op, self.source, self.result = op, source, result
        self.kernel = list(kernel)
        self.axes = range(2, 2 + len(self.kernel))
        one = [1] * len(self.kernel)
        self.strides = list(op.attribute("strides", one))
        self.dilations = list(op.attribute("dilations", one))
        self.reach = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        # Where it is rounded up, what is known of sizes counts windows that see nothing, too.
        known = op.is_fixed(source, self.axes) and op.is_fixed(result, self.axes)
        self.is_fixed = known and not op.attribute("ceil_mode", 0)
        self.begin, self.end = self._pads()

    def _pads(self) -> tuple[list[int], list[int]]:
        """Padding in front, and behind, as far as windows reach there where sizes are fixed."""
        count = len(self.kernel)
        auto = self.op.attribute("auto_pad", "NOTSET")
        pads = list(self.op.attribute("pads", [0] * (2 * count)))
        if auto in ("NOTSET", "VALID", "") and "output_shape" not in {a.name for a in self.op.node.attribute}:
            begin, end = (pads[:count], pads[count:]) if auto in ("NOTSET", "") else ([0] * count, [0] * count)
            return (begin, self._reached(begin)) if self.is_fixed else (begin, end)
        sizes, made = self.op.fixed(self.source, self.axes), self.op.fixed(self.result, self.axes)
        extra = list(self.op.attribute("output_padding", [0] * count))
        each = zip(made, self.strides, self.reach, sizes, extra, strict=True)
        total = [max((m - 1) * s + r + e - n, 0) for m, s, r, n, e in each]
        begin = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
        return begin, self._reached(begin)

    def _reached(self, begin: Sequence[int]) -> list[int]:
        sizes, made = ([self.op.sizes(name)[axis] for axis in self.axes] for name in (self.source, self.result))
        each = zip(made, self.strides, self.reach, sizes, begin, strict=True)
        return [(m - 1) * s + r - n - b for m, s, r, n, b in each]

    def spread(self, values: str, weight: str, group: int) -> str:
        """Sum of a kernel (M, N/group, …) at every window, weighted by values (n, M, …): what windows go over."""
        b = self.op.b
        same: dict[str, Any] = {"strides": self.strides, "dilations": self.dilations, "group": group}
        if self.is_fixed and min(self.begin) >= 0:
            extra = [max(-pad, 0) for pad in self.end]
            pads = [*self.begin, *(max(pad, 0) for pad in self.end)]
            return b.op("ConvTranspose", values, weight, pads=pads, output_padding=extra, **same)
        whole = b.op("ConvTranspose", values, weight, output_padding=[s - 1 for s in self.strides], **same)
        sizes = b.shape(self.source, 2)
        return b.slice(whole, b.ints(*self.begin), b.op("Add", sizes, b.ints(*self.begin)), self.axes)

    def seen(self, offset: Sequence[int], padded: str) -> str:
        """What the windows see at one offset: a place of the source for each place of the result."""
        b = self.op.b
        starts = [o * d for o, d in zip(offset, self.dilations, strict=True)]
        if not any(starts) and max(self.reach) == 1 and max(self.strides) == 1:
            return padded
        if self.is_fixed:
            made = [self.op.sizes(self.result)[axis] for axis in self.axes]
            each = zip(starts, made, self.strides, strict=True)
            ends = b.ints(*(start + (m - 1) * s + 1 for start, m, s in each))
        else:
            last = b.mul(b.op("Sub", b.shape(self.result, 2), b.ints(1)), b.ints(*self.strides))
            ends = b.add(last, b.ints(*(start + 1 for start in starts)))
        return b.slice(padded, b.ints(*starts), ends, self.axes, self.strides)

    def padded(self) -> str:
        """The source with zeros around it, as far as windows reach."""
        begin, end = self.begin, self.end if self.is_fixed else [max(pad, 0) for pad in self.end]
        if not any([*begin, *end]):
            return self.source
        return self.op.b.op("Pad", self.source, self.op.b.ints(0, 0, *begin, 0, 0, *end))


def window_of(op: Op, source: str, result: str) -> Window:
    """The window of a convolution's kernel."""
    sizes = op.sizes(op.reads(1))[2:]
    return Window(op, op.attribute("kernel_shape", list(sizes)), source, result)


def _kernel_gradient(window: Window, small: str, group: int) -> str:
    """Gradient of a kernel (M, N/group, …): windows' values (n, M, …) times what the windows see."""
    op, b = window.op, window.op.b
    weight = op.sizes(op.reads(1))
    rows, columns = weight[0] // group, weight[1]
    padded = window.padded()
    offsets = list(itertools.product(*map(range, window.kernel)))
    if rows == columns == 1:  # one channel from each
        axes = [0, *window.axes]
        parts = [b.reduce_sum(b.mul(small, window.seen(each, padded)), axes, keep=False) for each in offsets]
        return b.reshape(b.concat([b.unsqueeze(part, [1]) for part in parts], 1), weight)
    grouped = [0, group, rows, -1] if group > 1 else [0, rows, -1]
    values = b.reshape(small, grouped)
    grouped = [0, group, columns, -1] if group > 1 else [0, columns, -1]
    parts = []
    for each in offsets:
        seen = b.swapped(b.reshape(window.seen(each, padded), grouped), len(grouped))
        summed = b.reduce_sum(b.op("MatMul", values, seen), [0], keep=False)
        parts.append(b.reshape(summed, [group * rows, columns, 1]))
    return b.reshape(b.concat(parts, 2), weight)


def _bias(op: Op, gradient: str) -> Gradients:
    axes = [axis for axis in range(op.rank(op.y)) if axis != 1]
    return [op.b.reduce_sum(gradient, axes, keep=False) if op.wants(2) else None]


def _conv(op: Op, made: Gradients) -> Gradients:
    gradient, group = made[0], op.attribute("group", 1)
    assert gradient is not None
    window = window_of(op, op.x, op.y)
    return [
        window.spread(gradient, op.reads(1), group) if op.wants(0) else None,
        _kernel_gradient(window, gradient, group) if op.wants(1) else None,
        *_bias(op, gradient),
    ]


def _conv_transpose(op: Op, made: Gradients) -> Gradients:
    """Its result is what a convolution by the same kernel goes over, and its input what that makes."""
    gradient, group, b = made[0], op.attribute("group", 1), op.b
    assert gradient is not None
    window = window_of(op, op.y, op.x)
    window.source = gradient
    found = Gradients([None, None])
    if op.wants(0):
        strides, dilations = window.strides, window.dilations
        found[0] = b.op("Conv", window.padded(), op.reads(1), strides=strides, dilations=dilations, group=group)
    if op.wants(1):
        found[1] = _kernel_gradient(window, op.x, group)
    return [*found, *_bias(op, gradient)]


RULES: dict[tuple[str, str], Rule] = {("", "Conv"): _conv, ("", "ConvTranspose"): _conv_transpose}
