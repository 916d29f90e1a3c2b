"""Operators on sequences of tensors, and on tensors that may be missing.

A sequence is labelled by the labels of its tensors. What is taken out of it by a known number goes on as it went in.
"""

from dataclasses import dataclass

import numpy as np

from onnxprune.ops.labels import Bundle, Labels, Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.select import own_axis
from onnxprune.shapes.sequences import part_sizes

__all__ = [
    "RULES",
    "Items",
    "counted",
    "held",
    "joined",
    "maybe",
    "sequence_at",
    "sequence_construct",
    "sequence_erase",
    "sequence_insert",
    "split_to_sequence",
]


@dataclass(frozen=True)
class Items(Labels):
    """Labels of a sequence, which has no axes of its own: those of its tensors, in order."""

    items: tuple[Labels, ...] = ()


def _sequence(op: Op, items: list[Labels]) -> Items:
    bundles = tuple(bundle for item in items for bundle in item.bundles)
    return Items((), bundles, op.positions, tuple(items))


def _items(op: Op) -> list[Labels] | None:
    """Labels of the tensors of sequence 0, None where it is not known what is in it."""
    labels = op.labels(0)
    return list(labels.items) if isinstance(labels, Items) else None


def _place(op: Op, place: int, count: int) -> int | None:
    """Position that an input names, the last of `count` where it is not given, None where it is not known."""
    if not op.has(place):
        return count - 1
    known = op.known(place)
    return None if known is None or not count else int(known.value.item()) % count


def held(op: Op) -> Answer:
    """Keep whatever is in a sequence: what is done with it depends on its order or is known only at run time."""
    for place in op.inputs:
        op.trace.pin_all(op.labels(place), Purpose.RUNTIME, op.site)
    return op.nothing()


def maybe(op: Op) -> Answer:
    """A tensor that may be missing, and one that is there."""
    return op.same()


def split_to_sequence(op: Op) -> Answer:
    """Parts of x along `axis`, as Split makes them."""
    axis = op.axis_of(0, op.attribute("axis", 0))
    known, total = op.known(1), op.shape(0)[axis]
    if op.has(1) and known is None:
        return held(op)
    if known is None:
        return _singles(op, axis, keep=bool(op.attribute("keepdims", 1)))
    if not op.is_static((op.node.input[0], axis)):
        op.hold(0, [axis], Purpose.RUNTIME)
    sizes = part_sizes(known.value, total)
    array, base = op.cut(0, axis), _others(op, axis)
    shapes = [(*base.shape[:axis], size, *base.shape[axis + 1 :]) for size in sizes]
    if array is None:
        return _sequence(op, [op.out(shape, base.bundles, base.fixed) for shape in shapes])
    parts = np.split(array, np.cumsum(sizes)[:-1])
    op.spell(1, lambda kept: np.array([kept.count(part) for part in parts], dtype=np.int64), [array])
    made = zip(shapes, parts, strict=True)
    return _sequence(op, [op.out(shape, base.bundles + own_axis(op, axis, part)) for shape, part in made])


def _others(op: Op, axis: int) -> Labels:
    """Labels of the axes that all parts have."""
    op.drop(0, axis)
    shape = op.shape(0)
    return op.carry(0, {other: other for other in range(len(shape)) if other != axis}, shape)


def _singles(op: Op, axis: int, *, keep: bool) -> Answer:
    """Every position makes a tensor of its own: none can go."""
    shape = op.shape(0)
    others = [other for other in range(len(shape)) if other != axis]
    places = {other: other if keep else place for place, other in enumerate(others)}
    one = (1,) if keep else ()
    item = op.carry(0, places, (*shape[:axis], *one, *shape[axis + 1 :]))
    return _sequence(op, [item] * shape[axis])


def sequence_construct(op: Op) -> Answer:
    """A sequence of tensors."""
    return _sequence(op, [op.labels(place) for place in op.inputs])


def sequence_at(op: Op) -> Answer:
    """One tensor of a sequence."""
    items = _items(op)
    place = None if items is None else _place(op, 1, len(items))
    return held(op) if items is None or place is None else items[place]


def sequence_insert(op: Op) -> Answer:
    """A tensor put before a position, by default behind the last."""
    items = _items(op)
    place = None if items is None else _place(op, 2, len(items) + 1)
    if items is None or place is None:
        return held(op)
    return _sequence(op, [*items[:place], op.labels(1), *items[place:]])


def sequence_erase(op: Op) -> Answer:
    """A tensor taken away, by default the last."""
    items = _items(op)
    place = None if items is None else _place(op, 1, len(items))
    return held(op) if items is None or place is None else _sequence(op, items[:place] + items[place + 1 :])


def counted(op: Op) -> Answer:
    """SequenceLength, OptionalHasElement: whatever is in there does not matter."""
    return op.nothing()


def joined(op: Op) -> Answer:
    """ConcatFromSequence: tensors one beside the other, or stacked along a new axis."""
    items, stacked = _items(op), bool(op.attribute("new_axis", 0))
    shape = op.out_shape()
    axis = op.attribute("axis") % max(len(shape), 1)
    along = [None if stacked else item.bundle_at(axis) for item in items or ()]
    pairs = list(zip(along, items or (), strict=True))
    rest = [{bundle.axes: bundle.array for bundle in item.bundles if bundle is not own} for own, item in pairs]
    alike = all(arrays.keys() == rest[0].keys() for arrays in rest)
    if not items or not alike or any(bundle is not None and len(bundle.axes) > 1 for bundle in along):
        return held(op)
    for arrays in rest[1:]:
        for axes, array in arrays.items():
            op.tie(rest[0][axes], array)
    bundles = [Bundle(tuple(a + (stacked and a >= axis) for a in axes), array) for axes, array in rest[0].items()]
    if any(bundle is not None for bundle in along):
        own = [op.frozen(item.shape[axis], item.fixed) if bundle is None else bundle.array for bundle, item in pairs]
        bundles.append(Bundle((axis,), np.concatenate(own)))
    return op.out(shape, bundles)


RULES: tuple[Rule, ...] = (
    Rule("SplitToSequence", split_to_sequence),
    Rule("SequenceConstruct", sequence_construct),
    Rule("SequenceEmpty", sequence_construct),
    Rule("SequenceAt", sequence_at),
    Rule("SequenceInsert", sequence_insert),
    Rule("SequenceErase", sequence_erase),
    Rule("SequenceLength", counted),
    Rule("ConcatFromSequence", joined),
    Rule("Optional", maybe),
    Rule("OptionalGetElement", maybe),
    Rule("OptionalHasElement", counted),
)
