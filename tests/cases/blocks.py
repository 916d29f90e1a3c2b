"""Cases of transformers' blocks as exporters spell them: what is around attention, and networks like them."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto, TensorProto

from cases.case import Case
from onnxprune.ops.trace import Opened

__all__ = ["CASES"]

FLOAT = TensorProto.FLOAT
STREAMS = Opened(normalized=True)
WHOLE, INSIDE = Opened(), Opened(inside_heads=True)
HEADS, WIDTH, MODEL = 4, 3, 8

Make = Callable[[], ModelProto]
Step = Callable[[Net, str], str]


def _case(
    name: str, make: Make, groups: tuple[int, ...], *pins: tuple[str, int], opened: Opened = WHOLE, runs: bool = True
) -> Case:
    return Case(None, name, make, groups, pins, runs=runs, scaled=False, opened=opened)


def _streams(
    name: str, make: Make, groups: tuple[int, ...], opened: tuple[int, ...], *, held: int = 1
) -> tuple[Case, Case]:
    """A block on streams that are normalised: they stay, or go where they are opened."""
    return (
        _case(name, make, groups, *(("NORMALIZED", MODEL),) * held),
        _case(f"{name}, streams", make, opened, opened=STREAMS),
    )


def _dense(net: Net, x: str, made: int, read: int = MODEL) -> str:
    return net.add("Add", net.dense(x, made, read), net.weight(made))


def _norm(net: Net, x: str, size: int = MODEL) -> str:
    return net.add("LayerNormalization", x, net.weight(size), net.weight(size))


def _apart(net: Net, x: str, heads: int = HEADS) -> str:
    return net.add("Transpose", net.add("Reshape", x, net.constant([0, 0, heads, -1])), perm=[0, 2, 1, 3])


def _attend(net: Net, x: str, other: str = "", read: int = MODEL) -> str:
    """Queries of x, keys and values of x or of something else."""
    query, key, value = (_apart(net, _dense(net, part, HEADS * WIDTH, read)) for part in (x, other or x, other or x))
    scores = net.add("Softmax", net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
    turned = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    return _dense(net, net.add("Reshape", turned, net.constant([0, 0, HEADS * WIDTH])), read, HEADS * WIDTH)


def _feed(net: Net, x: str, between: Step = lambda net, x: net.add("Relu", x), read: int = MODEL) -> str:
    return _dense(net, between(net, _dense(net, x, 9, read)), read, 9)


def _block(
    *,
    feed: Callable[[Net, str], str] = _feed,
    scale: bool = False,
    after: bool = False,
    token: bool = False,
    length: int | str = "s",
) -> Make:
    """Normalised before each layer or after it; with LayerScale, with a class token and a table of positions."""

    def add(net: Net, stream: str, made: str) -> str:
        return net.add("Add", stream, net.add("Mul", made, net.weight(MODEL)) if scale else made)

    def make() -> ModelProto:
        net = Net()
        stream = net.dense(net.input(1 if token else "n", 5 if token else length, 7), MODEL, 7)
        if token:
            wide = net.add("Expand", net.weight(1, 1, MODEL), net.constant([1, 1, 1]))
            stream = net.add("Add", net.add("Concat", wide, stream, axis=1), net.weight(1, 6, MODEL))
        for layer in (_attend, feed):
            made = add(net, stream, layer(net, stream if after else _norm(net, stream)))
            stream = _norm(net, made) if after else made
        if token:
            stream = net.add("Gather", stream, net.constant(0), axis=1)
        return net.done(net.dense(stream, 2, MODEL))

    return make


def _token_by_batch() -> ModelProto:
    """The class token is expanded to the batch, whose size is read from the input."""
    net = Net()
    x = net.input("n", 5, 7)
    stream = net.dense(x, MODEL, 7)
    batch = net.add("Slice", net.add("Shape", x), net.constant([0]), net.constant([1]))
    shape = net.add("Concat", batch, net.constant([-1]), net.constant([-1]), axis=0)
    chosen = net.add("Where", net.add("Equal", shape, net.constant([-1, -1, -1])), net.constant([1, 1, 1]), shape)
    stream = net.add("Concat", net.add("Expand", net.weight(1, 1, MODEL), chosen), stream, axis=1)
    stream = net.add("Add", stream, _attend(net, stream))
    return net.done(net.dense(stream, 2, MODEL))


def _cross() -> ModelProto:
    """Keys and values are made of an encoder's states, of another length."""
    net = Net()
    x, states = net.input("n", "s", 7), net.input("n", 6, 5)
    encoded = net.add("Relu", net.dense(states, MODEL, 5))
    stream = net.dense(x, MODEL, 7)
    stream = net.add("Add", stream, _attend(net, stream, encoded))
    return net.done(net.dense(stream, 2, MODEL))


