"""Products of integers are laid open as products of floats, solved anew, and stored as integers again."""

from typing import Any

import numpy as np
import pytest
from cases import quantized
from cases.case import Case
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from oracle import analyse

from onnxprune import prune
from onnxprune.calibrate.feeds import random_feeds
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct import sequence
from onnxprune.reconstruct.grids import Grid, lay_open
from onnxprune.shapes.standins import QONNX

RUNNING = [
    pytest.param(case, id=case.identifier)
    for case in quantized.CASES
    if case.runs and case.groups and case.row[0] not in QONNX
]
DIRECTIONS = 6


def run(proto: ModelProto, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return list(Session(proto.SerializeToString(), (CPU,)).run(feeds).values())


def stored(proto: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@pytest.mark.parametrize("case", RUNNING)
def test_what_is_laid_open_computes_about_the_same(case: Case) -> None:
    """But for integers that lie half-way between two, which are rounded either way."""
    proto, opened = case.make(), case.make()
    grids = lay_open(opened)
    found = analyse(proto)
    feeds = random_feeds(found.index, found.shapes, np.random.default_rng(0))
    for before, after in zip(run(proto, feeds), run(opened, feeds), strict=True):
        scale = max(float(np.abs(before.astype(np.float64)).max()), 1e-6)
        np.testing.assert_allclose(after, before, atol=0.02 * scale)
    for name, grid in grids.items():
        value = stored(opened)[name]
        assert np.array_equal(grid.nearest(value), value)
        assert np.array_equal(grid.codes(value), stored(proto)[grid.stored])


def test_the_nearest_that_can_be_stored() -> None:
    grid = Grid("w", np.array([[0.5], [2.0]], np.float32), np.array([[10], [0]]), np.dtype(np.uint8))
    assert grid.codes(np.array([[0.3, -9.0], [3.1, 1e9]])).tolist() == [[11, 0], [2, 255]]
    assert grid.nearest(np.array([[0.3, -9.0], [3.1, 1e9]])).tolist() == [[0.5, -5.0], [4.0, 510.0]]


def integers(value: NDArray[Any], axis: int | None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    others = None if axis is None else tuple(k for k in range(value.ndim) if k != axis)
    step = np.abs(value).max(axis=others).astype(np.float32) / np.float32(60)  # new weights may be twice as large
    sizes = [1] * value.ndim
    if axis is not None:
        sizes[axis] = -1
    return np.rint(value / step.reshape(sizes)).astype(np.int8), step


class Quantised(Net):
    """Convolutions of integers, as pairs of quantisers around floats or in one operator."""

    def __init__(self, *, pairs: bool, listed: bool) -> None:
        super().__init__(13)
        self.pairs, self.axis = pairs, 0 if listed else None

    def layer(self, x: list[str], weight: NDArray[Any], bias: NDArray[Any], entry: float, result: float) -> list[str]:
        codes, step = integers(weight, self.axis)
        w = [self.constant(codes, np.int8), self.constant(step, np.float32), self.constant(step * 0, np.int8)]
        b = self.constant(np.rint(bias / (entry * step)), np.int32)
        y = [self.constant(result, np.float32), self.constant(0, np.uint8)]
        if not self.pairs:
            return [self.add("QLinearConv", *x, *w, *y, b), *y]
        along = {} if self.axis is None else {"axis": self.axis}
        scale, zero = self.constant(entry * step, np.float32), self.constant(step * 0, np.int32)
        parts = (self.add("DequantizeLinear", b, scale, zero, **({} if self.axis is None else {"axis": 0})),)
        made = self.add("Conv", self.add("DequantizeLinear", *x), self.add("DequantizeLinear", *w, **along), *parts)
        return [self.add("QuantizeLinear", made, *y), *y]


def network(*, pairs: bool, listed: bool) -> ModelProto:
    """Forty channels that vary in few directions, read by a layer of integers; what is below zero is cut off."""
    net = Quantised(pairs=pairs, listed=listed)
    rng = np.random.default_rng(5)
    entry = [net.constant(0.03, np.float32), net.constant(128, np.uint8)]
    x = [net.add("QuantizeLinear", net.input("n", 3, 8, 8), *entry), *entry]
    mixed = rng.standard_normal((40, DIRECTIONS)) @ rng.standard_normal((DIRECTIONS, 3 * 9)) / 12
    x = net.layer(x, mixed.reshape(40, 3, 3, 3), np.full(40, 2.0), 0.03, 0.03)
    x = net.layer(x, rng.standard_normal((8, 40, 1, 1)) / 6, np.full(8, 2.0), 0.03, 0.05)
    return net.done(net.add("DequantizeLinear", *x))


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_layers_of_integers_make_up_for_what_goes(pairs: bool, listed: bool) -> None:
    proto = network(pairs=pairs, listed=listed)
    rng = np.random.default_rng(6)
    calib, fresh = (rng.standard_normal((count, 3, 8, 8)).astype(np.float32) for count in (96, 64))
    (wanted,) = run(proto, {"x0": fresh})

    def lost(result: Any) -> float:
        (made,) = run(result.model, {"x0": fresh})
        return float(np.square(made - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum())

    solved = prune(proto, ratio=0.4, best_effort=True, calib={"x0": calib})
    plain = prune(proto, ratio=0.4, best_effort=True, calib={"x0": calib}, refit="off")
    assert solved.report["validation"]["twin"]["passed"]
    assert len(solved.report["refit"]) == 1 and lost(solved) < 0.25 * lost(plain)
    before, after = stored(proto), stored(solved.model)
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert value.dtype == before[name].dtype
        if value.dtype == np.float32:
            assert set(value.ravel().tolist()) <= set(before[name].ravel().tolist())  # steps are as they were


def test_signed_activations_in_one_operator() -> None:
    """As quantisers write them; onnxruntime, told to be precise, makes weights beside them what it cannot run."""
    proto = network(pairs=False, listed=True)
    for tensor in proto.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.uint8:
            signed = (value.astype(np.int16) - 128).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(signed, tensor.name))
    calib = np.random.default_rng(6).standard_normal((96, 3, 8, 8)).astype(np.float32)
    result = prune(proto, ratio=0.4, best_effort=True, calib={"x0": calib})
    (entry,) = result.report["refit"].values()
    assert entry["missed"] < entry["missed_before"] and result.report["validation"]["twin"]["passed"]


def test_what_cannot_be_stored_is_not_taken() -> None:
    """Steps that leave no room: weights that are cut off at the largest integer would be worse than the old ones."""
    proto = network(pairs=True, listed=False)
    for tensor in proto.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.int8 and value.shape == (8, 40, 1, 1):
            tensor.CopyFrom(numpy_helper.from_array(np.where(value >= 0, 127, -128).astype(np.int8), tensor.name))
    calib = np.random.default_rng(6).standard_normal((96, 3, 8, 8)).astype(np.float32)
    result = prune(proto, ratio=0.4, best_effort=True, calib={"x0": calib})
    (entry,) = result.report["refit"].values()
    assert entry["missed"] <= entry["missed_before"] and result.report["validation"]["twin"]["passed"]


def test_integers_of_a_wide_reader_are_no_worse_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors that are lost in rounding would leave biases that go with other weights."""
    monkeypatch.setattr(sequence, "WIDEST", 100)
    net, rng = Net(13), np.random.default_rng(1)
    mixed = rng.standard_normal((16, 3)) @ rng.standard_normal((3, 27)) / 4
    first = net.constant(mixed.reshape(16, 3, 3, 3), np.float32), net.constant(np.full(16, 1.0), np.float32)
    x = net.add("Flatten", net.add("Relu", net.add("Conv", net.input("n", 3, 12, 12), *first)))
    codes = net.constant(rng.integers(0, 2, (1600, 4)), np.int8)
    weight = net.add("DequantizeLinear", codes, net.constant(0.01, np.float32), net.constant(0, np.int8))
    proto = net.done(net.add("Gemm", x, weight, net.constant(np.zeros(4), np.float32)))
    gains = rng.uniform(0.5, 1.5, (128, 1, 1, 1))
    calib = {"x0": (gains * rng.standard_normal((128, 3, 12, 12))).astype(np.float32)}
    result = prune(proto, ratio=0.4, measure="channels", calib=calib, best_effort=True)
    (entry,) = result.report["refit"].values()
    (before,), (after,) = run(proto, calib), run(result.model, calib)
    lost = float(np.square(after - before).sum() / np.square(before - before.mean(axis=0)).sum())
    assert lost < 2 * entry["missed"] and entry["missed"] == entry["missed_before"]


def test_integers_that_several_layers_read_stay() -> None:
    net = Net(13)
    step = net.constant(0.02, np.float32), net.constant(0, np.int8)
    weight = net.constant(np.random.default_rng(0).integers(-90, 90, (6, 6)), np.int8)
    x = net.add("Relu", net.gemm(net.input("n", 6), 6, 6))
    for _ in range(2):
        x = net.add("Relu", net.add("MatMul", x, net.add("DequantizeLinear", weight, *step)))
    proto = net.done(x)
    copy = ModelProto.FromString(proto.SerializeToString())
    assert lay_open(copy) == {} and copy == proto
