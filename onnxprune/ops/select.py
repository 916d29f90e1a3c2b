"""Operators that join and take positions: Concat, Split, Slice, Gather, Pad.

Labels are joined and taken along the same axis; the numbers that spell a position or a size are derived anew from what
is kept.
"""

from collections.abc import Callable

import numpy as np

from onnxprune.ops.labels import Array, Bundle, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Kept

__all__ = ["RULES", "concat", "gather", "own_axis", "pad", "slice_", "split"]


def concat(op: Op) -> Answer:
    """y = x₁ ‖ x₂ ‖ … along `axis`: an offset; positions along the other axes meet."""
    shape = op.out_shape()
    axis = op.attribute("axis", 1) % len(shape)
    rows = op.join_rows(axis)
    arrays: list[Array | None] = []
    for place in op.inputs:
        arrays.append(op.cut(place, axis, longest=shape[axis] // len(op.inputs)))
        op.drop(place, axis)
    rest = {other: other for other in range(len(shape)) if other != axis}
    joined = op.merge([(place, rest) for place in op.inputs], shape)
    if all(map(op.is_constant, op.inputs)):
        for other in rest:
            met = [op.labels(place).bundle_at(other) for place in op.inputs]
            op.trace.lay_beside([bundle.array for bundle in met if bundle is not None])
    if rows is not None:
        return op.out(shape, (*joined.bundles, rows), joined.fixed)
    if all(array is None for array in arrays):
        return joined
    whole = [
        array if array is not None else op.frozen(op.shape(place)[axis], op.fixed(place))
        for array, place in zip(arrays, op.inputs, strict=True)
    ]
    return op.out(shape, (*joined.bundles, Bundle((axis,), np.concatenate(whole))), joined.fixed)


def _others(op: Op, axis: int, shape: tuple[int, ...]) -> Labels:
    op.drop(0, axis)
    return op.carry(0, {other: other for other in range(len(shape)) if other != axis}, shape)


def split(op: Op) -> Answer:
    """Parts of x along `axis`, of given or equal sizes."""
    axis = op.axis_of(0, op.attribute("axis", 0))
    if op.has(1) and op.known(1) is None:
        op.hold(0, [axis], Purpose.RUNTIME)
    shapes = [op.out_shape(place) if name else () for place, name in enumerate(op.node.output)]
    sizes, equal = _split_sizes(op, axis)
    rows = op.rows(0, axis, np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]))
    if rows is not None:
        return [op.out(shape, part.bundles, part.fixed) for shape, part in zip(shapes, rows, strict=True)]
    array = op.cut(0, axis, longest=max(sizes))
    base = _others(op, axis, op.shape(0))
    if array is None:
        return [op.out(shape, base.bundles, base.fixed) for shape in shapes]
    parts = np.split(array, np.cumsum(sizes)[:-1])

    def counts(kept: Kept) -> Array | None:
        found = np.array([kept.count(part) for part in parts], dtype=np.int64)
        return None if equal and len(set(found.tolist())) == 1 else found

    op.spell(1 if op.version >= 13 else "split", counts, [array], instead="num_outputs")
    pairs = zip(shapes, parts, strict=True)
    return [op.out(shape, base.bundles + own_axis(op, axis, part), base.fixed) for shape, part in pairs]


def own_axis(op: Op, axis: int, taken: Array) -> tuple[Bundle, ...]:
    """Label an axis of what was taken, which cannot become empty."""
    op.section(taken)
    if len(taken) == 1:
        op.trace.pin(taken, op.positions)
    return (Bundle((axis,), taken),) if len(taken) > 1 else ()