def _memory() -> ModelProto:
    """Reduced keys: positions are taken together by a strided convolution, as in PVT and SegFormer."""
    net = Net()
    x = net.dense(net.input("n", 16, 7), MODEL, 7)
    picture = net.add("Reshape", net.add("Transpose", x, perm=[0, 2, 1]), net.constant([0, MODEL, 4, 4]))
    small = net.conv(picture, 6, MODEL, kernel=(2, 2), strides=[2, 2])
    flat = net.add("Transpose", net.add("Reshape", small, net.constant([0, 6, -1])), perm=[0, 2, 1])
    query = _apart(net, _dense(net, x, HEADS * WIDTH))
    key, value = (_apart(net, _dense(net, flat, HEADS * WIDTH, 6)) for _ in range(2))
    scores = net.add("Softmax", net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
    turned = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    return net.done(net.dense(net.add("Reshape", turned, net.constant([0, 0, HEADS * WIDTH])), 2, HEADS * WIDTH))


# ---- windows ---------------------------------------------------------------------------------------------------------


def _roll(net: Net, x: str, shift: int) -> str:
    """Rows and columns of a picture with channels last go round."""
    for axis in (1, 2):
        bounds = ((shift, 2**63 - 1), (0, shift))
        parts = [net.add("Slice", x, *(net.constant([number]) for number in (*bound, axis))) for bound in bounds]
        x = net.add("Concat", *parts, axis=axis)
    return x


def _windows() -> ModelProto:
    """Swin: a picture of 4 × 4 in shifted windows of 2 × 2, put together again, and patches merged."""
    net = Net()
    picture = net.add("Transpose", net.conv(net.input("n", 3, 4, 4), MODEL, 3), perm=[0, 2, 3, 1])
    shifted = _roll(net, _norm(net, picture), 1)
    cut = net.add("Reshape", shifted, net.constant([-1, 2, 2, 2, 2, MODEL]))
    windows = net.add("Reshape", net.add("Transpose", cut, perm=[0, 1, 3, 2, 4, 5]), net.constant([-1, 4, MODEL]))
    made = _attend(net, windows)
    seen = net.add("Reshape", made, net.constant([-1, 2, 2, 2, 2, MODEL]))
    whole = net.add("Reshape", net.add("Transpose", seen, perm=[0, 1, 3, 2, 4, 5]), net.constant([-1, 4, 4, MODEL]))
    picture = net.add("Add", picture, _roll(net, whole, 3))
    corners = []
    for row in (0, 1):
        for column in (0, 1):
            rows = net.add("Slice", picture, *(net.constant([k]) for k in (row, 2**63 - 1, 1, 2)))
            corners.append(net.add("Slice", rows, *(net.constant([k]) for k in (column, 2**63 - 1, 2, 2))))
    merged = _norm(net, net.add("Concat", *corners, axis=-1), 4 * MODEL)
    return net.done(net.dense(net.dense(merged, 6, 4 * MODEL), 2, 6))


def _next(net: Net, stream: str) -> str:
    """ConvNeXt's block: a depthwise layer, channels last, two layers, a scale, channels first."""
    deep = net.conv(stream, MODEL, MODEL, kernel=(3, 3), pads=[1] * 4, group=MODEL)
    last = _norm(net, net.add("Transpose", deep, perm=[0, 2, 3, 1]))
    made = net.add("Mul", _feed(net, last, _gelu_by_erf), net.weight(MODEL))
    return net.add("Add", stream, net.add("Transpose", made, perm=[0, 3, 1, 2]))


def _next_block() -> ModelProto:
    net = Net()
    stream = net.conv(net.input("n", 3, 4, 4), MODEL, 3)
    for _ in range(2):
        stream = _next(net, stream)
    pooled = net.add("Flatten", net.add("GlobalAveragePool", stream))
    return net.done(net.gemm(pooled, 2, MODEL))


# ---- feed-forward ----------------------------------------------------------------------------------------------------


def _one(net: Net, value: float) -> str:
    return net.constant(value, np.float32)


def _gelu_by_erf(net: Net, x: str) -> str:
    """x · (1 + erf(x / √2)) · ½."""
    inner = net.add("Add", net.add("Erf", net.add("Div", x, _one(net, 1.4142135))), _one(net, 1.0))
    return net.add("Mul", net.add("Mul", x, inner), _one(net, 0.5))


def _gelu_by_tanh(net: Net, x: str) -> str:
    """x · (1 + tanh(√(2/π) (x + 0.044715 x³))) · ½."""
    cube = net.add("Mul", net.add("Pow", x, _one(net, 3.0)), _one(net, 0.044715))
    inner = net.add("Tanh", net.add("Mul", net.add("Add", x, cube), _one(net, 0.7978845)))
    return net.add("Mul", net.add("Mul", x, net.add("Add", inner, _one(net, 1.0))), _one(net, 0.5))


def _quick_gelu(net: Net, x: str) -> str:
    return net.add("Mul", x, net.add("Sigmoid", net.add("Mul", x, _one(net, 1.702))))


def _silu(net: Net, x: str) -> str:
    return net.add("Mul", x, net.add("Sigmoid", x))


def _fed(feed: Callable[[Net, str], str], opset: int = 17) -> Make:
    def make() -> ModelProto:
        net = Net(opset, ir=10)
        stream = net.dense(net.input("n", "s", 7), MODEL, 7)
        return net.done(net.dense(net.add("Add", stream, feed(net, stream)), 2, MODEL))

    return make


def _active(between: Step) -> Callable[[Net, str], str]:
    return lambda net, x: _feed(net, x, between)


def _gated_by_two(net: Net, x: str) -> str:
    """SwiGLU: a gate and what goes through it, each by a layer of its own."""
    made = net.add("Mul", _silu(net, net.dense(x, 9, MODEL)), net.dense(x, 9, MODEL))
    return net.dense(made, MODEL, 9)


def _gated_by_split(net: Net, x: str) -> str:
    """GEGLU: one layer, whose halves are a gate and what goes through it."""
    first, second = net.many("Split", 2, _dense(net, x, 18), net.constant([9, 9]), axis=-1)
    return net.dense(net.add("Mul", first, _gelu_by_erf(net, second)), MODEL, 9)


def _gated_by_slice(net: Net, x: str) -> str:
    """The middle is computed from the shape, as `chunk` is exported."""
    made = _dense(net, x, 18)
    size = net.add("Gather", net.add("Shape", made), net.constant([2]))
    middle = net.add("Div", net.add("Add", size, net.constant([1])), net.constant([2]))
    first = net.add("Slice", made, net.constant([0]), middle, net.constant([2]))
    second = net.add("Slice", made, middle, net.add("Mul", middle, net.constant([2])), net.constant([2]))
    return net.dense(net.add("Mul", first, net.add("Sigmoid", second)), MODEL, 9)


def _gated_by_pairs(net: Net, x: str) -> str:
    """Gate and content lie beside one another: every second one."""
    made = _dense(net, x, 18)
    parts = [net.add("Slice", made, *(net.constant([k]) for k in (start, 2**63 - 1, 2, 2))) for start in (0, 1)]
    return net.dense(net.add("Mul", parts[0], net.add("Sigmoid", parts[1])), MODEL, 9)


# ---- other attention -------------------------------------------------------------------------------------------------


def _disentangled() -> ModelProto:
    """DeBERTa: scores of content and of distance are added; heads lie beside the batch, one layer serves both."""
    net = Net()
    x = net.dense(net.input("n", 5, 7), MODEL, 7)
    table = net.add("Unsqueeze", net.weight(9, MODEL), net.constant([0]))
    batch = net.add("Gather", net.add("Shape", x), net.constant([0]))

    def apart(part: str, length: int) -> str:
        seen = net.add("Reshape", part, net.constant([-1, length, HEADS, WIDTH]))
        return net.add("Reshape", net.add("Transpose", seen, perm=[0, 2, 1, 3]), net.constant([-1, length, WIDTH]))

    weights = [(net.weight(MODEL, HEADS * WIDTH), net.weight(HEADS * WIDTH)) for _ in range(3)]

    def project(part: str, which: int) -> str:
        return net.add("Add", net.add("MatMul", part, weights[which][0]), weights[which][1])

    query, key, value = (apart(project(x, which), 5) for which in range(3))
    times = net.add("Concat", batch, net.constant([1, 1]), axis=0)
    far_key, far_query = (net.add("Tile", apart(project(table, which), 9), times) for which in (1, 0))
    scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 2, 1]))
    places = net.constant(np.clip(np.arange(5)[:, None] - np.arange(5)[None, :] + 4, 0, 8)[None])
    shape = net.add("Concat", net.add("Mul", batch, net.constant([HEADS])), net.constant([5, 5]), axis=0)
    wide = net.add("Expand", places, shape)
    for content, distance in ((query, far_key), (key, far_query)):
        found = net.add("MatMul", content, net.add("Transpose", distance, perm=[0, 2, 1]))
        scores = net.add("Add", scores, net.add("GatherElements", found, wide, axis=2))
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), value)
    seen = net.add("Reshape", mixed, net.constant([-1, HEADS, 5, WIDTH]))
    merged = net.add("Reshape", net.add("Transpose", seen, perm=[0, 2, 1, 3]), net.constant([0, 0, HEADS * WIDTH]))
    return net.done(net.dense(merged, 2, HEADS * WIDTH))


