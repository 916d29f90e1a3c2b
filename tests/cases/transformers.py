"""Cases of attention as exporters spell it: whole heads go, or features of a head where these are opened.

Networks have four heads of four features (of two, where keys are shared), whose values have three.
"""

from collections.abc import Callable, Sequence

import numpy as np
from net import Net
from onnx import ModelProto, TensorProto

from cases.case import Case
from onnxprune.ops.trace import Opened

__all__ = ["CASES"]

FLOAT = TensorProto.FLOAT
WHOLE, INSIDE = Opened(), Opened(inside_heads=True)
HEADS, WIDTH, OTHER, LENGTH, MODEL = 4, 4, 3, 5, 7

Make = Callable[[], ModelProto]
Three = Sequence[str]
Step = Callable[[Net, str], str]


def _cases(
    name: str,
    make: Make,
    heads: tuple[int, ...],
    features: tuple[int, ...],
    *,
    pins: Sequence[tuple[str, int]] = (),
    inner: Sequence[tuple[str, int]] = (),
) -> tuple[Case, Case]:
    return (
        Case(None, name, make, heads, tuple(pins), scaled=False),
        Case(None, f"{name}, features", make, features, tuple(inner), scaled=False, opened=INSIDE),
    )


def _dense(net: Net, x: str, made: int, read: int = MODEL) -> str:
    return net.add("Add", net.dense(x, made, read), net.weight(made))


def _apart(net: Net, x: str, heads: int = HEADS) -> str:
    """(batch, positions, heads · features) as (batch, heads, positions, features)."""
    return net.add("Transpose", net.add("Reshape", x, net.constant([0, 0, heads, -1])), perm=[0, 2, 1, 3])


def _mix(net: Net, query: str, key: str, value: str, scores: Step = lambda net, x: x) -> str:
    """Scores, their softmax, and the values mixed by them."""
    made = scores(net, net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2])))
    return net.add("MatMul", net.add("Softmax", made, axis=-1), value)


def _out(net: Net, mixed: str, size: int = HEADS * OTHER) -> ModelProto:
    merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, 0, size]))
    return net.done(net.dense(merged, 2, size))


# ---- projections -----------------------------------------------------------------------------------------------------


def _projected(project: Callable[[Net, str], Three], *, length: int | str = LENGTH, size: int = HEADS * OTHER) -> Make:
    def make() -> ModelProto:
        net = Net()
        return _out(net, _mix(net, *project(net, net.input("n", length, MODEL))), size)

    return make


def _by_gemm(net: Net, x: str) -> Three:
    """Positions are laid beside the batch."""
    flat = net.add("Reshape", x, net.constant([-1, MODEL]))
    parts = [net.gemm(flat, HEADS * size, MODEL) for size in (WIDTH, WIDTH, OTHER)]
    shaped = [
        net.add("Reshape", part, net.constant([-1, LENGTH, HEADS, size]))
        for part, size in zip(parts, (WIDTH, WIDTH, OTHER), strict=True)
    ]
    return [net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in shaped]


def _by_matmul(net: Net, x: str, width: int = WIDTH) -> Three:
    return [_apart(net, _dense(net, x, HEADS * size)) for size in (width, width, OTHER)]


def _split(net: Net, x: str) -> Three:
    sizes = net.constant([HEADS * size for size in (WIDTH, WIDTH, OTHER)])
    return [
        _apart(net, part) for part in net.many("Split", 3, _dense(net, x, HEADS * (2 * WIDTH + OTHER)), sizes, axis=2)
    ]


def _sliced(net: Net, x: str) -> Three:
    made = _dense(net, x, 3 * HEADS * OTHER)
    bounds = [(k * HEADS * OTHER, (k + 1) * HEADS * OTHER) for k in range(3)]
    cut = [net.add("Slice", made, *(net.constant([number]) for number in (*bound, -1))) for bound in bounds]
    return [_apart(net, part) for part in cut]


def _gathered(net: Net, x: str) -> Three:
    """(3, batch, heads, positions, features), one of three taken at a time."""
    seen = net.add("Reshape", _dense(net, x, 3 * HEADS * OTHER), net.constant([0, 0, 3, HEADS, OTHER]))
    turned = net.add("Transpose", seen, perm=[2, 0, 3, 1, 4])
    return [net.add("Gather", turned, net.constant(number), axis=0) for number in range(3)]


