"""Cases of Einsum."""

from collections.abc import Callable

from net import Net
from onnx import ModelProto

from cases.case import Case, Row, row
from onnxprune.ops.trace import Opened

__all__ = ["CASES"]

_EINSUM: Row = row("Einsum", 12)
_INSIDE = Opened(inside_heads=True)

Make = Callable[[], ModelProto]


def _sum(net: Net, equation: str, *inputs: str) -> str:
    return net.add("Einsum", *inputs, equation=equation)


def _layer(equation: str, *sizes: int, last: str = "nsj,jk->nsk") -> Make:
    """Features of a dense layer go through an equation that multiplies them by a weight of the given sizes."""

    def make() -> ModelProto:
        net = Net()
        hidden = net.add("Sigmoid", net.dense(net.input("n", 5, 3), 6, 3))
        made = _sum(net, equation, hidden, net.weight(*sizes))
        return net.done(_sum(net, last, net.add("Sigmoid", made), net.weight(sizes[-1], 2)))

    return make


def _of_one(equation: str, after: Callable[[Net, str], str] | None = None) -> Make:
    """An equation of one input, the features (n, s, i) of a dense layer."""

    def make() -> ModelProto:
        net = Net()
        made = _sum(net, equation, net.add("Sigmoid", net.dense(net.input("n", 5, 3), 6, 3)))
        return net.done(made if after is None else after(net, made))

    return make


def _on_the_left(net: Net, x: str) -> str:
    return net.add("MatMul", net.weight(2, 6), x)


def _as_rows(net: Net, x: str) -> str:
    """Features come first."""
    return net.add("MatMul", net.weight(2, 6), net.add("Transpose", x, perm=[1, 0, 2]))


def _of_two(equation: str, made: tuple[int, int] = (6, 6), read: int | None = 6) -> Make:
    """An equation of two dense layers' features."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 5, 3)
        first, second = (net.add("Sigmoid", net.dense(x, size, 3)) for size in made)
        product = _sum(net, equation, first, second)
        return net.done(product if read is None else net.dense(product, 2, read))

    return make


def _of_three(equation: str) -> Make:
    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 5, 3)
        first, second = (net.add("Sigmoid", net.dense(x, 6, 3)) for _ in range(2))
        return net.done(net.dense(_sum(net, equation, first, net.weight(6, 7), second), 2, 7))

    return make


def _diagonal(equation: str, *, summed: bool) -> Make:
    """Of an outer product (n, i, j)."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3)
        outer = _sum(net, "ni,nj->nij", net.dense(x, 6, 3), net.dense(x, 6, 3))
        made = _sum(net, equation, outer)
        return net.done(made if summed else net.gemm(made, 2, 6))

    return make


def _heads_in_weights() -> ModelProto:
    """Weights of projections are stored as (features, heads, features of a head)."""
    net = Net()
    x = net.input("n", 5, 7)
    query, key, value = (_sum(net, "bsc,chd->bshd", x, net.weight(7, 4, size)) for size in (3, 3, 5))
    scores = net.add("Softmax", _sum(net, "bqhd,bkhd->bhqk", query, key), axis=-1)
    mixed = _sum(net, "bhqk,bkhd->bqhd", scores, value)
    return net.done(_sum(net, "bqhd,hdc->bqc", mixed, net.weight(4, 5, 2)))


def _heads(net: Net, x: str, width: int = 3) -> str:
    made = net.add("Add", net.dense(x, 4 * width, 7), net.weight(4 * width))
    return net.add("Reshape", made, net.constant([0, 0, 4, width]))