def _over_channels() -> ModelProto:
    """XCiT: scores of features with features of a head, each of length one over all positions, scaled by head."""
    net = Net()
    x = net.dense(net.input("n", 5, 7), MODEL, 7)
    seen = net.add("Reshape", _dense(net, x, 3 * HEADS * WIDTH), net.constant([0, 5, 3, HEADS, WIDTH]))
    turned = net.add("Transpose", seen, perm=[2, 0, 3, 4, 1])
    query, key, value = (net.add("Gather", turned, net.constant(number), axis=0) for number in range(3))
    unit = []
    for part in (query, key):
        length = net.add("Clip", net.add("ReduceL2", part, axes=[-1]), _one(net, 1e-6))
        unit.append(net.add("Div", part, length))
    scores = net.add("MatMul", unit[0], net.add("Transpose", unit[1], perm=[0, 1, 3, 2]))
    scores = net.add("Softmax", net.add("Mul", scores, net.weight(HEADS, 1, 1)), axis=-1)
    turned = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 3, 1, 2])
    return net.done(net.dense(net.add("Reshape", turned, net.constant([0, 0, HEADS * WIDTH])), 2, HEADS * WIDTH))


def _linear_attention() -> ModelProto:
    """Keys and values are multiplied first: no softmax over positions; relu makes them positive."""
    net = Net()
    x = net.dense(net.input("n", 5, 7), MODEL, 7)
    query, key = (net.add("Relu", _apart(net, _dense(net, x, HEADS * WIDTH))) for _ in range(2))
    value = _apart(net, _dense(net, x, HEADS * WIDTH))
    padded = net.add("Pad", value, net.constant([0, 0, 0, 0, 0, 0, 0, 1]), _one(net, 1.0))
    inner = net.add("MatMul", net.add("Transpose", key, perm=[0, 1, 3, 2]), padded)
    made = net.add("MatMul", query, inner)
    top = net.add("Slice", made, *(net.constant([k]) for k in (0, -1, 3)))
    below = net.add("Slice", made, *(net.constant([k]) for k in (-1, 2**63 - 1, 3)))
    mixed = net.add("Div", top, net.add("Add", below, _one(net, 1e-3)))
    merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, 0, HEADS * WIDTH]))
    return net.done(net.dense(merged, 2, HEADS * WIDTH))


