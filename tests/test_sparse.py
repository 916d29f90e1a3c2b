"""Single weights: how many stay and which, what flows through what is left, and what the command does about it."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from doors import MODELS
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from repairable import NETWORKS

from onnxprune import ModelError, RefusedError, UsageError, prune
from onnxprune.cli import main
from onnxprune.graph.runtime import CPU
from onnxprune.methods.sparsity import SPARSIFIERS, masks
from onnxprune.salience import FlowSlopes, ways

LENET = MODELS / "lenet-300-100.onnx"


def chain(depth: int = 20, width: int = 40, *, seed: int = 0) -> ModelProto:
    """A deep network as it is drawn before training; later layers are narrower."""
    net = Net(seed=seed)
    sizes = [30, *(width + 3 * (depth - number) for number in range(depth - 1)), 10]
    x = net.input("n", sizes[0])
    for number, (read, made) in enumerate(pairwise(sizes)):
        x = net.add("Relu", x) if number else x
        drawn = net.rng.standard_normal((read, made)) * np.sqrt(2 / read)
        x = net.add("MatMul", x, net.constant(drawn, np.float32))
    return net.done(x)


def stored(proto: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def flow_of(proto: ModelProto) -> dict[str, NDArray[np.float64]]:
    """θ · ∂R/∂θ of every weight."""
    weights = {name: value for name, value in stored(proto).items() if value.ndim > 1}
    slopes = FlowSlopes(proto, list(weights), (CPU,), {})(weights)
    return {name: np.abs(value.astype(np.float64)) * slopes[name] for name, value in weights.items()}


@pytest.mark.parametrize("name", ["gemm", "matmul", "conv", "grouped", "flattened"])
def test_as_much_flows_through_all_weights_of_every_layer(name: str) -> None:
    totals = [scores.sum() for scores in flow_of(NETWORKS[name]()).values()]
    assert len(totals) > 1 and totals[0] > 0
    assert totals == pytest.approx([totals[0]] * len(totals), rel=1e-5)


def test_as_much_leaves_every_unit_as_enters_it_though_weights_are_gone() -> None:
    result = prune(chain(6), ratio=0.9, sparse=True)
    scores = list(flow_of(result.model).values())
    for before, after in pairwise(scores):
        assert before.sum(axis=0) == pytest.approx(after.sum(axis=1), rel=1e-4, abs=1e-7 * before.sum())


@pytest.mark.parametrize("density", [1e-2, 1e-3])
def test_no_layer_collapses_where_others_do(density: float) -> None:
    """Twenty layers: magnitude and snip leave nothing of some, synflow leaves a way through all (theorem 3)."""
    proto = chain()
    data = np.random.default_rng(1).standard_normal((64, 30)).astype(np.float32)
    left = {}
    for method in ("synflow", "magnitude", "snip"):
        more = {"calib": data} if method == "snip" else {}
        result = prune(proto, ratio=1 - density, sparse=True, method=method, **more)
        left[method] = min(layer["kept"] for layer in result.report["sparse"]["layers"])
        if method == "synflow":
            assert min(scores.sum() for scores in flow_of(result.model).values()) > 0
            assert not result.report["sparse"]["idle"]
    assert left["synflow"] > 0
    if density == 1e-3:
        assert left["magnitude"] == left["snip"] == 0


@pytest.mark.parametrize("name", ["joined", "residual", "branches", "grouped", "flattened"])
def test_something_passes_every_layer_of_every_branch(name: str) -> None:
    """As few as one way through each takes; the weakest branches would be cut off first."""
    proto = NETWORKS[name]()
    weights = {key: value for key, value in stored(proto).items() if value.ndim > 1}
    kept = ways(FlowSlopes(proto, list(weights), (CPU,), {}), weights)
    count, total = sum(int(mask.sum()) for mask in kept.values()), sum(value.size for value in weights.values())
    assert all(mask.any() for mask in kept.values()) and count <= len(weights) ** 2
    result = prune(proto, ratio=1 - count / total, sparse=True)
    assert result.report["sparse"]["kept"] == count and result.report["sparse"]["idle"] == []
    assert min(scores.sum() for scores in flow_of(result.model).values()) > 0


def test_nothing_is_cut_off_of_a_residual_network() -> None:
    result = prune(MODELS / "resnet8-mnist.onnx", ratio=0.999, sparse=True)
    assert result.report["sparse"]["idle"] == [] and result.report["sparse"]["kept"] == 77


@pytest.mark.parametrize("method", SPARSIFIERS)
@pytest.mark.parametrize("ratio", [0.3, 0.99, 0.9999])
def test_exactly_so_many_are_zero_and_all_else_is_as_it_was(method: str, ratio: float) -> None:
    proto = onnx.load(LENET)
    result = prune(LENET, ratio=ratio, sparse=True, method=method, seed=3)
    before, after = stored(proto), stored(result.model)
    total = sum(value.size for value in before.values() if value.ndim > 1)
    kept = 0
    for name, value in before.items():
        same = after[name] == value
        assert same.all() if value.ndim < 2 else (same | (after[name] == 0)).all()
        kept += int(same.sum()) if value.ndim > 1 else 0
    assert kept == round(total * (1 - ratio)) == result.report["sparse"]["kept"]
    assert [node.SerializeToString() for node in proto.graph.node] == [
        node.SerializeToString() for node in result.model.graph.node
    ]
    assert result.plan.changes_nothing
    again = prune(LENET, ratio=ratio, sparse=True, method=method, seed=3)
    assert again.model.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)
    if ratio == 0.3 and method == "magnitude":
        largest = max(np.abs(before[name][after[name] == 0]).max() for name in before if before[name].ndim > 1)
        smallest = min(np.abs(after[name][after[name] != 0]).min() for name in before if before[name].ndim > 1)
        assert largest <= smallest


def test_snip_is_what_the_loss_depends_on() -> None:
    """Against differences of the loss, in float64."""
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((6, 8)), rng.standard_normal((8, 4))
    net = Net()
    x = net.add("Tanh", net.add("MatMul", net.input("n", 6), net.constant(first, np.float32, "first")))
    proto = net.done(net.add("MatMul", x, net.constant(second, np.float32, "second")))
    data, labels = rng.standard_normal((64, 6)).astype(np.float32), np.arange(64) % 4
    result = prune(proto, ratio=0.6, sparse=True, method="snip", calib=data, labels=labels, seed=0)
    kept = {name: value != 0 for name, value in stored(result.model).items()}

    def scores(samples: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        hidden = np.tanh(data[samples].astype(float) @ first)
        raised = np.exp(hidden @ second)
        error = raised / raised.sum(axis=1, keepdims=True) - np.eye(4)[labels[samples]]
        back = (error @ second.T) * (1 - hidden**2)
        return {"first": np.abs(first * (data[samples].T @ back)), "second": np.abs(second * (hidden.T @ error))}

    # A quarter at random is held out: what all samples say is nearly what the others do.
    found = scores(np.arange(64))
    ours = np.concatenate([found[name][kept[name]] for name in found]).mean()
    theirs = np.concatenate([found[name][~kept[name]] for name in found]).mean()
    assert ours > 5 * theirs


def grouped_scores(
    sizes: tuple[int, ...], seed: int
) -> tuple[dict[str, NDArray[np.float64]], Callable[[Any], dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    weights = {f"w{number}": rng.standard_normal(size) for number, size in enumerate(sizes)}
    return weights, lambda kept: {name: np.ones_like(value) for name, value in weights.items()}


def test_the_schedule_is_exponential_and_what_is_gone_stays_gone() -> None:
    weights, _ = grouped_scores((500, 500), 4)
    seen: list[dict[str, NDArray[np.bool_]]] = []

    def slopes(kept: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.float64]]:
        seen.append(kept)
        return {name: np.random.default_rng(len(seen)).random(value.size) for name, value in weights.items()}

    kept = masks(weights, 10, SPARSIFIERS["synflow"], slopes, np.random.default_rng(0))
    counts = [sum(int(mask.sum()) for mask in each.values()) for each in (*seen[1:], kept)]
    assert len(counts) == 100 and counts[-1] == 10
    assert counts == [max(round(1000 * 0.01 ** (turn / 100)), 10) for turn in range(1, 101)]
    for before, after in zip(seen, (*seen[1:], kept), strict=True):
        assert all((after[name] <= before[name]).all() for name in weights)


def test_equal_scores_leave_exactly_so_many() -> None:
    weights = {"a": np.ones((7, 5)), "b": np.zeros((9,))}
    kept = masks(weights, 20, SPARSIFIERS["magnitude"], lambda _: {}, np.random.default_rng(0))
    assert kept["a"].sum() == 20 and not kept["b"].any()
    spared = masks(weights, 20, SPARSIFIERS["synflow"], lambda kept: weights, np.random.default_rng(0))
    assert spared["b"].sum() == 1 and spared["a"].sum() == 19


def test_weights_are_found_behind_nodes_and_in_them() -> None:
    net = Net(seed=1)
    turned = net.add("Transpose", net.weight(8, 6), perm=[1, 0])
    x = net.add("Relu", net.add("MatMul", net.input("n", 6), turned))
    x = net.add("Gemm", x, net.constant_node(np.ones((8, 4), np.float32)))
    half = net.constant(np.ones((4, 3)), np.float16)
    proto = net.done(net.add("Cast", net.add("MatMul", net.add("Cast", x, to=10), half), to=1))
    result = prune(proto, ratio=0.5, sparse=True)
    assert [layer["elements"] for layer in result.report["sparse"]["layers"]] == [48, 32, 12]
    assert result.report["sparse"]["kept"] == 46


def test_what_cannot_be_done_is_said() -> None:
    net = Net()
    with pytest.raises(RefusedError, match="nothing to zero"):
        prune(net.done(net.add("Relu", net.input("n", 4))), ratio=0.5, sparse=True)
    with pytest.raises(RefusedError, match="one of each of 20 layers stays"):
        prune(chain(), ratio=0.9999999, sparse=True)
    spoilt = chain(3)
    spoilt.graph.initializer[0].raw_data = b"\x00\x00\xc0\x7f" + spoilt.graph.initializer[0].raw_data[4:]
    with pytest.raises(ModelError, match="NaN"):
        prune(spoilt, ratio=0.5, sparse=True)
    for wrong in ({"measure": "macs"}, {"max_drop": 1.0}, {"round_to": 8}, {"refit": "on"}, {"certify": True}):
        with pytest.raises(UsageError, match="single weights"):
            prune(chain(3), **{"ratio": 0.5, "sparse": True, **wrong})
    with pytest.raises(UsageError, match="add --sparse"):
        prune(chain(3), ratio=0.5, method="magnitude")
    with pytest.raises(UsageError, match="choose from auto, synflow"):
        prune(chain(3), ratio=0.5, sparse=True, method="l1")
    with pytest.raises(UsageError, match="needs --ratio"):
        prune(chain(3), sparse=True, replay=prune(chain(3), ratio=0.3).plan)


def test_named_weights_alone() -> None:
    result = prune(LENET, ratio=0.5, sparse=True, exclude=onnx.load(LENET).graph.node[1].name)
    names = [layer["weight"] for layer in result.report["sparse"]["layers"]]
    every = [layer["weight"] for layer in prune(LENET, ratio=0.5, sparse=True).report["sparse"]["layers"]]
    assert names == every[1:]
    with pytest.raises(RefusedError, match="matches no node"):
        prune(LENET, ratio=0.5, sparse=True, include="nowhere")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, report = tmp_path / "out.onnx", tmp_path / "r.json"
    assert main([str(LENET), str(target), "--sparse", "--ratio", "0.99", "-v", "--report", str(report)]) == 0
    shown = capsys.readouterr().out
    assert "2,662 stay (1.0000%), by synflow" in shown and "to the bit" in shown
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert facts["sparse"]["density"] == pytest.approx(0.01, abs=1e-5)
    assert facts["request"]["sparse"] is True and facts["validation"]["fidelity"]
    assert sum(int((value != 0).sum()) for value in stored(onnx.load(target)).values() if value.ndim > 1) == 2662
    assert main([str(LENET), "--sparse", "--ratio", "0.5", "--dry-run", "-q"]) == 0
    assert main([str(LENET), str(target), "--sparse", "--ratio", "0.5", "--plan", str(tmp_path / "p.json")]) == 2
    assert "--plan" in capsys.readouterr().err


def test_external_data(tmp_path: Path) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.load(LENET), source, save_as_external_data=True, location="in.data", size_threshold=0)
    assert main([str(source), str(target), "--sparse", "--ratio", "0.9", "-q"]) == 0
    inside = prune(LENET, ratio=0.9, sparse=True).model
    outside = stored(onnx.load(target))
    assert all((outside[name] == value).all() for name, value in stored(inside).items())
