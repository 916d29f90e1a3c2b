"""Cases of attention as one operator: whole heads go, or features of a head where these are opened."""

from collections.abc import Callable
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, Row, row
from onnxprune.ops.trace import Opened

__all__ = ["CASES"]

_MICROSOFT = "com.microsoft"
_ONNX = row("Attention", 23)
_PACKED = row("Attention", domain=_MICROSOFT)
_MULTI_HEAD = row("MultiHeadAttention", domain=_MICROSOFT)
_GROUPED = row("GroupQueryAttention", domain=_MICROSOFT)
_ROTARY, _ROTARY_BY_POSITION = row("RotaryEmbedding", 23), row("RotaryEmbedding", domain=_MICROSOFT)

WHOLE, INSIDE = Opened(), Opened(inside_heads=True)

Make = Callable[[], ModelProto]


def _case(
    which: Row,
    name: str,
    make: Make,
    groups: tuple[int, ...],
    *pins: tuple[str, int],
    opened: Opened = WHOLE,
    runs: bool = True,
) -> Case:
    name += ", features" if opened.inside_heads else ""
    return Case(which, name, make, groups, pins, runs=runs, scaled=False, opened=opened)


def _both(which: Row, name: str, make: Make, heads: tuple[int, ...], features: tuple[int, ...]) -> tuple[Case, Case]:
    return _case(which, name, make, heads), _case(which, name, make, features, opened=INSIDE)


def _project(net: Net, x: str, made: int, read: int = 7) -> str:
    return net.add("Add", net.dense(x, made, read), net.weight(made))


def _apart(net: Net, x: str, heads: int) -> str:
    """(batch, positions, heads · features) as (batch, heads, positions, features)."""
    return net.add("Transpose", net.add("Reshape", x, net.constant([0, 0, heads, -1])), perm=[0, 2, 1, 3])


def _merged(net: Net, x: str, size: int) -> str:
    return net.add("Reshape", net.add("Transpose", x, perm=[0, 2, 1, 3]), net.constant([0, 0, size]))


# ---- of ONNX ---------------------------------------------------------------------------------------------------------


def _onnx(
    *,
    flat: bool,
    heads: int = 4,
    shared: int = 4,
    sizes: tuple[int, int] = (3, 5),
    mask: tuple[int, ...] = (),
    opset: int = 23,
    past: str = "",
    scores: bool = False,
    **attributes: Any,
) -> Make:
    """Queries, keys and values of five positions; `past` is "input" or "layer", where earlier ones come from."""

    def make() -> ModelProto:
        net = Net(opset, ir=10)
        x = net.input("n", 5, 7)
        width, other = sizes
        parts = [_project(net, x, count * size) for count, size in ((heads, width), (shared, width), (shared, other))]
        given = {"q_num_heads": heads, "kv_num_heads": shared} if flat else {}
        if not flat:
            parts = [_apart(net, part, count) for part, count in zip(parts, (heads, shared, shared), strict=True)]
        if mask or past:
            parts.append(net.weight(*mask) if mask else "")
        if past == "input":
            parts += [net.input("n", shared, 2, size) for size in sizes]
        elif past == "layer":
            more = [_project(net, x, shared * size) for size in sizes]
            parts += [_apart(net, part, shared) for part in more]
        outputs = 4 if scores else 3 if past else 1
        made = net.many("Attention", outputs, *parts, **given, **attributes)
        merged = made[0] if flat else _merged(net, made[0], heads * other)
        ends = [net.dense(merged, 2, heads * other)]
        if past == "input":
            ends += made[1:3]
        elif past:
            ends += [net.add("ReduceSum", net.add("Relu", part), net.constant([1, 3])) for part in made[1:3]]
        if scores:
            ends.append(net.add("ReduceSum", made[3], net.constant([1]), keepdims=0))
        return net.done(*ends)

    return make


def _one_head() -> ModelProto:
    net = Net(23, ir=10)
    x = net.input("n", 5, 7)
    parts = [_project(net, x, size) for size in (6, 6, 5)]
    return net.done(net.dense(net.add("Attention", *parts, q_num_heads=1, kv_num_heads=1), 2, 5))