def _unbound(net: Net, x: str) -> Three:
    seen = net.add("Reshape", _dense(net, x, 3 * HEADS * OTHER), net.constant([0, 0, 3, HEADS, OTHER]))
    parts = net.many("Split", 3, net.add("Transpose", seen, perm=[2, 0, 3, 1, 4]), net.constant([1, 1, 1]), axis=0)
    return [net.add("Squeeze", part, net.constant([0])) for part in parts]


def _three_of_a_head(net: Net, x: str) -> Three:
    """Queries, keys and values of a head lie beside one another."""
    seen = net.add("Reshape", _dense(net, x, 3 * HEADS * OTHER), net.constant([0, 0, HEADS, 3 * OTHER]))
    parts = net.many("Split", 3, net.add("Transpose", seen, perm=[0, 2, 1, 3]), net.constant([OTHER] * 3), axis=-1)
    return list(parts)


def _three_of_a_head_apart(net: Net, x: str) -> Three:
    seen = net.add("Reshape", _dense(net, x, 3 * HEADS * OTHER), net.constant([0, 0, HEADS, 3, OTHER]))
    parts = [net.add("Gather", seen, net.constant(number), axis=3) for number in range(3)]
    return [net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in parts]


def _pointwise_convolutions(net: Net, x: str) -> Three:
    """Channels first: (batch, heads, features, positions)."""
    picture = net.add("Unsqueeze", net.add("Transpose", x, perm=[0, 2, 1]), net.constant([3]))
    shape = net.constant([0, HEADS, -1, LENGTH])
    parts = [net.add("Reshape", net.conv(picture, HEADS * size, MODEL), shape) for size in (WIDTH, WIDTH, OTHER)]
    return [net.add("Transpose", part, perm=[0, 1, 3, 2]) for part in parts]


def _in_depth_first(net: Net, x: str) -> Three:
    """Features are the outer axis, heads the inner: no rows of features lie beside one another."""
    parts = [
        net.add("Reshape", _dense(net, x, HEADS * size), net.constant([0, 0, size, HEADS]))
        for size in (WIDTH, WIDTH, OTHER)
    ]
    return [net.add("Transpose", part, perm=[0, 3, 1, 2]) for part in parts]


def _turned_beside_the_batch(batch: int | str) -> Make:
    """As PyTorch takes scaled_dot_product_attention apart: keys are turned with batch and heads along one axis."""

    def make() -> ModelProto:
        net = Net()
        query, key, value = _by_matmul(net, net.input(batch, LENGTH, MODEL))
        front = net.add("Slice", net.add("Shape", key), net.constant([0]), net.constant([2]))
        flat = net.add("Reshape", key, net.constant([-1, LENGTH, WIDTH]))
        turned = net.add("Transpose", flat, perm=[0, 2, 1])
        back = net.add("Reshape", turned, net.add("Concat", front, net.constant([WIDTH, LENGTH]), axis=0))
        mixed = net.add("MatMul", net.add("Softmax", net.add("MatMul", query, back), axis=-1), value)
        return _out(net, mixed)

    return make


# ---- scores ----------------------------------------------------------------------------------------------------------


def _scored(scores: Step, *, length: int | str = LENGTH) -> Make:
    def make() -> ModelProto:
        net = Net()
        return _out(net, _mix(net, *_by_matmul(net, net.input("n", length, MODEL)), scores))

    return make


def _by_constant(net: Net, scores: str) -> str:
    return net.add("Div", scores, net.constant(2.0, np.float32))


def _size(net: Net, x: str) -> str:
    """Root of the number of features, computed from a shape."""
    size = net.add("Slice", net.add("Shape", x), net.constant([-1]), net.constant([2**31 - 1]))
    return net.add("Sqrt", net.add("Cast", net.add("Squeeze", size), to=FLOAT))


def _by_shape() -> ModelProto:
    net = Net()
    query, key, value = _by_matmul(net, net.input("n", LENGTH, MODEL))
    root = _size(net, query)
    return _out(net, _mix(net, query, key, value, lambda net, x: net.add("Div", x, root)))


def _root_on_both_sides() -> ModelProto:
    """As PyTorch exports scaled_dot_product_attention: queries and keys get the root of the scale each."""
    net = Net()
    query, key, value = _by_matmul(net, net.input("n", LENGTH, MODEL))
    root = net.add("Sqrt", net.add("Div", net.constant(1.0, np.float32), _size(net, query)))
    return _out(net, _mix(net, net.add("Mul", query, root), net.add("Mul", key, root), value))


