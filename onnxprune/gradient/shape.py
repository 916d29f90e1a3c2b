"""Derivatives of operators that only move numbers: ȳ goes back to where each came from.

What was cut out goes back between zeros, what was repeated is summed, what was gathered is added up at its places.
Interpolation along an axis is a matrix M, which the operator itself makes of the identity: x̄ = Mᵀȳ along it.
"""

import numpy as np
from onnx import TensorProto

from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES"]


def _reshape(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    return [op.b.like(made[0], op.x)]


def _transpose(op: Op, made: Gradients) -> Gradients:
    rank = op.rank(op.x)
    order = op.attribute("perm", list(range(rank))[::-1])
    assert made[0] is not None
    return [op.b.transpose(made[0], [int(axis) for axis in np.argsort(order)])]


def _concat(op: Op, made: Gradients) -> Gradients:
    axis, names, b = op.attribute("axis") % op.rank(op.y), list(op.node.input), op.b
    assert made[0] is not None
    if len(names) == 1:
        return [made[0]]
    sizes = b.concat([b.size(name, axis) for name in names])
    parts: Gradients = list(b.make("Split", [made[0], sizes], len(names), axis=axis))
    return [part if op.wants(place) else None for place, part in enumerate(parts)]


def _split(op: Op, made: Gradients) -> Gradients:
    axis, b = op.attribute("axis", 0) % op.rank(op.x), op.b
    parts = [b.zeros(name) if part is None else part for name, part in zip(op.node.output, made, strict=True)]
    return [b.concat(parts, axis)]


def _slice(op: Op, made: Gradients) -> Gradients:
    b, rank, gradient = op.b, op.rank(op.x), made[0]
    assert gradient is not None
    count = op.sizes(op.reads(1))[0]
    starts, ends = (b.cast(op.reads(place), TensorProto.INT64) for place in (1, 2))
    given = op.value(3) if op.reads(3) else np.arange(count)
    if given is None:
        raise op.refusal("its axes are computed", "store them")
    axes = [int(axis) % rank for axis in given.ravel()]
    stored = op.value(4) if op.reads(4) else np.ones(count)
    if stored is None:
        raise op.refusal("its steps are computed", "store them")
    strides = [int(step) for step in stored.ravel()]
    if all(step == 1 for step in strides):
        return [_between_zeros(op, gradient, axes, (starts, ends))]
    for number in reversed(range(count)):
        own = [b.op("Slice", part, b.ints(number), b.ints(number + 1)) for part in (starts, ends)]
        places = b.op("Slice", b.range(b.size(op.x, axes[number])), *own, b.ints(0), b.ints(strides[number]))
        before = (
            _before(
                op,
                gradient,
                axes[:number],
                [b.op("Slice", part, b.ints(0), b.ints(number)) for part in (starts, ends)],
                strides[:number],
            )
            if number
            else b.zeros(op.x)
        )
        gradient = b.scatter(before, _laid(op, places, axes[number], rank, gradient), gradient, axes[number])
    return [gradient]


def _before(op: Op, gradient: str, axes: list[int], bounds: list[str], steps: list[int]) -> str:
    """Zeros in the shape of what had been cut along the first axes only."""
    return op.b.slice(op.b.zeros(op.x), bounds[0], bounds[1], axes, steps)


def _laid(op: Op, places: str, axis: int, rank: int, other: str) -> str:
    """Places along an axis, repeated to the shape of another tensor."""
    laid = op.b.unsqueeze(places, [a for a in range(rank) if a != axis])
    return op.b.expand(laid, other)


def _between_zeros(op: Op, gradient: str, axes: list[int], bounds: tuple[str, str]) -> str:
    """What was cut out of the input along axes, without steps, in its old place."""
    b, rank = op.b, op.rank(op.x)
    begin, end = [b.ints(0)] * rank, [b.ints(0)] * rank
    for number, axis in enumerate(axes):
        own = [b.op("Slice", part, b.ints(number), b.ints(number + 1)) for part in bounds]
        size = b.size(op.x, axis)
        places = b.op("Slice", b.range(size), *own, b.ints(0))
        begin[axis] = b.op("ReduceMin", places, keepdims=1)
        taken = b.add(begin[axis], b.size(op.y, axis))
        end[axis] = b.sub(size, taken)
    return b.op("Pad", gradient, b.concat([*begin, *end]))


def _pad(op: Op, made: Gradients) -> Gradients:
    b, gradient, mode = op.b, made[0], op.attribute("mode", "constant")
    assert gradient is not None
    pads = _stored_pads(op) if op.reads(3) or mode != "constant" else []
    if mode == "constant":
        own = b.op("Pad", gradient, b.op("Neg", b.ints(*pads) if pads else op.reads(1)))
        around = b.sub(b.total(gradient), b.total(own)) if op.wants(2) else None
        return [own, None, None if around is None else b.like(around, op.reads(2))]
    rank = op.rank(op.x)
    for axis in range(rank):
        ends = [pads[axis], pads[axis + rank]]
        if any(ends):
            size = b.size(op.x, axis)
            places = b.op("Pad", b.range(size), b.ints(*ends), mode=mode)
            shape = b.concat([b.shape(op.x, 0, axis + 1), *([b.shape(gradient, axis + 1)] if axis + 1 < rank else [])])
            zeros = b.op("Expand", b.constant(0.0, b.types[gradient]), shape)
            gradient = b.scatter(zeros, _laid(op, places, axis, rank, gradient), gradient, axis)
    return [gradient]


def _stored_pads(op: Op) -> list[int]:
    """Sizes in front of all axes, then behind all."""
    rank = op.rank(op.x)
    value, axes = op.value(1), op.value(3) if op.reads(3) else np.arange(rank)
    if value is None or axes is None:
        raise op.refusal("its sizes are computed", "store them")
    whole = np.zeros((2, rank), dtype=np.int64)
    whole[:, axes.ravel()] = value.reshape(2, -1)
    return [int(size) for size in whole.ravel()]


def _expand(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    return [op.sum_to(made[0], op.y, op.x)]


def _tile(op: Op, made: Gradients) -> Gradients:
    b, rank = op.b, op.rank(op.x)
    assert made[0] is not None
    pairs = b.concat([b.unsqueeze(sizes, [1]) for sizes in (op.reads(1), b.shape(op.x))], 1)
    parted = b.reshape(made[0], b.reshape(pairs, [-1]))
    return [b.reduce_sum(parted, list(range(0, 2 * rank, 2)), keep=False)]


def _gather(op: Op, made: Gradients) -> Gradients:
    b, places = op.b, op.reads(1)
    rank, depth = op.rank(op.x), op.rank(places)
    axis = op.attribute("axis", 0) % rank
    assert made[0] is not None
    ends = [b.shape(op.x, 0, axis)] if axis else []
    rest = [b.shape(op.x, axis + 1)] if axis + 1 < rank else []
    flat = made[0] if depth == 1 else b.reshape(made[0], b.concat([*ends, b.ints(-1), *rest]))
    listed = b.reshape(places, [-1])
    return [b.scatter(b.zeros(op.x), _laid(op, listed, axis, rank, flat), flat, axis)]


def _gather_elements(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    axis = op.attribute("axis", 0) % op.rank(op.x)
    return [op.b.scatter(op.b.zeros(op.x), op.reads(1), made[0], axis)]


def _gather_nd(op: Op, made: Gradients) -> Gradients:
    if op.attribute("batch_dims", 0):
        raise op.refusal("it has batch_dims", "write it out")
    assert made[0] is not None
    return [op.b.op("ScatterND", op.b.zeros(op.x), op.reads(1), made[0], reduction="add")]


def _scatter_elements(op: Op, made: Gradients) -> Gradients:
    b, gradient, axis = op.b, made[0], op.attribute("axis", 0) % op.rank(op.x)
    assert gradient is not None
    if op.attribute("reduction", "none") not in ("none", "add"):
        raise op.refusal("it takes more than sums", "write it out")
    kept = op.attribute("reduction", "none") == "add"
    own = gradient if kept else b.op("ScatterElements", gradient, op.reads(1), b.zeros(op.reads(2)), axis=axis)
    return [own, None, b.op("GatherElements", gradient, op.reads(1), axis=axis) if op.wants(2) else None]


def _scatter_nd(op: Op, made: Gradients) -> Gradients:
    b, gradient = op.b, made[0]
    assert gradient is not None
    if op.attribute("reduction", "none") not in ("none", "add"):
        raise op.refusal("it takes more than sums", "write it out")
    kept = op.attribute("reduction", "none") == "add"
    own = gradient if kept else b.op("ScatterND", gradient, op.reads(1), b.zeros(op.reads(2)))
    return [own, None, b.op("GatherND", gradient, op.reads(1)) if op.wants(2) else None]


def _depth_to_space(op: Op, made: Gradients) -> Gradients:
    b, block = op.b, op.attribute("blocksize")
    assert made[0] is not None
    if op.attribute("mode", "DCR") == "DCR":
        return [b.op("SpaceToDepth", made[0], blocksize=block)]
    sizes = b.shape(op.x)
    high, wide = (b.op("Slice", sizes, b.ints(axis), b.ints(axis + 1)) for axis in (2, 3))
    parted = b.reshape(made[0], b.concat([b.ints(0, 0), high, b.ints(block), wide, b.ints(block)]))
    return [b.like(b.transpose(parted, [0, 1, 3, 5, 2, 4]), op.x)]


def _space_to_depth(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    return [op.b.op("DepthToSpace", made[0], blocksize=op.attribute("blocksize"))]


def _trilu(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    further = [name for name in op.node.input[1:] if name]
    return [op.b.op("Trilu", made[0], *further, upper=op.attribute("upper", 1))]


_PLACES, _CROPS = "coordinate_transformation_mode", "tf_crop_and_resize"
_RESIZE = ("antialias", _PLACES, "cubic_coeff_a", "exclude_outside", "mode", "nearest_mode")
"""Attributes that places are weighed by; what is put where there is none (extrapolation_value) is no weight."""


def _resize(op: Op, made: Gradients) -> Gradients:
    rank, gradient, b = op.rank(op.x), made[0], op.b
    assert gradient is not None
    if op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.refusal("it keeps the ratio of sides", "give it the sizes")
    given = op.attribute("axes")
    axes = list(range(rank)) if given is None else [int(axis) % rank for axis in given]
    for number, axis in enumerate(axes):
        if _is_kept(op, axis):
            continue
        matrix = _weights_along(op, axis, number, len(axes))
        order = [*(a for a in range(rank) if a != axis), axis]
        product = b.op("MatMul", b.transpose(gradient, order), b.transpose(matrix, [1, 0]))
        gradient = b.transpose(product, [int(a) for a in np.argsort(order)])
    return [gradient]


def _is_kept(op: Op, axis: int) -> bool:
    """Tell whether nothing happens along an axis, at any sizes; that a batch is not resized is assumed."""
    if op.sizes(op.x)[axis] != op.sizes(op.y)[axis] or op.attribute(_PLACES) == _CROPS:
        return False
    return axis == 0 or (op.is_fixed(op.x, [axis]) and op.is_fixed(op.y, [axis]))


def _weights_along(op: Op, axis: int, number: int, count: int) -> str:
    """What each place along an axis gives to each of the result: the operator on the identity, a picture per place."""
    b, size = op.b, op.b.size(op.x, axis)
    eye = b.op("EyeLike", b.op("Expand", b.constant(0.0, b.types[op.x]), b.concat([size, size])))
    pictures = b.reshape(eye, b.concat([b.ints(1), size, b.ints(1), size]))
    scaled = bool(op.reads(2)) and op.sizes(op.reads(2)) != (0,)
    own = b.op("Slice", op.reads(2 if scaled else 3), b.ints(number), b.ints(number + 1))
    one = b.constant([1.0], TensorProto.FLOAT)
    sizes = [one, one, one, own] if scaled else [b.ints(1), size, b.ints(1), own]
    same = {name: value for name in _RESIZE if (value := op.attribute(name)) is not None}
    part = ""
    if same.get(_PLACES) == _CROPS:
        ends = [b.op("Slice", op.reads(1), b.ints(place), b.ints(place + 1)) for place in (number, number + count)]
        kind = b.types[op.reads(1)]
        part = b.concat([b.constant([0.0] * 3, kind), ends[0], b.constant([1.0] * 3, kind), ends[1]])
    inputs = [pictures, part, b.concat(sizes)] if scaled else [pictures, part, "", b.concat(sizes)]
    return b.reshape(b.make("Resize", inputs, **same)[0], b.concat([size, b.ints(-1)]))


RULES: dict[tuple[str, str], Rule] = {
    **{("", name): _reshape for name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")},
    ("", "Transpose"): _transpose,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Slice"): _slice,
    ("", "Pad"): _pad,
    ("", "Expand"): _expand,
    ("", "Tile"): _tile,
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
    ("", "ScatterElements"): _scatter_elements,
    ("", "ScatterND"): _scatter_nd,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "SpaceToDepth"): _space_to_depth,
    ("", "Trilu"): _trilu,
    ("", "Resize"): _resize,
}
