"""RotaryEmbedding: features of each head are rotated in pairs by the angles of their position.

x[i] cos[i] − x[j] sin[i] and x[j] cos[i] + x[i] sin[i], where j is i + half, or i + 1 where they are interleaved.
Whole heads go, or on request pairs of features, the same of every head, with their columns of cosines and sines.
"""

import numpy as np

from onnxprune.ops.attending import Side
from onnxprune.ops.labels import Array, Bundle
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Kept

__all__ = ["RULES", "rotary", "rotary_by_position"]


def rotary(op: Op) -> Answer:
    """Of ONNX: x, cosines, sines, positions."""
    return _rotate(op, 1, 2, 3)


def rotary_by_position(op: Op) -> Answer:
    """Of onnxruntime: x, positions, cosines, sines."""
    return _rotate(op, 2, 3, 1)


def _rotate(op: Op, cosines: int, sines: int, positions: int) -> Answer:
    shape = op.shape(0)
    turned = op.attribute("rotary_embedding_dim", 0)
    flat = len(shape) == 3
    heads = shape[1] if not flat else op.attribute("num_heads", 0) or shape[2] // (2 * op.shape(cosines)[-1])
    side = Side.of(op, 0, heads)
    tables = [op.labels(place).bundle_at(len(op.shape(place)) - 1) for place in (cosines, sines)]
    known = all(table is not None and len(table.axes) == 1 for table in tables)
    inside = known and (op.trace.opened.inside_heads or heads == 1)
    if op.has(positions):
        op.hold(positions, range(len(op.shape(positions))))
    rows, columns = side.rows, side.columns
    if side.full is not None and inside:
        single = op.trace.collapse(Bundle((0, 1), side.full), [0])
        columns = None if single is None else single.array
    elif side.full is not None:
        rows, columns = side.by_head(op)
    if columns is not None and known:
        _turn(op, columns, (cosines, sines), turned or side.features)
    else:
        op.tie(columns, None, op.positions)
        columns = None
    for place in (cosines, sines):
        op.hold(place, range(len(op.shape(place)) - (columns is not None)))
    if rows is not None and flat and op.attribute("num_heads", 0):
        op.spell("num_heads", lambda kept: _count(kept, rows), [rows])
    if not flat:
        found = ((1, rows), (3, columns))
        return op.out(shape, [Bundle((axis,), array) for axis, array in found if array is not None], op.fixed(0))
    if columns is not None:
        return op.out(shape, [Bundle((2,), np.tile(columns, heads))], op.fixed(0))
    return op.out(shape, [] if rows is None else [Bundle((2,), np.repeat(rows, side.features))], op.fixed(0))


def _count(kept: Kept, array: Array) -> Array:
    return np.array(kept.count(array), dtype=np.int64)


def _turn(op: Op, columns: Array, tables: tuple[int, int], turned: int) -> None:
    """Tie the features of each pair, and their columns of the tables."""
    pairs = columns[:turned].reshape((-1, 2) if op.attribute("interleaved", 0) else (2, -1))
    first, second = (pairs[:, 0], pairs[:, 1]) if op.attribute("interleaved", 0) else (pairs[0], pairs[1])
    op.trace.tie(first, second)
    for place in tables:
        op.tie(first, op.axis(place, -1), op.fixed(place))
    if op.attribute("rotary_embedding_dim", 0):
        turning = columns[:turned]
        op.section(turning)
        op.spell("rotary_embedding_dim", lambda kept: _count(kept, turning), [turning])


RULES: tuple[Rule, ...] = (
    Rule("RotaryEmbedding", rotary, since=23),
    Rule("RotaryEmbedding", rotary_by_position, domain="com.microsoft"),
)