def _masked(net: Net, scores: str) -> str:
    mask = net.constant(np.tril(np.ones((1, 1, LENGTH, LENGTH))), np.bool_)
    return net.add("Where", mask, scores, net.constant(-1e9, np.float32))


def _padded() -> ModelProto:
    """A mask from outside, one for all heads."""
    net = Net()
    x, mask = net.input("n", "s", MODEL), net.input("n", "s", kind=TensorProto.BOOL)
    wide = net.add("Unsqueeze", net.add("Cast", mask, to=FLOAT), net.constant([1, 2]))
    added = net.add("Mul", net.add("Sub", net.constant(1.0, np.float32), wide), net.constant(-1e4, np.float32))
    return _out(net, _mix(net, *_by_matmul(net, x), lambda net, scores: net.add("Add", scores, added)))


def _added(net: Net, scores: str) -> str:
    return net.add("Add", scores, net.weight(LENGTH, LENGTH))


def _added_by_head(net: Net, scores: str) -> str:
    return net.add("Add", scores, net.weight(1, HEADS, LENGTH, LENGTH))


def _slopes(net: Net, scores: str) -> str:
    """ALiBi: a slope for each head, times the distance."""
    distance = net.constant(np.arange(LENGTH)[None, :] - np.arange(LENGTH)[:, None], np.float32)
    return net.add("Add", scores, net.add("Mul", net.weight(HEADS, 1, 1), distance))


def _relative(net: Net, scores: str) -> str:
    """Swin: a table (distances, heads), looked up by constant numbers."""
    places = net.constant((np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :] + LENGTH - 1).reshape(-1))
    looked = net.add("Gather", net.weight(2 * LENGTH - 1, HEADS), places, axis=0)
    seen = net.add("Reshape", looked, net.constant([LENGTH, LENGTH, HEADS]))
    return net.add("Add", scores, net.add("Unsqueeze", net.add("Transpose", seen, perm=[2, 0, 1]), net.constant([0])))


def _buckets(net: Net, scores: str) -> str:
    """T5: an embedding (buckets, heads) of every pair of positions."""
    places = net.constant(np.abs(np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :]))
    looked = net.add("Gather", net.weight(LENGTH, HEADS), places, axis=0)
    return net.add("Add", scores, net.add("Unsqueeze", net.add("Transpose", looked, perm=[2, 0, 1]), net.constant([0])))


def _layer_of_distances(net: Net, scores: str) -> str:
    """Swin V2: the table is made by two layers of coordinates, 16 · sigmoid; scores have a scale of each head."""
    hidden = net.add("Relu", net.gemm(net.constant(np.linspace(-1, 1, 18).reshape(9, 2), np.float32), 6, 2))
    table = net.dense(hidden, HEADS, 6)
    places = net.constant((np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :] + LENGTH - 1).reshape(-1))
    seen = net.add("Reshape", net.add("Gather", table, places, axis=0), net.constant([LENGTH, LENGTH, HEADS]))
    bias = net.add(
        "Mul", net.constant(16.0, np.float32), net.add("Sigmoid", net.add("Transpose", seen, perm=[2, 0, 1]))
    )
    scaled = net.add("Mul", scores, net.add("Exp", net.weight(HEADS, 1, 1)))
    return net.add("Add", scaled, net.add("Unsqueeze", bias, net.constant([0])))


def _talking(net: Net, scores: str) -> str:
    """CaiT: a layer over the axis of heads."""
    turned = net.add("Transpose", scores, perm=[0, 2, 3, 1])
    return net.add("Transpose", _dense(net, turned, HEADS, HEADS), perm=[0, 3, 1, 2])


def _talking_by_convolution(net: Net, scores: str) -> str:
    return net.conv(scores, HEADS, HEADS)


def _cosine() -> ModelProto:
    """Swin V2: queries and keys have length one."""
    net = Net()
    query, key, value = _by_matmul(net, net.input("n", LENGTH, MODEL))
    query, key = (net.add("LpNormalization", part, axis=-1, p=2) for part in (query, key))
    return _out(net, _mix(net, query, key, value, lambda net, x: net.add("Mul", x, net.weight(HEADS, 1, 1))))


def _normalised() -> ModelProto:
    """Queries and keys go through a LayerNormalization over each head's features."""
    net = Net()
    query, key, value = _by_matmul(net, net.input("n", LENGTH, MODEL))
    query, key = (net.add("LayerNormalization", part, net.weight(WIDTH), net.weight(WIDTH)) for part in (query, key))
    return _out(net, _mix(net, query, key, value))


