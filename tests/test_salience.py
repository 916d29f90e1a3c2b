"""What channels are worth by derivatives, against differences of the twin; and the order in which they go."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto
from repairable import NETWORKS

from onnxprune import ModelError, prune
from onnxprune.analysis import Analysis, analyse
from onnxprune.gradient import differentiate
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import CPU, Session
from onnxprune.ops.trace import Kept, Role
from onnxprune.reconstruct.views import Workpiece
from onnxprune.salience import Edges, last_to_go, seeds_of
from onnxprune.validate.twin import build_twin

STEP = 1e-3


def opened(proto: ModelProto) -> tuple[Analysis, Workpiece]:
    analysis = analyse(io.from_proto(proto))
    return analysis, Workpiece(analysis.model.proto, analysis.index, analysis.shapes, analysis.coupling, ())


def inputs(proto: ModelProto, count: int) -> dict[str, NDArray[Any]]:
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    drawn = np.random.default_rng(4).standard_normal((count, *sizes)).astype(np.float32)
    return {proto.graph.input[0].name: drawn}


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("name", ["gemm", "matmul", "conv", "grouped", "flattened", "joined", "residual", "branches"])
def test_changes_are_those_of_the_twin(name: str, gone: bool) -> None:
    proto = NETWORKS[name]()
    analysis, work = opened(proto)
    coupling, batch, count = analysis.coupling, inputs(proto, 3), 3
    edges = Edges(work, (CPU,))
    removed = np.zeros(edges.units, dtype=bool)
    if gone:
        removed[[group.units[0] for group in coupling.groups]] = True
    weights: dict[str, NDArray[np.float32]] = {}

    def seeds(outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        rng = np.random.default_rng(5)
        weights.update({key: rng.standard_normal(value.shape).astype(np.float32) for key, value in outputs.items()})
        return weights

    found = edges.changes(batch, count, removed, seeds)
    copy = ModelProto()
    copy.CopyFrom(proto)
    twin = build_twin(copy, Index(copy), analysis.shapes, coupling, scaled=True)
    session, kept = Session(copy.SerializeToString(), (CPU,)), Kept(~removed[coupling.unit_of])

    def losses(factors: NDArray[np.float64]) -> NDArray[np.float64]:
        made = session.run({**batch, **twin.feeds(kept, coupling.unit_of, factors)}, list(weights))
        return np.sum(
            [(made[key] * weights[key]).reshape(count, -1).sum(axis=1, dtype=float) for key in weights], axis=0
        )

    for unit in np.concatenate([group.units for group in coupling.groups]):
        moved = [np.ones(edges.units) for _ in range(2)]
        for factors, sign in zip(moved, (STEP, -STEP), strict=True):
            factors[unit] += sign
        slope = (losses(moved[0]) - losses(moved[1])) / (2 * STEP)
        assert found[:, unit] == pytest.approx(slope, rel=5e-3, abs=5e-3)
        assert not removed[unit] or not found[:, unit].any()


@pytest.mark.parametrize("name", ["gemm", "matmul", "conv", "grouped", "flattened", "joined", "residual", "branches"])
def test_the_mean_over_samples_is_told_by_weights_and_their_gradients(name: str) -> None:
    """Σ w · ∂L/∂w over the weights that read a unit."""
    proto = NETWORKS[name]()
    analysis, work = opened(proto)
    edges, batch, count = Edges(work, (CPU,)), inputs(proto, 3), 3
    rng = np.random.default_rng(5)
    drawn: dict[str, NDArray[np.float32]] = {}

    def seeds(outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        drawn.update({key: rng.standard_normal(value.shape).astype(np.float32) for key, value in outputs.items()})
        return drawn

    found = edges.changes(batch, count, np.zeros(edges.units, dtype=bool), seeds).sum(axis=0)
    uses = {
        block.use.tensor: block for block in analysis.coupling.trace.blocks if block.use and block.role is Role.READS
    }
    gradient = differentiate(work.proto, list(uses))
    assert gradient.seeds is not None
    feeds = {**batch, **{seed: drawn[output] for output, seed in gradient.seeds.items()}}
    slopes = Session(gradient.proto.SerializeToString(), (CPU,)).run(feeds)
    wanted = np.zeros(edges.units)
    for block in analysis.coupling.trace.blocks:
        if block.use is None or block.role is not Role.READS:
            continue
        product = work.stored(block.use.tensor).astype(float) * slopes[gradient.of[block.use.tensor]]
        own = np.moveaxis(product.reshape(block.use.view), block.axes, range(len(block.axes)))
        told = own.reshape(block.size, -1).sum(axis=1)
        np.add.at(wanted, analysis.coupling.unit_of[block.start : block.start + block.size], told)
    units = np.concatenate([group.units for group in analysis.coupling.groups])
    assert found[units] == pytest.approx(wanted[units], rel=1e-3, abs=1e-3 * np.abs(wanted[units]).max())


def test_seeds_are_derivatives_of_the_entropy() -> None:
    rng, scores = np.random.default_rng(0), np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    classes = np.array([0, 2, 4, 1])
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    wanted = shares - np.eye(5)[classes]
    assert seeds_of({"y": scores}, rng, classes=classes)["y"] == pytest.approx(wanted, rel=1e-5)
    of_shares = seeds_of({"p": shares}, rng, classes=classes)["p"]
    assert of_shares == pytest.approx(-np.eye(5)[classes] / shares, rel=1e-5, abs=0)
    found = seeds_of({"box": np.ones((4, 2, 3), np.float32), "y": scores}, rng, scores="y")
    assert not found["box"].any() and found["y"].sum(axis=1) == pytest.approx(0, abs=1e-6)
    assert seeds_of({"box": np.ones((4, 2, 3), np.float32)}, rng)["box"].std() > 0.5
    both = seeds_of({"box": np.ones((4, 2, 3), np.float32), "y": scores}, rng)
    assert min(value.std() for value in both.values()) > 0.5


def test_classes_are_drawn_as_often_as_the_network_says() -> None:
    scores = np.tile(np.log([[0.7, 0.2, 0.1]]).astype(np.float32), (20000, 1))
    found = seeds_of({"y": scores}, np.random.default_rng(2))["y"]
    assert (found < 0).mean(axis=0) == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


def test_the_cheapest_go_first_and_one_of_every_group_stays() -> None:
    groups = analyse(io.from_proto(NETWORKS["residual"]())).coupling.groups
    units = int(max(group.units.max() for group in groups)) + 1
    worth = np.random.default_rng(6).random(units)
    seen: list[int] = []

    def looked(gone: NDArray[np.bool_]) -> NDArray[np.float64]:
        seen.append(int(gone.sum()))
        assert not any(gone[group.units].all() for group in groups)
        return worth

    found = last_to_go(groups, looked, lambda left: np.ones(len(left)), units)
    assert seen == sorted(seen) and seen[0] == 0 and len(set(seen)) > 3
    every = np.concatenate([group.units for group in groups])
    scores = np.concatenate([found[group.name] for group in groups])
    assert (scores > 0).all() and (scores <= 1).all()
    for group in groups:
        assert np.array_equal(np.argsort(found[group.name]), np.argsort(worth[group.units]))
    assert scores[np.argmax(worth[every])] == 1.0
    dear = last_to_go(groups, looked, lambda left: np.arange(len(left)) * 100.0 + 1, units)
    assert dear[groups[-1].name].mean() < dear[groups[0].name].mean()


@pytest.mark.parametrize("method", ["fisher", "taylor", "taylor-weights"])
def test_a_channel_that_nothing_depends_on_goes_first(method: str) -> None:
    net = Net(seed=3)
    x = net.add("Relu", net.gemm(net.input("n", 6), 8, 6))
    weight = net.rng.standard_normal((8, 4)).astype(np.float32)
    weight[[2, 5]] = 0
    proto = net.done(net.add("MatMul", x, net.constant(weight, np.float32)))
    result = prune(proto, ratio=0.25, measure="channels", method=method, calib=inputs(proto, 64)["x0"], refit="off")
    assert result.report["validation"]["twin"]["passed"]
    assert set(range(8)) - set(result.plan.groups[0].kept) == {2, 5}


def test_a_last_batch_may_be_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    proto, counts, changes = NETWORKS["conv"](), list[tuple[int, int]](), Edges.changes

    def watched(self: Edges, batch: dict[str, NDArray[Any]], samples: int, *more: Any) -> NDArray[np.float64]:
        found = changes(self, batch, samples, *more)
        counts.append((samples, len(found)))
        assert all(len(value) == samples for value in batch.values())
        return found

    monkeypatch.setattr(Edges, "changes", watched)
    labels = np.arange(81) % 3
    data = next(iter(inputs(proto, 230).values()))
    prune(proto, ratio=0.3, method="fisher", calib=data, best_effort=True)
    assert len(set(counts)) > 1 and all(first == second for first, second in counts)
    net = Net(seed=1)
    scores = net.done(net.gemm(net.add("Relu", net.gemm(net.input("n", 6), 8, 6)), 3, 8))
    given = next(iter(inputs(scores, 81).values()))
    prune(scores, ratio=0.3, method="taylor", calib=given, labels=labels, best_effort=True)


def test_a_node_without_a_rule_is_named() -> None:
    net = Net()
    x = net.add("Relu", net.gemm(net.input("n", 6), 8, 6))
    x = net.add("Det", net.add("Reshape", net.gemm(x, 4, 8), net.constant([-1, 2, 2])))
    with pytest.raises(ModelError, match=r"Det.*no rule"):
        prune(net.done(x), ratio=0.25, method="fisher", calib=np.ones((8, 6), np.float32))
