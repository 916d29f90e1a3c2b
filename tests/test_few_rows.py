"""Readers of few rows: how tightly they hold on to their weights is tried on rows left out; what a mean hides helps."""

import numpy as np
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnxprune import prune
from onnxprune.analysis import analyse
from onnxprune.graph import io
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct import evidence, moments, views
from onnxprune.reconstruct.forms import Product
from onnxprune.reconstruct.moments import RIDGE, Moments
from onnxprune.reconstruct.pooled import Pooled, pooled_of
from onnxprune.reconstruct.readers import Reader, find_readers

Floats = NDArray[np.float32]
COLUMNS, WIDTH, ROWS = 40, 6, 32


def reader() -> Reader:
    return Reader(0, "a reader", "a", "w", "b", "y", Product(), np.arange(COLUMNS)[None], WIDTH)


def drawn(rows: int, rank: int, seed: int) -> Floats:
    """Rows that vary in so many directions, always the same ones, and a little in all."""
    directions = np.random.default_rng(0).standard_normal((rank, COLUMNS))
    rng = np.random.default_rng([1, seed])
    made = rng.standard_normal((rows, rank)) @ directions + 0.1 * rng.standard_normal((rows, COLUMNS))
    return made.astype(np.float32)[None]


OLD = np.random.default_rng(2).standard_normal((1, COLUMNS, WIDTH))
GONE = np.arange(COLUMNS) % 2 == 1


def gathered(rank: int, spread: bool = False) -> Moments:
    own = Moments(reader(), ROWS, centred=True)
    own.places((ROWS, WIDTH), np.random.default_rng(0))
    rows = drawn(ROWS, rank, 0)
    own.add(rows, rows @ OLD.astype(np.float32))
    if spread:
        further = drawn(20 * ROWS, rank, 1)
        own.widen(further, further @ OLD.astype(np.float32))
    return own


def missed(own: Moments, rank: int) -> float:
    """Share that the solution misses of rows that nobody has seen."""
    none = np.full(COLUMNS, -1)
    weights = own.layers(OLD, none, GONE)[0].solve(none[:0])[None]
    rows = drawn(500, rank, 2).astype(np.float64)
    wanted = rows @ OLD
    return float(np.square(rows @ weights + own.biases(weights) - wanted).sum() / np.square(wanted).sum())


def test_weights_are_held_on_to_where_rows_have_nothing_in_common() -> None:
    """Of independent columns none makes up for another: what few rows seem to say is chance."""
    plain, own = gathered(rank=COLUMNS), gathered(rank=COLUMNS)
    own.tighten(OLD, GONE)
    assert own.ridge > 50 * RIDGE and missed(own, COLUMNS) < 0.8 * missed(plain, COLUMNS)


def test_weights_are_let_go_where_few_rows_say_it_all() -> None:
    own = gathered(rank=5)
    own.tighten(OLD, GONE)
    assert own.ridge <= 10 * RIDGE and missed(own, 5) < 0.05


def test_what_a_mean_hides_says_more_than_the_old_weights() -> None:
    tightened, own = gathered(rank=25), gathered(rank=25, spread=True)
    for each in (tightened, own):
        each.tighten(OLD, GONE)
    assert own.share > 0 and missed(own, 25) < 0.7 * missed(tightened, 25)


def test_many_rows_are_believed() -> None:
    own = Moments(reader(), 10 * COLUMNS, centred=True)
    own.places((10 * COLUMNS, WIDTH), np.random.default_rng(0))
    rows = drawn(10 * COLUMNS, COLUMNS, 0)
    own.add(rows, rows @ OLD.astype(np.float32))
    own.guess()
    own.tighten(OLD, GONE)
    assert own.held is None and own.ridge == RIDGE


def test_a_guess_follows_the_number_of_rows() -> None:
    few, more = gathered(rank=5, spread=True), gathered(rank=5, spread=True)
    more.add(drawn(10 * ROWS, 5, 3), drawn(10 * ROWS, 5, 3) @ OLD.astype(np.float32))
    few.guess()
    more.guess()
    assert 0 < more.share < few.share <= 1
    alone = gathered(rank=5)
    alone.guess()
    assert alone.ridge > RIDGE and alone.share == 0


# --- means that readers get


