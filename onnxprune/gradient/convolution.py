"""Derivatives of convolutions, of any number of dimensions.

    y[o, p] = Σ W[o, i, k] x[i, s·p + d·k − pad]

    x̄ = ȳ spread by W again, a transposed convolution;  W̄[o, i, k] = Σ ȳ[o, p] x[i, s·p + d·k − pad]

With stride one x̄ is a convolution, too, by W turned round, which runs faster. The weights' gradient is told in one of
four ways, by what is faster on a processor:

    few channels, far apart          the convolution that it is, of x by ȳ, samples and channels having changed places
    one channel each                 Σ ȳ x, for each offset k
    more channels than places        one product of matrices over all samples and places, offsets side by side
    else                             one for each sample and each offset, which then are summed

A transposed convolution has x and y in exchanged roles.
"""

import itertools
import math
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
        b, ends = self.op.b, [*self.begin, *self.end]
        turned = [r - 1 - pad for r, pad in zip(self.reach * 2, ends, strict=True)]
        if max(self.strides) == 1 and min(turned) >= 0 and weight in self.op.index.constants:
            return b.op("Conv", values, self._turned(weight, group), pads=turned, dilations=self.dilations, group=group)
        same: dict[str, Any] = {"strides": self.strides, "dilations": self.dilations, "group": group}
        lacking = [begin - end for begin, end in zip(self.begin, self.end, strict=True)]
        alike = all(size < stride for size, stride in zip(lacking, self.strides, strict=True))
        if self.is_fixed and min(self.begin) >= 0 and alike:
            # Both sides alike, and what is too much cut off: CUDA has no other ones.
            extra = [max(size, 0) for size in lacking]
            found = b.op("ConvTranspose", values, weight, pads=self.begin * 2, output_padding=extra, **same)
            if min(lacking) >= 0:
                return found
            return b.slice(found, b.ints(*[0] * len(extra)), b.ints(*self.op.fixed(self.source, self.axes)), self.axes)
        whole = b.op("ConvTranspose", values, weight, output_padding=[s - 1 for s in self.strides], **same)
        sizes = b.shape(self.source, 2)
        return b.slice(whole, b.ints(*self.begin), b.op("Add", sizes, b.ints(*self.begin)), self.axes)

    def _turned(self, weight: str, group: int) -> str:
        """A kernel (M, N/group, …) from behind, that makes of M channels N."""
        b, (made, columns, *_), count = self.op.b, self.op.sizes(weight), len(self.kernel)
        grouped = b.reshape(weight, [group, made // group, columns, *self.kernel])
        exchanged = b.transpose(grouped, [0, 2, 1, *range(3, 3 + count)])
        laid = b.reshape(exchanged, [group * columns, made // group, *self.kernel])
        if max(self.kernel) == 1:
            return laid
        return b.slice(laid, b.ints(*[-1] * count), b.ints(*[-1 - k for k in self.kernel]), self.axes, [-1] * count)

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

    def offsets(self) -> list[tuple[int, ...]]:
        """All places of the kernel, in order."""
        return list(itertools.product(*map(range, self.kernel)))

    def padded(self, source: str) -> str:
        """What windows go over with zeros around it, as far as they reach."""
        begin, end = self.begin, self.end if self.is_fixed else [max(pad, 0) for pad in self.end]
        if not any([*begin, *end]):
            return source
        return self.op.b.op("Pad", source, self.op.b.ints(0, 0, *begin, 0, 0, *end))


def window_of(op: Op, source: str, result: str) -> Window:
    """The window of a convolution's kernel."""
    sizes = op.sizes(op.reads(1))[2:]
    return Window(op, op.attribute("kernel_shape", list(sizes)), source, result)


def _kernel_gradient(window: Window, small: str, group: int) -> str:
    """Gradient of a kernel (M, N/group, …): windows' values (n, M, …) times what the windows see."""
    made, columns, *kernel = window.op.sizes(window.op.reads(1))
    rows, places = made // group, math.prod(window.op.sizes(window.result)[2:])
    is_apart = rows > columns or max(window.strides) > 1
    if math.prod(kernel) > columns and is_apart and min(window.begin) >= 0:
        return _exchanged(window, small, group, columns)
    if rows == columns == 1:
        return _one_by_one(window, small, made)
    if group == 1 and rows > places:
        return _over_all(window, small, [made, columns, *kernel])
    return _by_samples(window, small, group, [rows, columns])


def _exchanged(window: Window, small: str, group: int, columns: int) -> str:
    """A convolution of (N/group, group · n, …) by (M, n, …), whose strides and dilations change places, too."""
    b, source, axes = window.op.b, window.source, window.axes
    order = [1, 0, *axes]
    if group > 1:
        sizes = b.shape(source, 2)
        apart = b.reshape(source, b.concat([b.size(source, 0), b.ints(group, columns), sizes]))
        turned = b.transpose(apart, [2, 1, 0, *(axis + 1 for axis in axes)])
        source = b.reshape(turned, b.concat([b.ints(columns, -1), sizes]))
    else:
        source = b.transpose(source, order)
    pads = [*window.begin, *(max(pad, 0) for pad in window.end)]
    exchanged: dict[str, Any] = {"strides": window.dilations, "dilations": window.strides, "pads": pads}
    found = b.op("Conv", source, b.transpose(small, order), group=group, **exchanged)
    if not window.is_fixed or min(window.end) < 0:  # places that no window reaches
        found = b.slice(found, b.ints(*[0] * len(axes)), b.ints(*window.kernel), axes)
    return b.transpose(found, order)


def _one_by_one(window: Window, small: str, made: int) -> str:
    b, padded = window.op.b, window.padded(window.source)
    axes = [0, *window.axes]
    parts = [b.reduce_sum(b.mul(small, window.seen(each, padded)), axes, keep=False) for each in window.offsets()]
    return b.reshape(b.concat([b.unsqueeze(part, [1]) for part in parts], 1), [made, 1, *window.kernel])


def _over_all(window: Window, small: str, weight: Sequence[int]) -> str:
    b, order = window.op.b, [1, 0, *window.axes]
    padded = window.padded(b.transpose(window.source, order))
    parts = [b.reshape(window.seen(each, padded), [weight[1], 1, -1]) for each in window.offsets()]
    values = b.reshape(b.transpose(small, order), [weight[0], -1])
    seen = b.reshape(b.concat(parts, 1), [math.prod(weight[1:]), -1])
    return b.reshape(b.op("Gemm", values, seen, transB=1), weight)


def _by_samples(window: Window, small: str, group: int, block: Sequence[int]) -> str:
    b, (rows, columns) = window.op.b, block
    padded, lead = window.padded(window.source), [0, group] if group > 1 else [0]
    values, parts = b.reshape(small, [*lead, rows, -1]), []
    for each in window.offsets():
        seen = b.swapped(b.reshape(window.seen(each, padded), [*lead, columns, -1]), len(lead) + 2)
        summed = b.reduce_sum(b.op("MatMul", values, seen), [0], keep=False)
        parts.append(b.reshape(summed, [group * rows, columns, 1]))
    return b.reshape(b.concat(parts, 2), [group * rows, columns, *window.kernel])


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
        found[0] = b.op("Conv", window.padded(gradient), op.reads(1), strides=strides, dilations=dilations, group=group)
    if op.wants(1):
        found[1] = _kernel_gradient(window, op.x, group)
    return [*found, *_bias(op, gradient)]


RULES: dict[tuple[str, str], Rule] = {("", "Conv"): _conv, ("", "ConvTranspose"): _conv_transpose}
