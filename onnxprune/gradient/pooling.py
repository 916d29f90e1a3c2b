"""Derivatives of pooling.

MaxPool: ȳ goes where its largest was        AveragePool: ȳ over the count, spread over its window
global: the same over all places
"""

import math

import numpy as np

from onnxprune.gradient.convolution import Window
from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES"]

_SAME = ("auto_pad", "ceil_mode", "count_include_pad")
_PADDED = ("SAME_UPPER", "SAME_LOWER")


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
    if any(op.attribute("pads", [])) or op.attribute("auto_pad", "NOTSET") in _PADDED or op.attribute("ceil_mode", 0):
        gradient = b.mul(gradient, *(_shares(op, window, number) for number in range(len(kernel))))
    else:
        gradient = b.div(gradient, float(math.prod(kernel)))
    channels = op.fixed(op.x, [1])[0]
    ones = b.constant(np.ones((channels, 1, *kernel)), b.types[gradient])
    return [window.spread(gradient, ones, channels)]


def _shares(op: Op, window: Window, number: int) -> str:
    """What each place that a window sees is worth there along an axis: the operator on the identity says it."""
    b, axis, pads = op.b, window.axes[number], op.attribute("pads", [0] * (2 * len(window.kernel)))
    size = b.size(op.x, axis)
    eye = b.op("EyeLike", b.op("Expand", b.constant(0.0, b.types[op.x]), b.concat([size, size])))
    own = {"pads": pads[number :: len(window.kernel)]} if op.attribute("auto_pad", "NOTSET") not in _PADDED else {}
    own |= {"kernel_shape": [window.kernel[number]], "strides": [window.strides[number]]}
    own |= {"dilations": [window.dilations[number]]} if window.dilations[number] > 1 else {}
    same = {name: value for name in _SAME if (value := op.attribute(name)) is not None}
    pooled = b.op("AveragePool", b.unsqueeze(eye, [1]), **own, **same)
    return b.unsqueeze(b.largest(pooled, [0, 1]), [*range(2, axis), *range(axis + 1, op.rank(op.x))])


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