def _picture(net: Net, opset: int, kind: str) -> ModelProto:
    x = net.add("Relu", net.conv(net.input("n", 3, 8, 6), 16, 3, kernel=(3, 3), pads=[1, 1, 1, 1]))
    if kind == "global":
        return net.done(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 5, 16))
    if kind == "convolution":
        return net.done(net.conv(net.add("GlobalAveragePool", x), 5, 16))
    if kind == "whole window":
        pooled = net.add("AveragePool", x, kernel_shape=[8, 6])
        return net.done(net.gemm(net.add("Squeeze", pooled, net.constant([2, 3])), 5, 16))
    if kind == "last":
        last = net.add("Transpose", x, perm=[0, 2, 3, 1])
        axes = {"axes": [1, 2]} if opset < 18 else {}
        more = () if opset < 18 else (net.constant([1, -2]),)
        return net.done(net.gemm(net.add("ReduceMean", last, *more, keepdims=0, **axes), 5, 16))
    if kind == "maximum":
        return net.done(net.gemm(net.add("Flatten", net.add("GlobalMaxPool", x)), 5, 16))
    if kind == "map":
        return net.done(net.gemm(net.add("Flatten", net.add("AveragePool", x, kernel_shape=[4, 3])), 5, 16 * 20))
    mean = net.add("ReduceMean", x, axes=[1, 3], keepdims=0)
    return net.done(net.gemm(mean, 5, 8))


def found(proto: ModelProto) -> Pooled | None:
    own = analyse(io.from_proto(proto))
    last = find_readers(own.index, own.shapes, own.coupling)[-1]
    return pooled_of(last, own.index, own.shapes, lambda name: numpy_helper.to_array(own.index.weights[name]))


@pytest.mark.parametrize(
    ("kind", "opset", "channels"),
    [("global", 17, 1), ("convolution", 17, 1), ("whole window", 17, 1), ("last", 17, 3), ("last", 18, 3)],
)
def test_means_over_all_positions_are_found(kind: str, opset: int, channels: int) -> None:
    pooled = found(_picture(Net(opset), opset, kind))
    assert pooled is not None and pooled.channels == channels
    value = np.random.default_rng(0).standard_normal((2, 16, 8, 6) if channels == 1 else (2, 8, 6, 16))
    rows = pooled.rows(value, 7, np.random.default_rng(0))
    assert rows.shape == (1, 14, 16)
    every = pooled.rows(value, 100, np.random.default_rng(0))
    assert every.shape == (1, 96, 16) and np.allclose(every.reshape(2, 48, 16).mean(axis=1), 0)


@pytest.mark.parametrize("kind", ["maximum", "map"])
def test_other_inputs_are_no_means(kind: str) -> None:
    assert found(_picture(Net(17), 17, kind)) is None


@pytest.mark.parametrize("opset", [13, 18])
def test_a_mean_over_everything_or_over_computed_axes_is_none_of_them(opset: int) -> None:
    net = Net(opset)
    x = net.add("Relu", net.gemm(net.input("n", 12), 16, 12))
    if opset < 18:
        scale = net.add("ReduceMean", x, keepdims=1)
    else:
        last = net.add("Sub", net.add("Size", net.add("Shape", x)), net.constant(1))
        scale = net.add("ReduceMean", x, net.add("Unsqueeze", last, net.constant([0])), keepdims=1)
    proto = net.done(net.dense(scale, 3, 1), net.dense(x, 3, 16))
    calib = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    found(proto)
    assert prune(proto, ratio=0.2, calib={"x0": calib}, best_effort=True).report["validation"]["twin"]["passed"]


def test_a_network_with_a_mean_before_its_classes_loses_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen samples and sixty-four channels that vary in twelve directions."""
    net, rng = Net(17), np.random.default_rng(4)
    mixed = rng.standard_normal((64, 12)) @ rng.standard_normal((12, 27)) / 20
    x = net.input("n", 3, 12, 12)
    weight = net.constant(mixed.reshape(64, 3, 3, 3), np.float32)
    y = net.add("Relu", net.add("Conv", x, weight, net.constant(rng.standard_normal(64), np.float32)))
    proto = net.done(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", y)), 8, 64))
    calib, fresh = (rng.standard_normal((count, 3, 12, 12)).astype(np.float32) for count in (18, 256))

    def lost() -> float:
        made = prune(proto, ratio=0.5, calib={"x0": calib}).model
        after, before = (Session(each.SerializeToString(), (CPU,)).run({"x0": fresh}) for each in (made, proto))
        (a,), (b,) = after.values(), before.values()
        return float(np.square(a - b).sum() / np.square(b - b.mean(axis=0)).sum())

    with_it = lost()
    monkeypatch.setattr(moments, "_FEW", 0)
    for module in (evidence, views):
        monkeypatch.setattr(module, "pooled_of", lambda *_: None)
    assert with_it < 0.7 * lost()
