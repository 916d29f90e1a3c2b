"""Attention as one operator: of ONNX, and those of onnxruntime.

Keys and values of earlier positions come in and go out where text is made word by word. As inputs and outputs of the
network they keep all heads.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxprune.ops.attending import Heads, Side
from onnxprune.ops.labels import Array, Labels
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Kept, Role

__all__ = ["RULES", "attention", "grouped_query", "multi_head", "packed"]

_MICROSOFT = "com.microsoft"


def _hold_all(op: Op, *places: int) -> None:
    for place in filter(op.has, places):
        op.hold(place, range(len(op.shape(place))))


def _positions(op: Op, place: int) -> int:
    """How many positions keys have, (batch, positions, …) or (batch, heads, positions, features)."""
    shape = op.shape(place)
    return shape[2] if len(shape) == 4 else shape[1]


def _outputs(heads: Heads) -> list[Labels]:
    """The result, all keys, all values, scores."""
    op = heads.op
    found = [heads.output()]
    for place in range(1, len(op.node.output)):
        if not op.node.output[place]:
            found.append(op.out(()))
        elif place < 3:
            found.append(heads.present(place, values=place == 2))
        else:
            found.append(heads.scores(place))
    return found


def attention(op: Op) -> Answer:
    """Attention of ONNX: queries, keys, values, mask, earlier keys and values, lengths."""
    flat = len(op.shape(0)) == 3
    names = ("q_num_heads", "kv_num_heads", "kv_num_heads")
    counts = [op.attribute(name) if flat else op.shape(place)[1] for place, name in enumerate(names)]
    heads = Heads(op, *(Side.of(op, place, count) for place, count in enumerate(counts)))
    if op.has(3):
        heads.beside_queries(3, -3)
    for place in filter(op.has, (4, 5)):
        heads.beside_keys(place, values=place == 5)
    _hold_all(op, 6)
    heads.spell("q_num_heads", "kv_num_heads")
    earlier = op.shape(4)[2] if op.has(4) else 0
    batch, length = op.shape(0)[0], op.shape(0)[-2]
    heads.count(batch * length * (_positions(op, 1) + earlier))
    return _outputs(heads)


# ---- of onnxruntime --------------------------------------------------------------------------------------------------


def _side(op: Op, place: int, count: int) -> Side:
    """Queries, keys or values of an input that may have two or all of them, (batch, positions, heads, …, features)."""
    if len(op.shape(place)) < 5:
        return Side.of(op, place, count)
    op.hold(place, [0, 1, 3, 4])
    return Side(place, count, op.shape(place)[4], (2,), op.fixed(place), None, op.axis(place, 2))


def _tie_bias(op: Op, place: int, sides: tuple[Side, Side, Side]) -> None:
    """Tie a bias of queries, keys and values, one after another."""
    labels = op.axis(place, 0)
    start = 0
    for side in sides:
        size = side.heads * side.features
        part = None if labels is None else labels[start : start + size]
        if side.full is None:
            op.tie(part, None, side.fixed)
            for array in (side.rows, side.columns):
                op.tie(array, None, op.fixed(place))
        else:
            op.tie(part, side.full.ravel(), op.fixed(place))
        start += size


def multi_head(op: Op) -> Answer:
    """MultiHeadAttention: queries, keys, values, bias, padding, added scores, earlier keys and values, lengths."""
    count = op.attribute("num_heads")
    places = [0, 1 if op.has(1) else 0, 2 if op.has(2) else (1 if op.has(1) else 0)]
    query, key, value = (_side(op, place, count) for place in places)
    if op.has(3):
        _tie_bias(op, 3, (query, key, value))
    alike = not op.has(2) or len(op.shape(2)) == 4
    heads = Heads(op, query, key, value, free=not alike)
    if op.has(5):
        heads.beside_queries(5, 1 - len(op.shape(5)))
    for place in filter(op.has, (6, 7)):
        heads.beside_keys(place, values=place == 7)
    _hold_all(op, 4, 8, 9)
    heads.spell("num_heads")
    earlier = op.shape(6)[2] if op.has(6) else 0
    heads.count(op.shape(0)[0] * op.shape(0)[1] * (_positions(op, places[1]) + earlier))
    return _outputs(heads)


def grouped_query(op: Op) -> Answer:
    """GroupQueryAttention: queries, keys, values or all in one, earlier ones, lengths, angles, added scores, sinks.

    The number of features in a head is a multiple of eight or more, and stays.
    """
    count, shared = op.attribute("num_heads"), op.attribute("kv_num_heads")
    if op.has(1):
        query, key, value = (Side.of(op, place, heads) for place, heads in enumerate((count, shared, shared)))
    else:
        op.hold(0, [0, 1])
        features = op.shape(0)[2] // (count + 2 * shared)
        counts = (count, shared, shared)
        sizes = [heads * features for heads in counts]
        query, key, value = Side.in_one((0, 2), counts, sizes, op.axis(0, 2), op.fixed(0))
    heads = Heads(op, query, key, value, free=False)
    for place in filter(op.has, (3, 4)):
        heads.beside_keys(place, values=place == 4)
    if op.has(10):
        heads.beside_queries(10, 1 - len(op.shape(10)))
    if op.has(11):
        heads.beside_queries(11, -1)
    _hold_all(op, *range(5, 10), *range(12, len(op.node.input)))
    if any(op.has(place) and int(np.prod(op.shape(place))) > 1 for place in (12, 13)):
        # Scales of stored keys and values may be one for each feature of each head.
        heads.meet_keys(None, op.positions)
    heads.spell("num_heads", "kv_num_heads")
    keys = op.out_shape(1)[2] if len(op.node.output) > 1 and op.node.output[1] else op.shape(0)[1]
    heads.count(op.shape(0)[0] * op.shape(0)[1] * keys)
    return _outputs(heads)


def packed(op: Op) -> Answer:
    """Attention of onnxruntime: one weight and one bias make queries, keys and values of the input.

    x, weight (in, queries · keys · values), bias, mask, earlier keys and values (2, batch, heads, …), added scores.
    """
    count, given = op.attribute("num_heads"), op.attribute("qkv_hidden_sizes")
    sizes = list(given) if given else [op.shape(1)[1] // 3] * 3
    op.hold(0, [0, 1])
    inner, made = op.contract((0, 2), (1, 0)), op.axis(1, 1)
    if op.is_constant(1):
        op.role(made, Role.WRITES)
    bias = op.axis(2, 0) if op.has(2) else None
    if op.has(2):
        made = op.tie(made, bias, op.fixed(1 if made is None else 2))
    sides = Side.in_one((1, 1), [count] * 3, sizes, made, op.fixed(1))
    if bias is not None and made is not None:
        # The features of queries and keys are made here: they are zero where weight and bias are.
        sides = [replace(side, whole=((1, 1, made), (2, 0, bias))) for side in sides]
    states = op.has(4) or any(op.node.output[1:])
    heads = Heads(op, *sides, free=not states and not op.attribute("do_rotary", 0))
    if op.has(4):
        op.hold(4, [0, 1, 3, 4])
        heads.meet_keys(op.axis(4, 2), op.fixed(4))
    if op.has(5):
        heads.beside_queries(5, 1 - len(op.shape(5)))
    _hold_all(op, 3, 6)
    heads.spell("num_heads")
    _spell_sizes(op, [side.full for side in sides], spelled=bool(given))
    rows, k = op.shape(0)[0] * op.shape(0)[1], 1 if inner is not None else op.shape(0)[2]
    op.macs(rows * k * (1 if made is not None else sum(sizes)), inner, made)
    heads.count(rows * (op.shape(0)[1] + (op.shape(4)[3] if op.has(4) else 0)))
    return [heads.output(), *(heads.states(place) for place in range(1, len(op.node.output)))]


def _spell_sizes(op: Op, arrays: Sequence[Array | None], *, spelled: bool) -> None:
    """Spell how many features queries, keys and values have, where it is or has to be."""
    given = [array for array in arrays if array is not None]

    def value(kept: Kept) -> Array | None:
        counts = np.array([kept.count(array) for array in given], dtype=np.int64)
        return counts if spelled or len(set(counts.tolist())) > 1 else None

    if given:
        op.spell("qkv_hidden_sizes", value, given)


RULES: tuple[Rule, ...] = (
    Rule("Attention", attention, since=23),
    Rule("Attention", packed, domain=_MICROSOFT),
    Rule("MultiHeadAttention", multi_head, domain=_MICROSOFT),
    Rule("GroupQueryAttention", grouped_query, domain=_MICROSOFT),
)