def _attention(scores: str, mix: str, *, transposed: bool = False, stored: bool = False) -> Make:
    """Projections are reshaped to heads, the rest is written as equations; the output's weight may keep heads apart."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", "s", 7)
        query, key, value = _heads(net, x), _heads(net, x), _heads(net, x, 5)
        if transposed:
            query, key, value = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, key, value))
        mixed = _sum(net, mix, net.add("Softmax", _sum(net, scores, query, key), axis=-1), value)
        if stored:
            return net.done(_sum(net, "bqhd,hdc->bqc", mixed, net.weight(4, 5, 2)))
        return net.done(net.dense(net.add("Reshape", mixed, net.constant([0, 0, 20])), 2, 20))

    return make


def _heads_beside_one_another(opened: Opened) -> Case:
    """Queries share one key: (b, q, h, d) and (b, k, d)."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 5, 7)
        scores = _sum(net, "bqhd,bkd->bhqk", _heads(net, x), net.dense(x, 3, 7))
        mixed = _sum(net, "bhqk,bkhd->bqhd", net.add("Softmax", scores, axis=-1), _heads(net, x))
        return net.done(net.dense(net.add("Reshape", mixed, net.constant([0, 0, 12])), 2, 12))

    inside = opened.inside_heads
    pins = () if inside else (("POSITION", 3),)
    return _case(f"one key, inside {inside}", make, (3, 12) if inside else (4,), *pins, scaled=False, opened=opened)


def _case(
    name: str,
    make: Make,
    groups: tuple[int, ...],
    *pins: tuple[str, int],
    scaled: bool = True,
    opened: Opened = Opened(),  # noqa: B008  a frozen value
) -> Case:
    return Case(_EINSUM, name, make, groups, pins, scaled=scaled, opened=opened)


CASES: tuple[Case, ...] = (
    _case("a layer", _layer("nsi,ij->nsj", 6, 7), (6, 7)),
    _case("a layer, spaces", _layer("n s i , i j -> n s j", 6, 7), (6, 7)),
    _case("a layer, no output spelled", _layer("abi,ij", 6, 7, last="abj,jk"), (6, 7)),
    _case("a layer, ellipsis", _layer("...i,ij->...j", 6, 7, last="...j,jk->...k"), (6, 7)),
    _case("a layer, ellipsis, no output spelled", _layer("...i,ij", 6, 7, last="...j,jk"), (6, 7)),
    _case("a layer, ellipses of other sizes", _layer("...si,...ij->...sj", 1, 6, 7, last="...j,jk->...k"), (6, 7)),
    _case("a weight per position", _layer("nsi,sij->nsj", 5, 6, 7), (6, 7)),
    _case("a weight beside", _layer("nsi,i->nsi", 6), (6,), scaled=False),
    _case("transposed", _of_one("nsi->nis", _on_the_left), (6,)),
    _case("transposed, no output spelled", _of_one("bca", _as_rows), (6,)),
    _case("summed up", _of_one("nsi->ns"), (6,), scaled=False),
    _case("summed up altogether", _of_one("nsi->"), (6,), scaled=False),
    _case("summed up, ellipsis", _of_one("...i->..."), (6,), scaled=False),
    _case("diagonal", _diagonal("nii->ni", summed=False), (6,)),
    _case("trace", _diagonal("nii->n", summed=True), (6,), scaled=False),
    _case("scores", _of_two("nqi,nki->nqk", read=5), (6,), scaled=False),
    _case("element by element", _of_two("nsi,nsi->nsi"), (6,)),
    _case("outer product", _of_two("nsi,nsj->nij", (6, 7), 7), (7,)),
    _case("outer product, summed up", _of_two("nsi,nsj->n", (6, 7), None), (6, 7), scaled=False),
    _case("three factors", _of_three("nsi,ij,nsi->nsj"), (6, 7), scaled=False),
    _case("three factors, one contracted with one", _of_three("nsi,ij,nsk->nsj"), (6, 6, 7), scaled=False),
    _case("heads in weights", _heads_in_weights, (3, 4, 5), scaled=False),
    *(
        _case(
            f"attention, {name}, inside {inside}", make, (3 * 4, 5 * 4) if inside else (4,), scaled=False, opened=opened
        )
        for inside, opened in ((False, Opened()), (True, _INSIDE))
        for name, make in (
            ("heads third", _attention("bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd")),
            ("heads second", _attention("bhqd,bhkd->bhqk", "bhqk,bhkd->bqhd", transposed=True)),
            ("heads in an ellipsis", _attention("...qd,...kd->...qk", "b...qk,b...kd->bq...d", transposed=True)),
        )
    ),
    _case(
        "attention, output by head", _attention("bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", stored=True), (4,), scaled=False
    ),
    _heads_beside_one_another(Opened()),
    _heads_beside_one_another(_INSIDE),
)
