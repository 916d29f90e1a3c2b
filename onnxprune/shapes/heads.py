"""Shapes of what onnxruntime's own attention operators make, which ONNX's inference does not know."""

from collections.abc import Mapping
from typing import Any

from onnx import NodeProto, helper

from onnxprune.graph.index import attributes

__all__ = ["infer_heads"]

Shape = tuple[int, ...]
_Given = list[Shape | None]


def _packed(given: _Given, found: Mapping[str, Any]) -> list[Shape]:
    """Attention: one weight makes queries, keys and values; present is (2, batch, heads, all positions, features)."""
    x, weight, past = given[0], given[1], given[4] if len(given) > 4 else None
    assert x is not None
    assert weight is not None
    sizes = found.get("qkv_hidden_sizes") or [weight[1] // 3] * 3
    length = x[1] if past is None else (past[3] if found.get("past_present_share_buffer") else past[3] + x[1])
    return [(*x[:2], sizes[2]), (2, x[0], found["num_heads"], length, sizes[0] // found["num_heads"])]


def _multi_head(given: _Given, found: Mapping[str, Any]) -> list[Shape]:
    """MultiHeadAttention: queries, keys and values apart or packed as (batch, positions, heads, 2 or 3, features)."""
    query, key, value = (*given[:3], None, None)[:3]
    assert query is not None
    heads = found["num_heads"]
    if len(query) == 5:
        width, length, features = query[2] * query[4], query[1], query[4]
    else:
        assert key is not None
        features = query[2] // heads
        length = key[2] if len(key) == 4 else key[1]
        width = query[2]
        if value is not None:
            width = heads * value[3] if len(value) == 4 else value[2]
    past = given[6] if len(given) > 6 else None
    length += 0 if past is None else past[2]
    present = (query[0], heads, length)
    return [(*query[:2], width), (*present, features), (*present, width // heads), (*present[:2], query[1], length)]


def _grouped_query(given: _Given, found: Mapping[str, Any]) -> list[Shape]:
    """GroupQueryAttention: several heads of queries to one of keys and values; all three may be packed."""
    query, key, past = given[0], given[1], given[3] if len(given) > 3 else None
    assert query is not None
    heads, shared = found["num_heads"], found["kv_num_heads"]
    features = query[2] // (heads + 2 * shared if key is None else heads)
    length = (query[1] if key is None else key[1]) + (0 if past is None else past[2])
    present = (query[0], shared, length, features)
    return [(*query[:2], heads * features), present, present, (query[0], heads, query[1], length)]


_CONTRIBUTED = {
    "Attention": (_packed, 2),
    "MultiHeadAttention": (_multi_head, 1),
    "GroupQueryAttention": (_grouped_query, 1),
    "RotaryEmbedding": (lambda given, _: [given[0]], 1),
}


def infer_heads(node: NodeProto, shapes: Mapping[str, Shape]) -> list[Shape]:
    """Shapes of a node's outputs, in order; none where this module does not know the operator, or not enough of it.

    Parameters
    ----------
    node : NodeProto
    shapes : mapping
        Shapes of tensors by name, as far as they are known.

    Returns
    -------
    list of tuple of int
    """
    found = {name: helper.get_attribute_value(item) for name, item in attributes(node).items()}
    given: _Given = [shapes.get(name) if name else None for name in node.input]
    rule, needed = _CONTRIBUTED.get(node.op_type, (None, 0)) if node.domain == "com.microsoft" else (None, 0)
    if rule is None or any(shape is None and name for shape, name in zip(given, node.input, strict=True)):
        return []
    return rule(given, found) if all(shape is not None for shape in given[:needed]) else []
