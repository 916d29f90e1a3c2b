"""Normalisations: per channel they are pointwise; over channels they mix what they read.

BatchNormalization and InstanceNormalization: y[c] = s[c] · (x[c] − μ[c]) / σ[c] + b[c].

Channels that a LayerNormalization and its kin take statistics over are held, unless they were opened on request:
statistics are then over the kept channels. The mean of channels that is no part of a normalisation stays one over as
many as before, those that went being zero.
"""

from collections.abc import Collection, Iterable

import numpy as np

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.spatial import reduced_axes
from onnxprune.ops.trace import Formula

__all__ = [
    "RULES",
    "across_channels",
    "along_axis",
    "batch",
    "group",
    "instance",
    "layer",
    "mean_variance",
    "reduce_mean",
    "root_mean_square",
    "skip_layer",
    "softmax",
]


def batch(op: Op) -> Answer:
    """Scale, shift and statistics of channel c act on channel c; in training, statistics are over all other axes."""
    if len(op.shape(0)) < 2:
        return op.same()
    if op.attribute("training_mode", 0) or any(op.has_output(place) for place in range(1, len(op.node.output))):
        op.hold(0, [0, *range(2, len(op.shape(0)))], Purpose.NORMALIZED)
    if op.version < 9 and not op.attribute("spatial", 1):  # parameters per position, not per channel alone
        op.hold(0, range(2, len(op.shape(0))))
    for place in op.inputs[1:]:
        op.tie_axes((0, 1), (place, 0))
    statistics = op.labels(1).bundles if op.has(1) else ()
    more = [op.out(op.nothing(place).shape, statistics) for place in range(1, len(op.node.output))]
    return [op.same(), *more]


def instance(op: Op) -> Answer:
    """Scale and shift of channel c act on channel c; statistics are over positions."""
    axes = range(2, len(op.shape(0)))
    if _is_open(op, axes):
        op.average(Formula.STANDARD, axes, per_channel=True)
    else:
        op.hold(0, axes, Purpose.NORMALIZED)
    for place in op.inputs[1:]:
        op.tie_axes((0, 1), (place, 0))
    return op.same()


def _mixing(op: Op, axes: Iterable[int], purpose: Purpose) -> None:
    op.hold(0, axes, purpose)
    for place in op.inputs[1:]:
        op.trace.pin_all(op.labels(place), purpose, op.site)


def _is_open(op: Op, axes: Collection[int]) -> bool:
    """Tell whether statistics over these axes may be taken over what is kept: no bundle reaches beyond them."""
    touched = [bundle for bundle in op.labels(0).bundles if set(bundle.axes) & set(axes)]
    return op.trace.opened.normalized and all(set(bundle.axes) <= set(axes) for bundle in touched)


def _layer(op: Op, formula: Formula) -> Answer:
    rank = len(op.shape(0))
    axes = range(op.attribute("axis", -1) % rank, rank)
    more = [op.nothing(place) for place in range(1, len(op.node.output))]
    if _is_open(op, axes) and not any(map(op.has_output, range(1, len(op.node.output)))):
        op.average(formula, axes)
        return [op.broadcast(op.inputs, op.shape(0)), *more]
    _mixing(op, axes, Purpose.NORMALIZED)
    return [op.same(), *more]


def layer(op: Op) -> Answer:
    """LayerNormalization: mean and variance over the axes from `axis` on."""
    return _layer(op, Formula.STANDARD)


def root_mean_square(op: Op) -> Answer:
    """RMSNormalization, SimplifiedLayerNormalization: the mean square over the axes from `axis` on."""
    return _layer(op, Formula.ROOT_MEAN_SQUARE)


