"""Operators over spatial positions: pooling, reductions, resizing, and channels turned into positions and back."""

import numpy as np

from onnxprune.ops.labels import Bundle, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.shapes.fold import Known

__all__ = [
    "RULES",
    "arg_reduce",
    "center",
    "columns_to_image",
    "cumulative",
    "depth_to_space",
    "pool",
    "reduce_exact",
    "reduce_other",
    "reduced_axes",
    "resize",
    "space_to_depth",
    "top_k",
    "unpool",
]


def pool(op: Op) -> Answer:
    """Batch and channel axes stay, spatial ones are pooled; indices of maxima count channels.

    Where indices are for MaxUnpool alone, they count the channels that are left.
    """
    paired = op.is_only_for(1, "MaxUnpool")
    if op.has_output(1) and not paired:
        op.hold(0, [1], Purpose.MIXED)
    labels = op.carry(0, {0: 0, 1: 1})
    more = [op.nothing(place) for place in range(1, len(op.node.output))]
    return [labels, *(op.out(item.shape, labels.bundles, labels.fixed) if paired else item for item in more)]


def unpool(op: Op) -> Answer:
    """MaxUnpool: maxima go back to where they were, by numbers that count the elements of what MaxPool saw."""
    for place in (0, 1):
        op.hold(place, [0])
        if not _is_as_pooled(op):
            op.hold(place, [1], Purpose.MIXED)
    labels = op.merge([(0, {1: 1}), (1, {1: 1})], op.out_shape())
    if not op.has(2):
        return labels
    if op.known(2, partly=True) is None:
        for place in (0, 1):
            op.hold(place, [1], Purpose.RUNTIME)
        return op.nothing()
    return op.spell_sizes(2, labels, range(len(labels.shape)))


def _is_as_pooled(op: Op) -> bool:
    """Tell whether planes are as large as those that MaxPool saw, at any size of the input."""
    source, known = op.maker(1), op.known(2, partly=True)
    if source is None or source.node.op_type != "MaxPool" or source.shape(0) != op.out_shape():
        return False
    seen, made = source.node.input[0], op.node.output[0]
    copied = set() if known is None else {size for sizes in known.sources[2:] for size in sizes}
    return all(
        (op.is_static((seen, axis)) and op.is_static((made, axis))) or (seen, axis) in copied
        for axis in range(2, len(op.out_shape()))
    )


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
        if contracts and bundle is not None and set(bundle.axes) <= set(axes):
            op.read_at(0, bundle.axes, bundle.array)
            op.drop(0, axis)
        elif contracts and op.cut(0, axis) is not None:
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
    return [op.out(op.nothing(place).shape, labels.bundles, labels.fixed) for place in range(2)]


def cumulative(op: Op) -> Answer:
    """CumSum along an axis given as input."""
    known = op.known(1)
    rank = len(op.shape(0))
    axes = range(rank) if known is None else [int(known.value.item()) % rank]
    op.hold(0, axes, Purpose.MIXED)
    return op.same()


def _scaled_axes(op: Op) -> set[int]:
    """Axes that Resize or Upsample scales, by whatever number."""
    rank, later = len(op.shape(0)), op.node.op_type == "Resize" and op.version >= 11
    axes = [axis % rank for axis in op.attribute("axes", range(rank))]
    scaled = {axis for axis in axes if op.shape(0)[axis] != op.out_shape()[axis]}
    if later and op.attribute("coordinate_transformation_mode") in (b"tf_crop_and_resize", "tf_crop_and_resize"):
        scaled |= _cropped(op, axes)
    place = 2 if later else 1
    scales = op.attribute("scales")
    if scales is None and op.has(place) and 0 not in op.shape(place):
        known = op.known(place, partly=True)
        scales = [0.0] * len(axes) if known is None else known.value
    if scales is None:
        return scaled
    return scaled | {axis for axis, scale in zip(axes, scales, strict=True) if scale != 1}