def _heads_apart() -> ModelProto:
    """Heads and features lie along axes of their own from the start."""
    net = Net(23, ir=10)
    x = net.input("n", 1, 5, 7)
    parts = [net.add("MatMul", x, net.weight(4, 7, size)) for size in (3, 3, 5)]
    made = net.add("MatMul", net.add("Attention", *parts), net.weight(4, 5, 2))
    return net.done(net.add("ReduceSum", made, net.constant([1])))


def _rotated(*, shared: int) -> Make:
    """Queries and keys are rotated before; keys and values that heads share are copied before."""

    def make() -> ModelProto:
        net = Net(23, ir=10)
        x = net.input(2, 5, 7)
        tables = [net.weight(9, 3) for _ in range(2)]
        where = net.constant(np.tile(np.arange(5), (2, 1)))
        query, key, value = (
            _apart(net, _project(net, x, heads * size), heads) for heads, size in ((4, 6), (shared, 6), (shared, 5))
        )
        query, key = (net.add("RotaryEmbedding", part, *tables, where) for part in (query, key))
        if shared < 4:
            parts = []
            for part in (key, value):
                wide = net.add("Expand", net.add("Unsqueeze", part, net.constant([2])), net.constant([1, 1, 2, 1, 1]))
                parts.append(net.add("Reshape", wide, net.constant([0, 4, 5, -1])))
            key, value = parts
        return net.done(net.dense(_merged(net, net.add("Attention", query, key, value), 20), 2, 20))

    return make


# ---- of onnxruntime --------------------------------------------------------------------------------------------------


def _multi_head(
    *,
    sizes: tuple[int, int] = (3, 5),
    bias: bool = False,
    added: tuple[int, ...] = (),
    cross: bool = False,
    past: bool = False,
    packed: int = 0,
    **attributes: Any,
) -> Make:
    """Four heads; `cross` has keys and values (batch, heads, positions, features), `packed` several in one input."""

    def make() -> ModelProto:
        net = Net()
        x = net.input(2, 5, 7)
        width, other = sizes
        if packed == 3:
            parts = [net.add("Reshape", _project(net, x, 12 * width), net.constant([0, 0, 4, 3, width])), "", ""]
        elif packed == 2:
            keys = net.add("Reshape", _project(net, x, 8 * width), net.constant([0, 0, 4, 2, width]))
            parts = [_project(net, x, 4 * width), keys, ""]
        else:
            parts = [_project(net, x, 4 * size) for size in (width, width, other)]
        if cross:
            parts[1:] = [_apart(net, part, 4) for part in parts[1:]]
        parts.append(net.weight(4 * (2 * width + other)) if bias else "")
        parts += ["", net.weight(*added) if added else ""]
        parts += [net.input(2, 4, 2, size) for size in sizes] if past else []
        made = net.many("MultiHeadAttention", 3 if past else 1, *parts, domain=_MICROSOFT, num_heads=4, **attributes)
        return net.done(net.dense(made[0], 2, 4 * other), *made[1:])

    return make


