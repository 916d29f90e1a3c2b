"""Conv and ConvTranspose: y[o] = Σ_i w[o, i] * x[i], in g groups that see only their own share of the channels.

A weight is seen as (g, O/g, I/g, …): its labels are one array over (g, O/g), the outputs, and one over (g, I/g), the
inputs. Equally many of each group have to stay. In a depthwise convolution a group is one input channel, which lives
and dies with its outputs.
"""

import math

import numpy as np

from onnxprune.ops.labels import Array, Bundle, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Role

__all__ = ["RULES", "conv", "conv_transpose", "convolve"]


def _finish(op: Op, outputs: Array | None, bias: int, alone: list[int]) -> Labels:
    """Label the outputs, tie the bias to them; the batch and spatial axes whose positions stay alone are handed on."""
    if op.has(bias):
        op.tie(op.axis(bias, 0), outputs, op.fixed(bias))
    op.hold(0, [axis for axis in range(2, len(op.shape(0))) if axis not in alone], Purpose.MIXED)
    carried = op.carry(0, {axis: axis for axis in (0, *alone)})
    own = () if outputs is None else (Bundle((1,), outputs),)
    mixed = op.fixed(0).purpose is Purpose.MIXED
    return op.out(op.out_shape(), carried.bundles + own, op.fixed(0) if mixed else None)


def _alone(op: Op) -> list[int]:
    """Spatial axes along which every position is convolved by itself: a window of one, not moved, nothing added."""
    rank = len(op.shape(0))
    strides, pads = op.attribute("strides", [1] * rank), op.attribute("pads", [0] * 2 * rank)
    return [
        axis
        for place, axis in enumerate(range(2, rank))
        if op.shape(1)[axis] == 1 and strides[place] == 1 and pads[place] == pads[place + len(pads) // 2] == 0
    ]


def _macs(op: Op, positions: int, inputs: Array | None, outputs: Array | None, group: int) -> None:
    kernel = math.prod(op.shape(1)[2:])
    factor = op.shape(0)[0] * positions * kernel / group
    factor *= 1 if inputs is not None else op.shape(0)[1]
    factor *= 1 if outputs is not None else op.out_shape()[1]
    op.macs(factor, inputs, outputs)


def conv(op: Op) -> Answer:
    """W is (O, I/g, kernel…)."""
    positions = math.prod(op.out_shape()[2:])
    return convolve(op, out_axis=0, in_axis=1, positions=positions, bias=2, alone=_alone(op))


def conv_transpose(op: Op) -> Answer:
    """W is (I, O/g, kernel…)."""
    return convolve(op, out_axis=1, in_axis=0, positions=math.prod(op.shape(0)[2:]), bias=2, alone=[])


def convolve(op: Op, *, out_axis: int, in_axis: int, positions: int, bias: int, alone: list[int]) -> Labels:
    """Any convolution: axes of its weight, positions that are multiplied, input of its bias, axes it leaves alone."""
    group = op.attribute("group", 1)
    channels, made = op.shape(0)[1], op.out_shape()[1]
    if group == 1:
        inputs = op.contract((0, 1), (1, in_axis))
        outputs = op.axis(1, out_axis)
    elif group == channels:
        inputs, outputs = None, _depthwise(op, out_axis, made // group)
    elif op.is_stored(1) or op.behind(1) is not None:
        inputs, outputs = _grouped(op, group, out_axis)
    elif op.is_constant(1):
        inputs, outputs = _grouped_alike(op, group, out_axis)
    else:
        op.trace.pin_all(op.labels(1), op.positions.purpose, op.site)
        op.hold(0, [1])
        inputs = outputs = None
    if op.is_constant(1):
        op.role(outputs, Role.WRITES)
    op.hold(1, range(2, len(op.shape(1))))
    _macs(op, positions, inputs, outputs, group)
    return _finish(op, outputs, bias, alone)


def _depthwise(op: Op, out_axis: int, multiplier: int) -> Array | None:
    """One input channel per group: w[c·m … c·m+m−1] live and die with x[c]."""
    channels, weights = op.axis(0, 1), op.axis(1, 0)
    op.hold(1, [1])
    op.drop(0, 1)
    if channels is None or weights is None:
        op.role(weights, Role.WRITES)
        op.tie(channels, weights, op.fixed(0 if channels is None else 1))
        return None
    op.spell("group", lambda kept: np.array(kept.count(channels), dtype=np.int64), [channels])
    if out_axis == 0:
        op.tie(np.repeat(channels, multiplier), weights)
        return weights
    op.tie(channels, weights)
    return np.repeat(weights, multiplier)


def _grouped(op: Op, group: int, out_axis: int) -> tuple[Array | None, Array | None]:
    """Grouped convolution: blocks of the weight are gathered group by group."""
    shape = op.shape(1)
    kernel = shape[2:]
    made, channels = op.out_shape()[1], op.shape(0)[1]
    per_out, per_in = made // group, channels // group
    if out_axis == 0:
        view = (group, per_out, per_in, *kernel)
        out_axes, in_axes = (0, 1), (0, 2)
    else:
        view = (group, per_in, per_out, *kernel)
        out_axes, in_axes = (0, 2), (0, 1)
    outputs, inputs = _seen(op, view, out_axes, in_axes)
    op.role(inputs, Role.READS)
    op.balance(outputs)
    op.balance(inputs)
    flat = inputs.ravel()
    op.tie(op.axis(0, 1), flat, op.fixed(0))
    op.read(0, 1)
    return flat, outputs.ravel()


def _seen(op: Op, view: tuple[int, ...], out_axes: tuple[int, ...], in_axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Labels of the outputs and inputs of a weight that is stored, or that is stored as integers, say."""
    behind = op.behind(1)
    if behind is None:
        outputs, inputs = op.view(1, view, [out_axes, in_axes])
        return outputs, inputs
    kernel = tuple(bundle for bundle in op.labels(1).bundles if min(bundle.axes) > 1)
    first, second = behind.view(view)
    op.relabel(1, Labels(op.shape(1), kernel, op.positions))
    return (first, second) if out_axes == (0, 1) else (second, first)


def _grouped_alike(op: Op, group: int, out_axis: int) -> tuple[Array | None, Array | None]:
    """Grouped convolution by a weight that is computed: along its second axis, all groups lose the same positions."""
    whole, part = op.axis(1, 0), op.axis(1, 1)
    if whole is not None:
        op.balance(whole.reshape(group, -1))
    tiled = None if part is None else np.tile(part, group)
    inputs, outputs = (tiled, whole) if out_axis == 0 else (whole, tiled)
    op.role(inputs, Role.READS)
    op.tie(op.axis(0, 1), inputs, op.fixed(0))
    op.read(0, 1)
    op.drop(1, 0)
    op.drop(1, 1)
    return inputs, outputs


RULES: tuple[Rule, ...] = (Rule("Conv", conv), Rule("ConvTranspose", conv_transpose))