def _cropped(op: Op, axes: list[int]) -> set[int]:
    """Axes of which Resize sees a part only, or more than there is."""
    region = op.known(1)
    if region is None:
        return set(axes)
    edges = zip(axes, *region.value.reshape(2, -1), strict=True)
    return {axis for axis, start, end in edges if (start, end) != (0, 1)}


def resize(op: Op) -> Answer:
    """Axes that are not scaled keep their labels; sizes given as numbers are spelled anew."""
    rank = len(op.shape(0))
    scaled = _scaled_axes(op)
    op.hold(0, scaled)
    labels = op.carry(0, {axis: axis for axis in range(rank) if axis not in scaled})
    if not op.has(3) or 0 in op.shape(3):
        return labels
    if op.known(3, partly=True) is None:
        return op.unknown()
    return op.spell_sizes(3, labels, [axis % rank for axis in op.attribute("axes", range(rank))])


def center(op: Op) -> Answer:
    """CenterCropPad: axes whose size does not change keep their labels."""
    rank = len(op.shape(0))
    axes = [axis % rank for axis in op.attribute("axes", range(rank))]
    if op.known(1, partly=True) is None:
        op.hold(0, axes, Purpose.RUNTIME)
    op.hold(0, [axis for axis in axes if op.shape(0)[axis] != op.out_shape()[axis]])
    labels = op.carry(0, {axis: axis for axis in range(rank)})
    return labels if op.known(1, partly=True) is None else op.spell_sizes(1, labels, axes)


def depth_to_space(op: Op) -> Answer:
    """Channels (b, b, C) or (C, b, b) become b×b positions: only whole C can go."""
    b = op.attribute("blocksize")
    last = op.attribute("mode", b"DCR") in (b"DCR", "DCR")
    return _blocks_to_space(op, b * b, last=last)


def columns_to_image(op: Op) -> Answer:
    """Col2Im: channels (C, blocks) become positions that overlap and are added up: only whole C can go."""
    block = op.known(2)
    return op.unknown() if block is None else _blocks_to_space(op, int(np.prod(block.value)), last=False)


def _blocks_to_space(op: Op, block: int, *, last: bool) -> Answer:
    """Channels (block, C) or (C, block) become C channels."""
    channels = op.axis(0, 1)
    carried = op.carry(0, {0: 0, 1: 1}, (*op.shape(0)[:2], *op.out_shape()[2:]))
    if channels is None:
        return op.out(op.out_shape(), carried.bundles, carried.fixed)
    count = len(channels) // block
    seen = Bundle((2, 1), channels.reshape(block, count)) if last else Bundle((1, 2), channels.reshape(count, block))
    single = op.trace.collapse(seen, [2])
    assert single is not None
    rest = tuple(bundle for bundle in carried.bundles if 1 not in bundle.axes)
    if count == 1:
        op.trace.pin(channels, op.positions)
    return op.out(op.out_shape(), (*rest, single) if count > 1 else rest, carried.fixed)


def space_to_depth(op: Op) -> Answer:
    """b×b positions become channels (b, b, C): each C occurs b² times."""
    b = op.attribute("blocksize")
    channels = op.axis(0, 1)
    carried = op.carry(0, {0: 0, 1: 1}, (op.shape(0)[0], op.shape(0)[1], 1, 1))
    if channels is None:
        return op.nothing()
    rest = tuple(bundle for bundle in carried.bundles if 1 not in bundle.axes)
    return op.out(op.out_shape(), (*rest, Bundle((1,), np.tile(channels, b * b))), carried.fixed)


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
    Rule("CumProd", cumulative),
    Rule("MaxUnpool", unpool),
    Rule("CenterCropPad", center),
    Rule("Col2Im", columns_to_image),
    Rule("DepthToSpace", depth_to_space),
    Rule("SpaceToDepth", space_to_depth),
)