def _pooled_by_query() -> ModelProto:
    """A learned query looks at all positions."""
    net = Net()
    x = net.dense(net.input("n", 5, 7), MODEL, 7)
    return net.done(net.dense(_attend(net, net.add("Unsqueeze", net.weight(1, MODEL), net.constant([0])), x), 2, MODEL))


def _gated_positions() -> ModelProto:
    """gMLP: a half is multiplied by a layer over positions of the other half."""
    net = Net()
    stream = net.dense(net.input("n", 5, 7), MODEL, 7)
    first, second = net.many("Split", 2, net.add("Relu", _dense(net, stream, 12)), net.constant([6, 6]), axis=-1)
    turned = net.add("Transpose", second, perm=[0, 2, 1])
    spread = net.add("Transpose", net.add("Add", net.dense(turned, 5, 5), net.weight(5)), perm=[0, 2, 1])
    return net.done(net.dense(net.add("Mul", first, spread), 2, 6))


def _mixer() -> ModelProto:
    """Layers over positions, whose hidden ones go, in turn with layers over channels."""
    net = Net()
    stream = net.dense(net.input("n", 5, 7), MODEL, 7)
    turned = net.add("Transpose", _norm(net, stream), perm=[0, 2, 1])
    hidden = net.add("Relu", _dense(net, turned, 6, 5))
    stream = net.add("Add", stream, net.add("Transpose", _dense(net, hidden, 5, 6), perm=[0, 2, 1]))
    stream = net.add("Add", stream, _feed(net, _norm(net, stream)))
    return net.done(net.dense(stream, 2, MODEL))