def _packed(
    *, sizes: tuple[int, int] = (3, 3), bias: bool = True, added: bool = False, past: bool = False, **attributes: Any
) -> Make:
    """Four heads of features that the operator makes itself, of a hidden layer's six."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.add("Sigmoid", net.dense(net.input(2, 5, 7), 6, 7))
        total = 4 * (2 * sizes[0] + sizes[1])
        parts = [hidden, net.weight(6, total), net.weight(total) if bias else "", ""]
        parts += [net.input(2, 2, 4, 2, sizes[0]) if past else "", net.weight(1, 4, 5, 5) if added else ""]
        given = {"qkv_hidden_sizes": [4 * sizes[0], 4 * sizes[0], 4 * sizes[1]]} if sizes[0] != sizes[1] else {}
        made = net.many("Attention", 2 if past else 1, *parts, domain=_MICROSOFT, num_heads=4, **given, **attributes)
        return net.done(net.dense(made[0], 2, 4 * sizes[1]), *made[1:])

    return make


def _grouped(*, packed: bool = False, rotary: bool = False, past: bool = False, sink: bool = False) -> Make:
    """Four heads of queries, two of keys and values; sixteen features each, eight pairs of which are rotated."""

    def make() -> ModelProto:
        net, batch = Net(), 1 if past else 2
        x = net.input(batch, 5, 7)
        parts = [_project(net, x, heads * 16) for heads in ((8,) if packed else (4, 2, 2))]
        parts += ["", ""] if packed else []
        parts += [net.input(1, 2, 3, 16) for _ in range(2)] if past else ["", ""]
        length = 8 if past else 5
        parts += [net.constant([length - 1] * batch, np.int32), net.constant(length, np.int32)]
        parts += [net.weight(9, 8), net.weight(9, 8)] if rotary else ["", ""]
        parts += ["", net.weight(1, 4, 5, length), net.weight(4)] if sink else []
        attributes = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": int(rotary)}
        made = net.many("GroupQueryAttention", 3, *parts, domain=_MICROSOFT, **attributes)
        ends = made[1:] if past else []
        return net.done(net.dense(made[0], 2, 64), *ends)

    return make


# ---- rotation --------------------------------------------------------------------------------------------------------


def _rotary(
    *, flat: bool, onnx: bool = True, heads: int = 4, positions: bool = True, computed: bool = False, **attributes: Any
) -> Make:
    """Queries and keys of six features in a head; of four, where only those are rotated."""

    def make() -> ModelProto:
        net = Net(23 if onnx else 17, ir=10)
        x = net.input(2, 5, 7)
        turned = attributes.get("rotary_embedding_dim", 6)
        tables = [net.weight(9, turned // 2) for _ in range(2)]
        if computed:
            angle = net.input(9, turned // 2)
            tables = [net.add("Cos", angle), net.add("Sin", angle)]
        where = net.constant(np.tile(np.arange(5), (2, 1)))
        if not positions:
            tables = [net.add("Gather", table, where, axis=0) for table in tables]
        parts = []
        for _ in range(2):
            part = _project(net, x, heads * 6)
            part = part if flat else _apart(net, part, heads)
            inputs = [part, *tables, *([where] if positions else [])] if onnx else [part, where, *tables]
            given = dict(attributes)
            if flat and (onnx or "rotary_embedding_dim" in attributes):
                given["num_heads"] = heads
            parts.append(net.add("RotaryEmbedding", *inputs, domain="" if onnx else _MICROSOFT, **given))
        parts = [_apart(net, part, heads) if flat else part for part in parts]
        scores = net.add("MatMul", parts[0], net.add("Transpose", parts[1], perm=[0, 1, 3, 2]))
        mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), _apart(net, _project(net, x, heads * 5), heads))
        return net.done(net.dense(_merged(net, mixed, heads * 5), 2, heads * 5))

    return make


CASES: tuple[Case, ...] = (
    *_both(_ONNX, "heads apart", _onnx(flat=False), (4,), (12, 20)),
    *_both(_ONNX, "heads beside one another", _onnx(flat=True), (4,), (12, 20)),
    *_both(_ONNX, "opset 24", _onnx(flat=True, opset=24), (4,), (12, 20)),
    *_both(_ONNX, "causal, capped, scaled", _onnx(flat=True, is_causal=1, softcap=5.0, scale=0.7), (4,), (12, 20)),
    *_both(_ONNX, "two heads to one of keys", _onnx(flat=True, shared=2), (2,), (6, 10)),
    *_both(_ONNX, "two heads to one of keys, apart", _onnx(flat=False, shared=2), (2,), (6, 10)),
    *_both(_ONNX, "mask", _onnx(flat=False, mask=(5, 5)), (4,), (12, 20)),
    *_both(_ONNX, "mask by head", _onnx(flat=True, mask=(1, 4, 5, 5)), (4,), (12, 20)),
    *_both(_ONNX, "mask by head, three axes", _onnx(flat=True, mask=(4, 5, 5)), (4,), (12, 20)),
    *_both(_ONNX, "mask by head, two to one", _onnx(flat=True, shared=2, mask=(4, 5, 5)), (2,), (6, 10)),
    *_both(_ONNX, "earlier keys made here", _onnx(flat=False, shared=2, past="layer"), (2,), (6, 10)),
    *_both(_ONNX, "scores asked for", _onnx(flat=False, past="layer", scores=True), (4,), (12, 20)),
    _case(_ONNX, "earlier keys from outside", _onnx(flat=True, past="input"), (), *(("GRAPH_INPUT", 4),)),
    *_both(_ONNX, "after a rotation", _rotated(shared=4), (4,), (3, 20)),
    *_both(_ONNX, "after a rotation and copies", _rotated(shared=2), (2,), (3, 10)),
    *_both(_ONNX, "one head", _one_head, (5, 6), (5, 6)),
    *_both(_ONNX, "heads and features apart", _heads_apart, (3, 4, 5), (3, 4, 5)),
    *_both(_MULTI_HEAD, "apart", _multi_head(), (4,), (12, 20)),
    *_both(_MULTI_HEAD, "bias", _multi_head(bias=True, unidirectional=1), (4,), (12, 20)),
    *_both(_MULTI_HEAD, "added scores", _multi_head(added=(1, 4, 5, 5)), (4,), (12, 20)),
    *_both(_MULTI_HEAD, "added scores for all heads", _multi_head(added=(1, 1, 5, 5), scale=0.3), (4,), (12, 20)),
    *_both(_MULTI_HEAD, "keys of another sequence", _multi_head(sizes=(4, 4), cross=True), (4,), (4,)),
    _case(_MULTI_HEAD, "earlier keys from outside", _multi_head(sizes=(4, 4), past=True), (), ("GRAPH_INPUT", 4)),
    _case(_MULTI_HEAD, "all in one", _multi_head(sizes=(4, 4), packed=3), (4,), runs=False),
    _case(_MULTI_HEAD, "keys and values in one", _multi_head(sizes=(4, 4), packed=2), (4,), runs=False),
    *_both(_PACKED, "bias", _packed(), (4, 6), (6, 12, 12)),
    *_both(_PACKED, "other values", _packed(sizes=(3, 5), unidirectional=1), (4, 6), (6, 12, 20)),
    *_both(_PACKED, "added scores", _packed(added=True, scale=0.4), (4, 6), (6, 12, 12)),
    _case(_PACKED, "earlier keys from outside", _packed(past=True), (6,), ("GRAPH_INPUT", 4)),
    *_both(_GROUPED, "apart", _grouped(), (2,), (2,)),
    *_both(_GROUPED, "rotated, added scores, sinks", _grouped(rotary=True, sink=True), (2,), (2,)),
    _case(_GROUPED, "in one", _grouped(packed=True, rotary=True), (2,)),
    _case(_GROUPED, "earlier keys from outside", _grouped(past=True), (), ("GRAPH_INPUT", 2)),
    *_both(_ROTARY, "heads apart", _rotary(flat=False), (4,), (3, 20)),
    *_both(_ROTARY, "heads beside one another", _rotary(flat=True), (4,), (3, 20)),
    *_both(_ROTARY, "interleaved", _rotary(flat=True, interleaved=1), (4,), (3, 20)),
    *_both(_ROTARY, "of some features", _rotary(flat=True, rotary_embedding_dim=4), (4,), (2, 2, 20)),
    *_both(_ROTARY, "a table for each position", _rotary(flat=False, positions=False), (4,), (3, 20)),
    *_both(_ROTARY, "angles from outside", _rotary(flat=False, computed=True), (4,), (4,)),
    *_both(_ROTARY, "one head", _rotary(flat=False, heads=1), (3, 5), (3, 5)),
    *_both(_ROTARY_BY_POSITION, "heads apart", _rotary(flat=False, onnx=False), (4,), (3, 20)),
    *_both(_ROTARY_BY_POSITION, "heads beside one another", _rotary(flat=True, onnx=False), (4,), (3, 20)),
    *_both(
        _ROTARY_BY_POSITION,
        "interleaved, of some features",
        _rotary(flat=True, onnx=False, interleaved=1, rotary_embedding_dim=4),
        (4,),
        (2, 2, 20),
    ),
)
