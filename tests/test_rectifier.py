"""Readers with a rectifier behind them: targets that are as good, and what solving towards them buys."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, helper
from test_moments import data, reader
from test_refit import inputs

from onnxprune import prune
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct import views
from onnxprune.reconstruct.moments import Moments
from onnxprune.reconstruct.rectifier import Rectifier

BOUNDS = [(0.0, np.inf), (0.0, 6.0), (-1.0, 1.0), (-np.inf, 2.0)]


def drawn(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_squares_towards_moved_targets_bound_the_rectifiers_own(bounds: tuple[float, float], sign: float) -> None:
    """Never less than what the rectifier loses, and at what was made first no more than squares towards the targets."""
    scale, shift = sign * (np.abs(drawn(1, 1, 5, seed=1)) + 0.1), drawn(1, 1, 5, seed=2)
    made, beside, first, other = (3 * drawn(1, 400, 5, seed=seed) for seed in (3, 4, 5, 6))
    moved = Rectifier(scale, shift, *bounds).moved(made, beside, first - made)

    def loss(found: NDArray[np.float32]) -> NDArray[np.float32]:
        return (np.clip(scale * found + shift + beside, *bounds) - np.clip(scale * made + shift + beside, *bounds)) ** 2

    def bound(found: NDArray[np.float32]) -> NDArray[np.float32]:
        return (scale * (found - made - moved)) ** 2

    for found in (first, other, made):
        assert (bound(found) >= loss(found) - 1e-4).all()
    plain = (scale * (first - made)) ** 2
    assert (bound(first) <= plain + 1e-4).all() and bound(first).mean() < 0.9 * plain.mean()


def test_moments_of_moved_targets_are_those_of_other_targets() -> None:
    rows, targets = data()
    columns = reader(np.arange(rows.shape[2])[None], targets.shape[2])
    moved = drawn(*targets.shape)
    first, second = (Moments(columns, 1, centred=True) for _ in range(2))
    first.add(rows, targets)
    second.add(rows, targets + moved)
    assert first.usable and second.usable
    for part in (slice(0, 40), slice(40, None)):
        first.move(rows[:, part], targets[:, part], moved[:, part])
    none, gone = np.full(rows.shape[2], -1), np.zeros(rows.shape[2], dtype=bool)
    old = np.zeros((1, rows.shape[2], targets.shape[2]))
    (one,), (two,) = (own.layers(old, none, gone) for own in (first, second))
    np.testing.assert_allclose(one.cross, two.cross, rtol=1e-4, atol=1e-5)
    assert one.energy == pytest.approx(two.energy, rel=1e-4)
    np.testing.assert_allclose(first.means[1], second.means[1], rtol=1e-4, atol=1e-5)


def relu(net: Net, x: str) -> str:
    return net.add("Relu", x)


def clip(net: Net, x: str) -> str:
    return net.add("Clip", x, net.constant(0, np.float32), net.constant(2, np.float32))


def old_clip(net: Net, x: str) -> str:
    return net.add("Clip", x, min=0.0, max=2.0)


def rectified(activation: Callable[[Net, str], str] = relu, opset: int = 17, *, added: bool, batch: bool) -> ModelProto:
    """A reader of 12 channels, of which some will go, and what a rectifier gives of it."""
    net = Net(opset)
    x = net.input("n", 6, 5, 5)
    inner = net.add("Relu", net.conv(x, 12, 6))
    read = net.conv(inner, 6, 12, kernel=(3, 3), pads=[1, 1, 1, 1])
    if batch:
        spread = net.constant(np.abs(drawn(6)) + 0.5, np.float32)
        read = net.add("BatchNormalization", read, net.weight(6), net.weight(6), net.weight(6), spread)
    return net.done(activation(net, net.add("Add", read, x) if added else read))


def missed(proto: ModelProto, model: ModelProto, x: NDArray[np.float32]) -> float:
    before, after = (Session(each.SerializeToString(), (CPU,)).run({"x0": x}) for each in (proto, model))
    return float(np.mean([np.square(before[name] - after[name]).mean() for name in before]))


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("activation", "opset"), [(relu, 17), (clip, 17), (old_clip, 10)])
def test_what_the_rectifier_gives_is_nearer(
    activation: Any, opset: int, *, added: bool, batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = rectified(activation, opset, added=added, batch=batch)
    calib = drawn(256, 6, 5, 5, seed=9)
    request: dict[str, Any] = {"ratio": 0.5, "measure": "channels", "calib": calib, "distill": "off"}
    request["include"] = proto.graph.node[0].name
    new = prune(proto, **request)
    monkeypatch.setattr(views, "rectifier_of", lambda *_: None)
    old = prune(proto, **request)
    kept = [item.kept for item in new.plan.groups]
    assert kept == [item.kept for item in old.plan.groups]
    fresh = drawn(256, 6, 5, 5, seed=10)
    for x in (calib, fresh):
        assert missed(proto, new.model, x) < missed(proto, old.model, x)


@pytest.mark.parametrize("kind", ["two readers", "output", "leaky"])
def test_nothing_is_let_go_where_something_else_reads_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read as it is has to be right everywhere."""
    net = Net()
    x = net.input("n", 6)
    read = net.gemm(net.add("Relu", net.gemm(x, 12, 6)), 6, 12)
    ends = [net.add("LeakyRelu" if kind == "leaky" else "Relu", read)]
    ends += [read] if kind == "output" else [net.add("Sigmoid", read)] if kind == "two readers" else []
    proto = net.done(*ends)
    new = prune(proto, ratio=0.5, best_effort=True, calib=inputs(proto, 200))
    monkeypatch.setattr(views, "rectifier_of", lambda *_: None)
    old = prune(proto, ratio=0.5, best_effort=True, calib=inputs(proto, 200))
    assert new.model.SerializeToString() == old.model.SerializeToString()


def test_bounds_that_are_computed_are_none() -> None:
    proto = rectified(clip, added=False, batch=False)
    low = proto.graph.node[-1].input[1]
    shown = helper.make_node("Neg", [low], ["computed"])
    proto.graph.node.insert(0, shown)
    proto.graph.node[-1].input[1] = "computed"
    onnx.checker.check_model(proto)
    assert prune(proto, ratio=0.3, best_effort=True, calib=drawn(64, 6, 5, 5)).report["refit"]