_FEEDS = {
    "Relu": lambda net, x: net.add("Relu", x),
    "GELU by Erf": _gelu_by_erf,
    "GELU by Tanh": _gelu_by_tanh,
    "GELU by Sigmoid": _quick_gelu,
    "SiLU": _silu,
}

CASES: tuple[Case, ...] = (
    *_streams("block", _block(), (4, 9), (4, 8, 9)),
    *_streams("block, normalised after", _block(after=True), (4, 9), (4, 8, 9), held=2),
    *_streams("block with scales of layers", _block(scale=True), (4, 9), (4, 8, 9)),
    *_streams("block with a class token", _block(token=True), (4, 9), (4, 8, 9)),
    *_streams("block, gated", _block(feed=_gated_by_split), (4, 9), (4, 8, 9)),
    _case("class token for each of the batch", _token_by_batch, (4, 8)),
    _case("attention to another sequence", _cross, (4, 8, 8)),
    _case("attention to fewer positions", _memory, (4, 6, 8)),
    _case("attention of a learned query", _pooled_by_query, (4, 8, 8, 8)),
    *_streams("shifted windows", _windows, (4, 6), (4, 6, 8)),
    *_streams("ConvNeXt", _next_block, (9, 9), (8, 9, 9)),
    *(_case(f"feed-forward, {name}", _fed(_active(between)), (8, 9)) for name, between in _FEEDS.items()),
    _case("feed-forward, Gelu", _fed(_active(lambda net, x: net.add("Gelu", x)), 20), (8, 9)),
    _case(
        "feed-forward, Gelu by tanh", _fed(_active(lambda net, x: net.add("Gelu", x, approximate="tanh")), 20), (8, 9)
    ),
    _case(
        "feed-forward, FastGelu", _fed(_active(lambda net, x: net.add("FastGelu", x, domain="com.microsoft"))), (8, 9)
    ),
    _case("feed-forward, gated by two layers", _fed(_gated_by_two), (8, 9)),
    _case("feed-forward, gated by Split", _fed(_gated_by_split), (8, 9)),
    _case("feed-forward, gated by Slice", _fed(_gated_by_slice), (8, 9)),
    _case("feed-forward, gated by pairs", _fed(_gated_by_pairs), (8, 9)),
    _case("disentangled attention", _disentangled, (4, 8)),
    _case("disentangled attention, features", _disentangled, (3, 8, 12), opened=INSIDE),
    _case("attention over channels", _over_channels, (4, 8)),
    _case("attention over channels, features", _over_channels, (4, 8), opened=INSIDE),
    _case("linear attention", _linear_attention, (4, 8)),
    _case("linear attention, features", _linear_attention, (3, 8, 12), opened=INSIDE),
    _case("layers over gated positions", _gated_positions, (6, 8), ("GRAPH_INPUT", 5)),
    _case("mixer", _mixer, (6, 9), ("GRAPH_INPUT", 5), ("GRAPH_INPUT", MODEL), ("NORMALIZED", MODEL)),
    _case("mixer, streams", _mixer, (6, 8, 9), ("GRAPH_INPUT", 5), opened=STREAMS),
)