def _split_sizes(op: Op, axis: int) -> tuple[list[int], bool]:
    """Sizes of the parts, and whether they are equal without being said."""
    total, count = op.shape(0)[axis], len(op.node.output)
    known = op.known(1) if op.version >= 13 else None
    given = op.attribute("split") if op.version < 13 else (None if known is None else known.value)
    if given is not None:
        return [int(size) for size in given], False
    each = -(-total // count)
    return [each] * (count - 1) + [total - each * (count - 1)], True


def _slice_input(op: Op, place: int, name: str, default: list[int] | None) -> list[int] | None:
    if op.version < 10:
        return list(op.attribute(name, default or [])) or default
    if not op.has(place):
        return default
    known = op.known(place)
    return None if known is None else [int(value) for value in known.value.reshape(-1)]


def slice_(op: Op) -> Answer:
    """Positions start, start + step, … before end, along some axes."""
    shape = op.shape(0)
    rank = len(shape)
    starts, ends = _slice_input(op, 1, "starts", None), _slice_input(op, 2, "ends", None)
    count = len(starts or ends or ())
    axes = _slice_input(op, 3, "axes", list(range(count)))
    steps = _slice_input(op, 4, "steps", [1] * count)
    if axes is None or steps is None or (count == 0 and (starts is None or ends is None)):
        return op.unknown()
    axes = [axis % rank for axis in axes]
    if starts is None or ends is None:
        op.hold(0, axes, Purpose.RUNTIME)
        return op.carry(0, {axis: axis for axis in range(rank) if axis not in axes})
    bounds = zip(axes, starts, ends, steps, strict=True)
    cuts = {axis: _bounds(start, end, step, shape[axis]) for axis, start, end, step in bounds}
    return _cut(op, cuts, axes)


def _bounds(start: int, end: int, step: int, size: int) -> slice:
    """Bounds in Python's sense: clamped, counted from the front, None for "down to the first"."""
    first, last, _ = slice(start, end, step).indices(size)
    if step > 0:
        return slice(first, max(first, last), step)
    return slice(first, last if last >= 0 else None, step)


def _cut(op: Op, cuts: dict[int, slice], order: list[int]) -> Answer:
    sizes = op.shape(0)
    whole = {axis for axis, cut in cuts.items() if cut == slice(0, sizes[axis], 1)}
    # Only an axis that is whole at any size of the input can be left out when the Slice becomes a Gather.
    parts = [axis for axis in cuts if axis not in whole or not op.is_static((op.node.input[0], axis))]
    before: dict[int, Array] = {}
    own: tuple[Bundle, ...] = ()
    for axis in (axis for axis in cuts if axis not in whole):
        taken = np.arange(sizes[axis])[cuts[axis]]
        rows = op.rows(0, axis, [taken])
        if rows is not None:
            op.relabel(0, rows[0])
            continue
        array = op.cut(0, axis, longest=len(taken))
        if array is None:
            continue
        if cuts[axis].step != 1 and parts != [axis]:
            op.hold(0, [axis])
            continue
        before[axis] = array
        op.drop(0, axis)
        own += own_axis(op, axis, array[cuts[axis]])
    _spell_slice(op, cuts, order, before)
    return op.out(op.out_shape(), op.labels(0).bundles + own, op.fixed(0))


def _spell_slice(op: Op, cuts: dict[int, slice], order: list[int], before: dict[int, Array]) -> None:
    if not before:
        return
    if any(cuts[axis].step != 1 for axis in before):
        ((axis, array),) = before.items()
        numbers = np.arange(len(array))[cuts[axis]]
        op.become_gather(axis, array, lambda kept: kept.ranks(array)[numbers[kept.of(array)[numbers]]])
        return
    entries = [place for place, axis in enumerate(order) if axis in before]

    def bound(*, last: bool) -> Callable[[Kept], Array]:
        def value(kept: Kept) -> Array:
            result = np.zeros(len(order), dtype=np.int64)
            for place in entries:
                cut, array = cuts[order[place]], before[order[place]]
                result[place] = kept.count(array[: cut.stop if last else cut.start])
            return result

        return value

    modern = op.version >= 10
    arrays = list(before.values())
    op.spell(1 if modern else "starts", bound(last=False), arrays, entries=entries)
    op.spell(2 if modern else "ends", bound(last=True), arrays, entries=entries)


def gather(op: Op) -> Answer:
    """y = positions `indices` of x along `axis`; the axes of the indices stand in its place."""
    shape, wanted = op.shape(0), op.shape(1)
    axis = op.attribute("axis", 0) % len(shape)
    known = op.known(1)
    grown = len(wanted)
    places = {other: other if other < axis else other + grown - 1 for other in range(len(shape)) if other != axis}
    rows = None
    if known is not None and known.constant and grown < 2:
        rows = op.rows(0, axis, [known.value.astype(np.int64).reshape(-1) % shape[axis]])
    if rows is not None:
        op.relabel(0, rows[0])
        return op.carry(0, places | ({axis: axis} if rows[0].bundle_at(axis) else {}))
    if known is not None and grown == 1:
        op.cut(0, axis, longest=wanted[0])
    bundle = op.labels(0).bundle_at(axis)
    spread = [place for place, size in enumerate(wanted) if size != 1]
    plain = known is not None and known.constant and not op.labels(1).bundles
    if bundle is None or known is None or not plain or len(spread) > 1 or len(bundle.axes) > 1:
        op.hold(0, [axis], Purpose.RUNTIME if known is None else Purpose.POSITION)
        return op.merge([(0, places), (1, {other: axis + other for other in range(grown)})], op.out_shape())
    array = bundle.array
    indices = known.value.astype(np.int64).reshape(-1) % len(array)
    op.drop(0, axis)
    carried = op.carry(0, places)
    own = own_axis(op, axis + sum(spread), array[indices])
    shaped = [-1 if place in spread else 1 for place in range(grown)]
    op.spell(1, lambda kept: kept.ranks(array)[indices[kept.of(array)[indices]]].reshape(shaped), [array])
    return op.out(op.out_shape(), carried.bundles + own, carried.fixed)


def pad(op: Op) -> Answer:
    """Positions added at both ends of the axes; those of a labelled axis can be made fewer."""
    rank = len(op.shape(0))
    named = op.known(3)
    if op.has(3) and named is None:
        return op.unknown()
    axes = list(range(rank)) if named is None else [int(axis) % rank for axis in named.value]
    written = op.attribute("pads", op.attribute("paddings"))
    known = op.known(1, partly=True) if written is None else None
    if known is not None:
        written = [int(amount) for amount in known.value.flat]
        loose = [not all(map(op.is_static, sizes)) for sizes in known.sources.ravel()]
        op.hold(0, [axis for k, axis in enumerate(axes) if any(loose[k :: len(axes)])], Purpose.RUNTIME)
    if written is None:
        return op.unknown()
    return _padded(op, {axis: (written[k], written[k + len(axes)]) for k, axis in enumerate(axes)}, axes)


def _padded(op: Op, pads: dict[int, tuple[int, int]], axes: list[int]) -> Answer:
    constant = op.attribute("mode", b"constant") in (b"constant", "constant")
    added: dict[int, tuple[Array, Array]] = {}
    own = []
    for axis, (before, after) in pads.items():
        if before == after == 0:
            continue
        array = op.cut(0, axis)
        if array is None or not constant or min(before, after) < 0:
            op.hold(0, [axis])
            continue
        op.drop(0, axis)
        added[axis] = op.generated(before), op.generated(after)
        own.append(Bundle((axis,), np.concatenate([added[axis][0], array, added[axis][1]])))
    _spell_pads(op, added, axes)
    return op.out(op.out_shape(), (*op.labels(0).bundles, *own), op.fixed(0))


def _spell_pads(op: Op, added: dict[int, tuple[Array, Array]], axes: list[int]) -> None:
    def value(kept: Kept) -> Array:
        sides = [added[axis][side] if axis in added else None for side in (0, 1) for axis in axes]
        return np.array([0 if side is None else kept.count(side) for side in sides], dtype=np.int64)

    if added:
        places = [k for k, axis in enumerate(axes) if axis in added]
        slot = next((name for name in ("pads", "paddings") if op.attribute(name) is not None), 1)
        arrays = [side for sides in added.values() for side in sides]
        op.spell(slot, value, arrays, entries=places + [k + len(axes) for k in places])


RULES: tuple[Rule, ...] = (
    Rule("Concat", concat),
    Rule("Split", split),
    Rule("Slice", slice_),
    Rule("Gather", gather),
    Rule("Pad", pad),
    Rule("Pad", pad, domain="com.microsoft"),
)