def _normalised_in_one(project: Callable[[Net, str], Three]) -> Make:
    """As before, of one layer that makes queries, keys and values."""

    def make() -> ModelProto:
        net = Net()
        query, key, value = project(net, net.input("n", LENGTH, MODEL))
        query, key = (net.add("LayerNormalization", x, net.weight(OTHER), net.weight(OTHER)) for x in (query, key))
        return _out(net, _mix(net, query, key, value))

    return make


# ---- rotation --------------------------------------------------------------------------------------------------------


def _angles(net: Net, tables: str, width: int) -> tuple[str, str]:
    """Cosines and sines: "stored" (1, 1, positions, features), "looked up" by position, or "computed"."""
    if tables == "stored":
        half = [net.rng.standard_normal((1, 1, LENGTH, width // 2)) for _ in range(2)]
        cosine, sine = (net.constant(np.concatenate([part, part], axis=-1), np.float32) for part in half)
        return cosine, sine
    if tables == "looked up":
        places = net.input("n", LENGTH, kind=TensorProto.INT64)
        found = [net.add("Gather", net.weight(9, width), places, axis=0) for _ in range(2)]
        cosine, sine = (net.add("Unsqueeze", part, net.constant([1])) for part in found)
        return cosine, sine
    frequency = net.constant(1.0 / 3.0 ** np.arange(width // 2), np.float32)
    column = net.add("Unsqueeze", frequency, net.constant([0, 2]))
    places = net.constant(np.arange(LENGTH).reshape(1, 1, LENGTH), np.float32)
    angle = net.add("Transpose", net.add("MatMul", column, places), perm=[0, 2, 1])
    wide = net.add("Unsqueeze", net.add("Concat", angle, angle, axis=-1), net.constant([1]))
    return net.add("Cos", wide), net.add("Sin", wide)


def _halves(net: Net, x: str, width: int) -> str:
    """(x₁, x₂) becomes (−x₂, x₁)."""
    half = width // 2
    first = net.add("Slice", x, *(net.constant([number]) for number in (0, half, 3)))
    second = net.add("Slice", x, *(net.constant([number]) for number in (half, 2**63 - 1, 3)))
    return net.add("Concat", net.add("Neg", second), first, axis=-1)


def _halves_by_split(net: Net, x: str, width: int) -> str:
    first, second = net.many("Split", 2, x, net.constant([width // 2] * 2), axis=-1)
    return net.add("Concat", net.add("Neg", second), first, axis=-1)


def _rotated(tables: str, halves: Callable[[Net, str, int], str], *, turned: int = WIDTH, rest: int = 0) -> Make:
    """The first `turned` features of each head are rotated, the rest is not."""

    def turn(net: Net, x: str, cosine: str, sine: str) -> str:
        passed = ""
        if rest:
            x, passed = net.many("Split", 2, x, net.constant([turned, rest]), axis=-1)
        made = net.add("Add", net.add("Mul", x, cosine), net.add("Mul", halves(net, x, turned), sine))
        return net.add("Concat", made, passed, axis=-1) if rest else made

    def make() -> ModelProto:
        net = Net()
        query, key, value = _by_matmul(net, net.input("n", LENGTH, MODEL), turned + rest)
        angles = _angles(net, tables, turned)
        return _out(net, _mix(net, turn(net, query, *angles), turn(net, key, *angles), value))

    return make


def _interleaved(how: str) -> Make:
    """Pairs of features lie beside one another; "strides" takes every second one, "pairs" gives them an axis."""

    def turn(net: Net, x: str, cosine: str, sine: str) -> str:
        if how == "strides":
            cuts = [[net.constant([number]) for number in (start, 2**63 - 1, 3, 2)] for start in (0, 1)]
            first, second = (net.add("Slice", x, *cut) for cut in cuts)
        else:
            seen = net.add("Reshape", x, net.constant([0, HEADS, LENGTH, WIDTH // 2, 2]))
            first, second = (net.add("Gather", seen, net.constant(number), axis=-1) for number in (0, 1))
        one = net.add("Sub", net.add("Mul", first, cosine), net.add("Mul", second, sine))
        two = net.add("Add", net.add("Mul", first, sine), net.add("Mul", second, cosine))
        pairs = [net.add("Unsqueeze", part, net.constant([4])) for part in (one, two)]
        return net.add("Reshape", net.add("Concat", *pairs, axis=-1), net.constant([0, HEADS, LENGTH, WIDTH]))

    def make() -> ModelProto:
        net = Net()
        query, key, value = _by_matmul(net, net.input("n", LENGTH, MODEL))
        angles = [net.weight(LENGTH, WIDTH // 2) for _ in range(2)]
        return _out(net, _mix(net, turn(net, query, *angles), turn(net, key, *angles), value))

    return make


# ---- keys and values that heads share --------------------------------------------------------------------------------


def _repeated_by_expand(net: Net, x: str) -> str:
    """(batch, 2, positions, features) becomes (batch, 4, …): the heads of one beside one another."""
    wide = net.add("Expand", net.add("Unsqueeze", x, net.constant([2])), net.constant([1, 1, 2, 1, 1]))
    return net.add("Reshape", wide, net.constant([0, HEADS, LENGTH, -1]))


def _repeated_by_tile(net: Net, x: str) -> str:
    """Heads in turn: 0, 1, 0, 1."""
    return net.add("Tile", x, net.constant([1, 2, 1, 1]))


def _repeated_by_gather(net: Net, x: str) -> str:
    return net.add("Gather", x, net.constant([0, 0, 1, 1]), axis=1)


def _repeated_by_concat(net: Net, x: str) -> str:
    return net.add("Concat", x, x, axis=1)


def _repeated_on_an_axis(net: Net, x: str) -> str:
    """Tile on an axis of its own, as repeat_interleave is written out."""
    wide = net.add("Tile", net.add("Unsqueeze", x, net.constant([2])), net.constant([1, 1, 2, 1, 1]))
    return net.add("Reshape", wide, net.constant([0, HEADS, LENGTH, -1]))


def _shared(repeat: Step, heads: int = 2) -> Make:
    def make() -> ModelProto:
        net = Net()
        x = net.input("n", LENGTH, MODEL)
        query = _apart(net, _dense(net, x, HEADS * WIDTH))
        key, value = (repeat(net, _apart(net, _dense(net, x, heads * size), heads)) for size in (WIDTH, OTHER))
        return _out(net, _mix(net, query, key, value))

    return make


def _sharing_on_an_axis() -> ModelProto:
    """Queries get an axis for those that share a key: (batch, 2, 2, positions, features)."""
    net = Net()
    x = net.input("n", LENGTH, MODEL)
    seen = net.add("Reshape", _dense(net, x, HEADS * WIDTH), net.constant([0, 0, 2, 2, WIDTH]))
    query = net.add("Transpose", seen, perm=[0, 2, 3, 1, 4])
    parts = [_apart(net, _dense(net, x, 2 * size), 2) for size in (WIDTH, OTHER)]
    key, value = (net.add("Unsqueeze", part, net.constant([2])) for part in parts)
    scores = net.add("Softmax", net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 2, 4, 3])), axis=-1)
    turned = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 3, 1, 2, 4])
    merged = net.add("Reshape", turned, net.constant([0, 0, HEADS * OTHER]))
    return net.done(net.dense(merged, 2, HEADS * OTHER))


def _shared_and_normalised() -> ModelProto:
    """Whole heads alone can go of queries and keys, so that values follow, though they are repeated before."""
    net = Net()
    x = net.input("n", LENGTH, MODEL)
    query, key = (_apart(net, _dense(net, x, heads * WIDTH), heads) for heads in (HEADS, 2))
    value = _repeated_by_expand(net, _apart(net, _dense(net, x, 2 * OTHER), 2))
    query, key = (net.add("LayerNormalization", part, net.weight(WIDTH), net.weight(WIDTH)) for part in (query, key))
    return _out(net, _mix(net, query, _repeated_by_expand(net, key), value))


def _shared_by_all(*, expand: bool) -> Make:
    """One key and one value for all heads, by broadcasting or by Expand."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", LENGTH, MODEL)
        query = _apart(net, _dense(net, x, HEADS * WIDTH))
        key, value = (net.add("Unsqueeze", _dense(net, x, size), net.constant([1])) for size in (WIDTH, OTHER))
        if expand:
            wide = net.constant([1, HEADS, 1, 1])
            key, value = (net.add("Expand", part, wide) for part in (key, value))
        return _out(net, _mix(net, query, key, value))

    return make


_ONE_KEY = [("CONFLICT", OTHER), ("POSITION", WIDTH)]

CASES: tuple[Case, ...] = (
    *_cases("attention, MatMul and Add", _projected(_by_matmul, length="s"), (4,), (12, 16)),
    *_cases("attention, Gemm", _projected(_by_gemm), (4,), (12, 16)),
    *_cases("attention, Split", _projected(_split), (4,), (12, 16)),
    *_cases("attention, Slice", _projected(_sliced), (4,), (12, 12)),
    *_cases("attention, one of three at a time", _projected(_gathered), (4,), (12,)),
    *_cases("attention, unbound", _projected(_unbound), (4,), (12,)),
    *_cases("attention, three of a head", _projected(_three_of_a_head), (4,), (3, 3)),
    *_cases("attention, three of a head apart", _projected(_three_of_a_head_apart), (4,), (12,)),
    *_cases("attention, pointwise convolutions", _projected(_pointwise_convolutions), (4,), (12, 16)),
    *_cases("attention, features first", _projected(_in_depth_first), (4,), (3, 4)),
    *_cases("keys turned beside the batch", _turned_beside_the_batch("n"), (4,), (12, 16)),
    *_cases("keys turned beside a batch of two", _turned_beside_the_batch(2), (4,), (12, 16)),
    *_cases("scores by a constant", _scored(_by_constant), (4,), (12, 16)),
    *_cases("scores by a shape", _by_shape, (4,), (12, 16)),
    *_cases("root of the scale on both sides", _root_on_both_sides, (4,), (12, 16)),
    *_cases("scores masked", _scored(_masked), (4,), (12, 16)),
    *_cases("scores masked from outside", _padded, (4,), (12, 16)),
    *_cases("added scores", _scored(_added), (4,), (12, 16)),
    *_cases("added scores by head", _scored(_added_by_head), (4,), (12, 16)),
    *_cases("slopes", _scored(_slopes), (4,), (12, 16)),
    *_cases("table of distances", _scored(_relative), (4,), (12, 16)),
    *_cases("buckets of distances", _scored(_buckets), (4,), (12, 16)),
    *_cases(
        "layers of distances", _scored(_layer_of_distances), (2, 4, 6), (2, 6, 12, 16), inner=[("GRAPH_INPUT", HEADS)]
    ),
    *_cases("talking heads", _scored(_talking), (4, 4), (12, 16), inner=[("POSITION", 4)]),
    *_cases(
        "talking heads by convolution", _scored(_talking_by_convolution), (4, 4), (12, 16), inner=[("POSITION", 4)]
    ),
    *_cases("cosine of queries and keys", _cosine, (4,), (4, 12)),
    *_cases("normalised queries and keys", _normalised, (4,), (4,)),
    *_cases("normalised queries and keys, one of three at a time", _normalised_in_one(_gathered), (4,), (4,)),
    *_cases(
        "normalised queries and keys, three of a head",
        _normalised_in_one(_three_of_a_head),
        (4,),
        (3,),
        inner=[("NORMALIZED", OTHER)] * 2,
    ),
    *_cases("normalised queries and keys, Slice", _normalised_in_one(_sliced), (4,), (4,)),
    *_cases("rotation, stored", _rotated("stored", _halves), (4,), (2, 12)),
    *_cases("rotation, by Split", _rotated("stored", _halves_by_split), (4,), (2, 12)),
    *_cases("rotation, looked up", _rotated("looked up", _halves), (4,), (2, 12)),
    *_cases("rotation, computed", _rotated("computed", _halves), (4,), (2, 12)),
    *_cases("rotation of some features", _rotated("stored", _halves, rest=3), (4,), (2, 3, 12)),
    *_cases("rotation by strides", _interleaved("strides"), (4,), (2, 12)),
    *_cases("rotation by pairs", _interleaved("pairs"), (4,), (2, 12)),
    *_cases("shared keys, Expand", _shared(_repeated_by_expand), (2,), (6, 8)),
    *_cases("shared keys, Tile", _shared(_repeated_by_tile), (2,), (6, 8)),
    *_cases("shared keys, Gather", _shared(_repeated_by_gather), (2,), (6, 8)),
    *_cases("shared keys, Concat", _shared(_repeated_by_concat), (2,), (6, 8)),
    *_cases("shared keys, Tile on an axis", _shared(_repeated_on_an_axis), (2,), (6, 8)),
    *_cases("shared keys on an axis", _sharing_on_an_axis, (2,), (6, 8)),
    *_cases("shared keys, normalised", _shared_and_normalised, (2,), (2,)),
    *_cases("keys shared by all", _shared_by_all(expand=False), (4,), (3, 4), pins=_ONE_KEY),
    *_cases("keys shared by all, Expand", _shared_by_all(expand=True), (4,), (3, 4), pins=_ONE_KEY),
)
