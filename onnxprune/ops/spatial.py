"""Operators over spatial positions: pooling, reductions, resizing, and channels turned into positions and back."""

import numpy as np

from onnxprune.graph.fold import Known
from onnxprune.ops.labels import Bundle, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = [
    "RULES",
    "arg_reduce",
    "cumulative",
    "depth_to_space",
    "pool",
    "reduce_exact",
    "reduce_other",
    "reduced_axes",
    "resize",
    "space_to_depth",
    "top_k",
]


def pool(op: Op) -> Answer:
    """Batch and channel axes stay, spatial ones are pooled; indices of maxima count channels."""
    if op.has_output(1):
        op.hold(0, [1], Purpose.MIXED)
    labels = op.carry(0, {0: 0, 1: 1})
    return [labels, *(op.nothing(place) for place in range(1, len(op.node.output)))]


def reduced_axes(op: Op) -> list[int] | None:
    """Return the axes of a Reduce operator, None where they are known only at run time."""
    rank = len(op.shape(0))
    if op.has(1):
        known: Known | None = op.known(1)
        if known is None:
            return None
        axes = [int(axis) for axis in known.value]
    else:
        axes = list(op.attribute("axes", []))
    if not axes:
        return [] if op.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


def _reduce(op: Op, *, contracts: bool) -> Labels:
    axes = reduced_axes(op)
    rank = len(op.shape(0))
    if axes is None:
        return op.unknown()
    for axis in axes:
        bundle = op.labels(0).bundle_at(axis)
        if contracts and bundle is not None and len(bundle.axes) == 1:
            op.read(0, axis)
        else:
            op.hold(0, [axis], Purpose.MIXED)
    stay = [axis for axis in range(rank) if axis not in axes]
    keep = op.attribute("keepdims", 1)
    return op.carry(0, {axis: axis if keep else place for place, axis in enumerate(stay)})


def reduce_exact(op: Op) -> Answer:
    """Sums: a removed channel counts as zero."""
    return _reduce(op, contracts=True)


def reduce_other(op: Op) -> Answer:
    """Extrema, products: removing a channel is not the same as a zero."""
    return _reduce(op, contracts=False)


def arg_reduce(op: Op) -> Answer:
    """ArgMax, ArgMin: the answer is a position along the axis."""
    rank = len(op.shape(0))
    axis = op.attribute("axis", 0) % rank
    op.hold(0, [axis], Purpose.MIXED)
    keep = op.attribute("keepdims", 1)
    stay = [other for other in range(rank) if other != axis]
    return op.carry(0, {other: other if keep else place for place, other in enumerate(stay)})


def top_k(op: Op) -> Answer:
    """TopK sorts along its axis; the other axes stay."""
    op.hold(0, [op.attribute("axis", -1) % len(op.shape(0))], Purpose.MIXED)
    labels = op.same()
    return [op.out(op.nothing(place).shape, labels.bundles) for place in range(2)]


def cumulative(op: Op) -> Answer:
    """CumSum along an axis given as input."""
    known = op.known(1)
    rank = len(op.shape(0))
    axes = range(rank) if known is None else [int(known.value.item()) % rank]
    op.hold(0, axes, Purpose.MIXED)
    return op.same()


def resize(op: Op) -> Answer:
    """Axes whose size does not change keep their labels; sizes given as numbers are spelled anew."""
    before, after = op.shape(0), op.out_shape()
    stay = [axis for axis, (old, new) in enumerate(zip(before, after, strict=True)) if old == new]
    op.hold(0, [axis for axis in range(len(before)) if axis not in stay])
    labels = op.carry(0, {axis: axis for axis in stay})
    if not op.has(3):
        return labels
    if op.known(3, partly=True) is None:
        return op.unknown()
    return op.spell_sizes(3, labels, [axis % len(before) for axis in op.attribute("axes", range(len(before)))])


def depth_to_space(op: Op) -> Answer:
    """Channels (b, b, C) or (C, b, b) become b×b positions: only whole C can go."""
    b = op.attribute("blocksize")
    channels = op.axis(0, 1)
    carried = op.carry(0, {0: 0, 1: 1}, (op.shape(0)[0], op.shape(0)[1], 1, 1))
    if channels is None:
        return op.nothing()
    count = len(channels) // (b * b)
    last = op.attribute("mode", b"DCR") in (b"DCR", "DCR")
    shape, axes = ((b, b, count), (2, 3, 1)) if last else ((count, b, b), (1, 2, 3))
    single = op.trace.collapse(Bundle(axes, channels.reshape(shape)), [2, 3])
    assert single is not None
    rest = tuple(bundle for bundle in carried.bundles if 1 not in bundle.axes)
    own = (single,) if count > 1 else ()
    if count == 1:
        op.trace.pin(channels, op.positions)
    return op.out(op.out_shape(), rest + own)


def space_to_depth(op: Op) -> Answer:
    """b×b positions become channels (b, b, C): each C occurs b² times."""
    b = op.attribute("blocksize")
    channels = op.axis(0, 1)
    carried = op.carry(0, {0: 0, 1: 1}, (op.shape(0)[0], op.shape(0)[1], 1, 1))
    if channels is None:
        return op.nothing()
    rest = tuple(bundle for bundle in carried.bundles if 1 not in bundle.axes)
    return op.out(op.out_shape(), (*rest, Bundle((1,), np.tile(channels, b * b))))


_POOLS = ["AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
_EXACT = ["ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"]
_OTHER = ["ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"]

RULES: tuple[Rule, ...] = (
    *(Rule(name, pool) for name in _POOLS),
    *(Rule(name, reduce_exact) for name in _EXACT),
    *(Rule(name, reduce_other) for name in _OTHER),
    Rule("ArgMax", arg_reduce),
    Rule("ArgMin", arg_reduce),
    Rule("TopK", top_k),
    Rule("CumSum", cumulative),
    Rule("Resize", resize),
    Rule("Upsample", resize),
    Rule("DepthToSpace", depth_to_space),
    Rule("SpaceToDepth", space_to_depth),
)
