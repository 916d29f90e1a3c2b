"""Derivatives of pooling.

MaxPool: ȳ goes where its largest was        AveragePool: ȳ over the count, spread over its window
global: the same over all places
"""

import math

import numpy as np

from onnxprune.gradient.convolution import Window
from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES"]


def _max_pool(op: Op, made: Gradients) -> Gradients:
    b, node = op.b, op.node
    assert made[0] is not None
    if op.attribute("storage_order", 0):
        raise op.refusal("its places are counted by columns", "leave storage_order out")
    if len(node.output) < 2 or not node.output[1]:
        del node.output[1:]
        node.output.append(b.fresh("Places"))
    flat = b.ints(-1)
    zeros = b.reshape(b.zeros(op.x), flat)
    spread = b.scatter(zeros, b.reshape(node.output[1], flat), b.reshape(made[0], flat), 0)
    return [b.like(spread, op.x)]


def _average_pool(op: Op, made: Gradients) -> Gradients:
    b, kernel, gradient = op.b, op.attribute("kernel_shape"), made[0]
    assert gradient is not None
    window = Window(op, kernel, op.x, op.y)
    if any(window.begin) or any(op.attribute("pads", [])) or max(window.end) > 0:
        gradient = b.div(gradient, b.constant(_counts(op, window), b.types[gradient]))
    else:
        gradient = b.div(gradient, float(math.prod(kernel)))
    channels = op.fixed(op.x, [1])[0]
    ones = b.constant(np.ones((channels, 1, *kernel)), b.types[gradient])
    return [window.spread(gradient, ones, channels)]


def _counts(op: Op, window: Window) -> np.ndarray:
    """How many places each window's mean is over, (…) along the axes of pictures."""
    sizes, made = op.fixed(op.x, window.axes), op.fixed(op.y, window.axes)
    pads = op.attribute("pads", [0] * (2 * len(sizes)))[len(sizes) :]
    if op.attribute("auto_pad", "NOTSET") not in ("NOTSET", ""):
        pads = [max(pad, 0) for pad in window.end]
    total = np.ones([1] * len(sizes))
    for axis, (size, count) in enumerate(zip(sizes, made, strict=True)):
        starts = np.arange(count)[:, None] * window.strides[axis] - window.begin[axis]
        places = starts + np.arange(window.kernel[axis]) * window.dilations[axis]
        low, high = (-window.begin[axis], size + pads[axis]) if op.attribute("count_include_pad", 0) else (0, size)
        along = ((places >= low) & (places < high)).sum(axis=1)
        total = total * along.reshape([-1 if other == axis else 1 for other in range(len(sizes))])
    return total


def _global_average(op: Op, made: Gradients) -> Gradients:
    b, axes = op.b, range(2, op.rank(op.x))
    assert made[0] is not None
    if op.is_fixed(op.x, axes):
        share = b.div(made[0], float(math.prod(op.fixed(op.x, axes))))
    else:
        share = b.div(made[0], b.cast(b.product(b.shape(op.x, 2)), b.types[made[0]]))
    return [b.expand(share, op.x)]


def _global_max(op: Op, made: Gradients) -> Gradients:
    b = op.b
    assert made[0] is not None
    truth = b.cast(b.compare("Equal", op.x, op.y), b.types[op.x])
    count = b.reduce_sum(truth, list(range(2, op.rank(op.x))), keep=True)
    return [b.mul(truth, b.div(made[0], count))]


RULES: dict[tuple[str, str], Rule] = {
    ("", "MaxPool"): _max_pool,
    ("", "AveragePool"): _average_pool,
    ("", "GlobalAveragePool"): _global_average,
    ("", "GlobalMaxPool"): _global_max,
}