def reduce_mean(op: Op) -> Answer:
    """y = mean of x over `axes`."""
    axes = reduced_axes(op)
    rank = len(op.shape(0))
    if axes is None:
        return op.unknown()
    normalises = op.normalises(axes)
    if normalises and not _is_open(op, axes):
        op.hold(0, axes, Purpose.NORMALIZED)
    for axis in axes:
        bundle = op.labels(0).bundle_at(axis)
        if bundle is not None and not set(bundle.axes) <= set(axes):
            op.hold(0, [axis], Purpose.MIXED)
    op.average(Formula.MEAN, axes, exact=not normalises)
    for bundle in op.labels(0).bundles:
        if set(bundle.axes) <= set(axes):
            op.read_at(0, bundle.axes, bundle.array)
            op.drop(0, bundle.axes[0])
    stay = [axis for axis in range(rank) if axis not in axes]
    keep = op.attribute("keepdims", 1)
    return op.carry(0, {axis: axis if keep else place for place, axis in enumerate(stay)})


def skip_layer(op: Op) -> Answer:
    """SkipLayerNormalization of com.microsoft: the sum of two inputs is normalised over the last axis."""
    for place in op.inputs:
        op.trace.pin_all(op.labels(place), Purpose.NORMALIZED, op.site)
    return [op.nothing(place) for place in range(len(op.node.output))]


def group(op: Op) -> Answer:
    """GroupNormalization: statistics over the channels of a group, so that only whole groups go."""
    count = op.attribute("num_groups")
    op.hold(0, range(2, len(op.shape(0))), Purpose.NORMALIZED)
    channels = op.axis(0, 1)
    if count == 1 and _is_open(op, range(1, len(op.shape(0)))):
        op.average(Formula.STANDARD, range(1, len(op.shape(0))), per_channel=True)
        for place in (1, 2):
            if op.shape(place) != (1,):
                op.tie_axes((0, 1), (place, 0))
        return op.same()
    if channels is None or count == 1:
        _mixing(op, range(1, 2), Purpose.NORMALIZED)
        return op.same()
    rows = channels.reshape(count, -1)
    op.trace.tie(np.repeat(rows[:, :1], rows.shape[1], axis=1), rows)
    for place in (1, 2):
        op.tie(op.axis(place, 0), channels if op.shape(place) == channels.shape else rows[:, 0])
    op.spell("num_groups", lambda kept: np.array(kept.count(rows[:, 0]), dtype=np.int64), [channels])
    return op.same()


def softmax(op: Op) -> Answer:
    """Softmax, LogSoftmax, Hardmax along one axis; before opset 13 over all axes from `axis` on."""
    rank = len(op.shape(0))
    if op.version < 13:
        start = op.attribute("axis", 1) % rank
        op.hold(0, range(start, rank), Purpose.MIXED)
    else:
        op.hold(0, [op.attribute("axis", -1) % rank], Purpose.MIXED)
    return op.same()


def across_channels(op: Op) -> Answer:
    """LRN: a channel depends on its neighbours."""
    op.hold(0, [1], Purpose.MIXED)
    return op.same()


def mean_variance(op: Op) -> Answer:
    """MeanVarianceNormalization over `axes`."""
    rank = len(op.shape(0))
    op.hold(0, [axis % rank for axis in op.attribute("axes", [0, 2, 3])], Purpose.NORMALIZED)
    return op.same()


def along_axis(op: Op) -> Answer:
    """LpNormalization: x / ‖x‖ along one axis, a sum to which a removed position adds nothing."""
    axis = op.axis_of(0, op.attribute("axis", -1))
    array = op.cut(0, axis)
    if array is not None:
        op.read_at(0, (axis,), array)
    return op.same()


RULES: tuple[Rule, ...] = (
    Rule("BatchNormalization", batch),
    Rule("InstanceNormalization", instance),
    Rule("LayerNormalization", layer),
    Rule("RMSNormalization", root_mean_square),
    Rule("SimplifiedLayerNormalization", root_mean_square),
    Rule("ReduceMean", reduce_mean),
    Rule("SkipLayerNormalization", skip_layer, domain="com.microsoft"),
    Rule("GroupNormalization", group),
    Rule("Softmax", softmax),
    Rule("LogSoftmax", softmax),
    Rule("Hardmax", softmax),
    Rule("LRN", across_channels),
    Rule("MeanVarianceNormalization", mean_variance),
    Rule("LpNormalization", along_axis),
)
