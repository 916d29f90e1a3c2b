"""Operators that take elements by number, or put them there: GatherElements, GatherND, Scatter and their kin.

Nothing goes along an axis whose positions are chosen at run time. Along all other axes, what is indexed, the numbers
and what is put there live and die together.
"""

from collections.abc import Iterable, Sequence

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.select import own_axis

__all__ = [
    "RULES",
    "compress",
    "gather_elements",
    "gather_nd",
    "nonzero",
    "one_hot",
    "reverse_sequence",
    "scatter_elements",
    "scatter_nd",
    "tensor_scatter",
    "unique",
]


def _align(op: Op, places: Sequence[int], axes: Iterable[int]) -> None:
    """Keep all positions of the axes along which these inputs are not sure to be of one size."""
    for axis in axes:
        sizes = {op.shape(place)[axis] for place in places}
        found = [(op.node.input[place], axis) for place in places]
        alike = all(map(op.is_static, found)) or all(map(op.is_batch, found))
        if len(sizes) > 1 or not alike:
            for place in places:
                op.hold(place, [axis])


def gather_elements(op: Op) -> Answer:
    """y[i, j] = x[index[i, j], j], where the axis is 0."""
    axis, rank = op.axis_of(0, op.attribute("axis", 0)), len(op.shape(0))
    others = {other: other for other in range(rank) if other != axis}
    op.label_numbers(1, others)
    op.hold(0, [axis], Purpose.RUNTIME)
    _align(op, (0, 1), others)
    return op.merge([(0, others), (1, {other: other for other in range(rank)})], op.out_shape())


def gather_nd(op: Op) -> Answer:
    """y[b, i, …] = x[b, index[b, i], …], with `batch_dims` axes b and one coordinate per axis that is indexed."""
    data, numbers = len(op.shape(0)), len(op.shape(1))
    batch = op.attribute("batch_dims", 0)
    indexed = batch + op.shape(1)[-1]
    op.label_numbers(1, range(batch))
    op.hold(0, range(batch, indexed), Purpose.RUNTIME)
    op.hold(1, [numbers - 1])
    _align(op, (0, 1), range(batch))
    rest = {axis: axis - indexed + numbers - 1 for axis in range(indexed, data)}
    parts = [(0, {axis: axis for axis in range(batch)} | rest), (1, {axis: axis for axis in range(numbers - 1)})]
    return op.merge(parts, op.out_shape())


def scatter_elements(op: Op) -> Answer:
    """y = x, but for y[index[i, j], j] = u[i, j] (or a sum, product, extremum with it), where the axis is 0."""
    axis, rank = op.axis_of(0, op.attribute("axis", 0)), len(op.shape(0))
    others = {other: other for other in range(rank) if other != axis}
    op.label_numbers(1, others)
    for place in range(3):
        op.hold(place, [axis], Purpose.RUNTIME)
    _align(op, (0, 1, 2), others)
    return op.merge([(place, others) for place in range(3)], op.out_shape())


def scatter_nd(op: Op) -> Answer:
    """y = x, but for y[index[i], …] = u[i, …], with one coordinate per axis that is indexed."""
    data, numbers = len(op.shape(0)), len(op.shape(1))
    indexed = op.shape(1)[-1]
    op.hold(0, range(indexed), Purpose.RUNTIME)
    op.hold(1, range(numbers))
    op.hold(2, range(numbers - 1), Purpose.RUNTIME)
    put = {axis - indexed + numbers - 1: axis for axis in range(indexed, data)}
    return op.merge([(0, {axis: axis for axis in range(indexed, data)}), (2, put)], op.out_shape())


def tensor_scatter(op: Op) -> Answer:
    """A part of a cache along `axis` is overwritten, from a position of its own for each of the batch."""
    rank = len(op.shape(0))
    axis = op.attribute("axis", -2) % rank
    others = {other: other for other in range(rank) if other != axis}
    for place in (0, 1):
        op.hold(place, [axis], Purpose.RUNTIME)
    _align(op, (0, 1), others)
    more = [(2, {0: 0})] if op.has(2) else []
    return op.merge([(0, others), (1, others), *more], op.out_shape())


def one_hot(op: Op) -> Answer:
    """A new axis, along which the position that a number names is marked."""
    rank = len(op.shape(0))
    axis = op.attribute("axis", -1) % (rank + 1)
    op.keep(1, 2)
    return op.carry(0, {other: other + (other >= axis) for other in range(rank)})


def compress(op: Op) -> Answer:
    """Positions along `axis` that a condition names; without an axis, elements of all."""
    if op.attribute("axis") is None:
        op.keep(1)
        return op.unknown()
    rank = len(op.shape(0))
    axis = op.axis_of(0, op.attribute("axis"))
    others = {other: other for other in range(rank) if other != axis}
    known, bundle = op.known(1), op.labels(0).bundle_at(axis)
    if bundle is None or known is None or not known.constant or len(bundle.axes) > 1:
        op.keep(1)
        op.hold(0, [axis], Purpose.RUNTIME)
        return op.carry(0, others)
    array, named = bundle.array, known.value
    op.drop(0, axis)
    op.spell(1, lambda kept: named[kept.of(array[: named.size])], [array])
    taken = own_axis(op, axis, array[: named.size][named])
    carried = op.carry(0, others)
    return op.out(op.out_shape(), carried.bundles + taken, carried.fixed)


def nonzero(op: Op) -> Answer:
    """Coordinates of the elements that are not zero."""
    return op.unknown()


def unique(op: Op) -> Answer:
    """Elements, or slices along `axis`, that differ; all of a slice is compared."""
    op.hold(0, range(len(op.shape(0))), Purpose.MIXED)
    return [op.nothing(place) for place in range(len(op.node.output))]


def reverse_sequence(op: Op) -> Answer:
    """The first positions along `time_axis` are turned round, a number of them of its own for each of the batch."""
    rank = len(op.shape(0))
    time, batch = op.attribute("time_axis", 0) % rank, op.attribute("batch_axis", 1) % rank
    op.hold(0, [time], Purpose.RUNTIME)
    others = {axis: axis for axis in range(rank) if axis != time}
    return op.merge([(0, others), (1, {0: batch})], op.out_shape())


RULES: tuple[Rule, ...] = (
    Rule("GatherElements", gather_elements),
    Rule("GatherND", gather_nd),
    Rule("GatherND", gather_nd, domain="com.microsoft"),
    Rule("Scatter", scatter_elements),
    Rule("ScatterElements", scatter_elements),
    Rule("ScatterND", scatter_nd),
    Rule("TensorScatter", tensor_scatter),
    Rule("OneHot", one_hot),
    Rule("Compress", compress),
    Rule("NonZero", nonzero),
    Rule("Unique", unique),
    Rule("ReverseSequence", reverse_sequence),
)
