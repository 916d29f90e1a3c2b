"""The architecture as the result: weights drawn anew, by what reads them, and the widths in a file."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from doors import MODELS, Command
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from repairable import NETWORKS

import onnxprune
from onnxprune import prune
from onnxprune.graph.runtime import CPU, Session

RESNET = MODELS / "resnet8-mnist.onnx"


def stored(proto: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def drawn(proto: ModelProto, **more: Any) -> tuple[ModelProto, dict[str, Any]]:
    result = prune(proto, ratio=0.2, method="l1", reinit=True, best_effort=True, **more)
    return result.model, result.report["reinit"]


def wide(activation: str, *, width: int = 200) -> ModelProto:
    net = Net(seed=1)
    x = net.gemm(net.input("n", 300), width, 300)
    x = net.add(activation, x)
    return net.done(net.gemm(x, 10, width))


@pytest.mark.parametrize(("activation", "gain"), [("Relu", 2.0), ("Tanh", 1.0), ("Sigmoid", 1.0)])
def test_products_are_drawn_by_their_fan_in_and_what_bends_them(activation: str, gain: float) -> None:
    made, told = drawn(wide(activation))
    weights = {name: value for name, value in stored(made).items() if value.ndim == 2}
    (first, second) = weights.values()
    assert first.std() == pytest.approx(np.sqrt(gain / 300), rel=0.03) and abs(first.mean()) < 0.005
    assert second.std() == pytest.approx(np.sqrt(1 / len(second)), rel=0.06)
    assert all(not value.any() for value in stored(made).values() if value.ndim == 1)
    assert told["stays"] == [] and set(told["drawn"]) == set(stored(made))


def conv(**more: Any) -> Callable[[Net, str], str]:
    return lambda net, x: net.conv(x, 32, 16, kernel=(3, 3), **more)


@pytest.mark.parametrize(
    ("layer", "made", "fan"),
    [
        (conv(), 32, 16 * 9),
        (conv(group=4), 32, 4 * 9),
        (lambda net, x: net.add("ConvTranspose", x, net.weight(16, 32, 3, 3), strides=[2, 2]), 32, 16 * 9 // 4),
        (lambda net, x: net.add("ConvTranspose", x, net.weight(16, 8, 3, 3), group=4), 32, 4 * 9),
    ],
)
def test_convolutions(layer: Callable[[Net, str], str], made: int, fan: int) -> None:
    net = Net(seed=2)
    x = net.add("Relu", net.conv(net.input(1, 3, 8, 8), 16, 3, kernel=(3, 3)))
    variance = net.constant(net.rng.random(made) + 0.5, np.float32)
    x = net.add("BatchNormalization", layer(net, x), *[net.weight(made) for _ in range(3)], variance)
    x = net.add("Relu", x)
    proto, _ = drawn(net.done(net.conv(x, 5, made)), exclude="conv0_out")
    second = [value for value in stored(proto).values() if value.ndim == 4][1]
    assert second.std() == pytest.approx(np.sqrt(2 / fan), rel=0.08)


def test_normalisations_begin_as_they_do() -> None:
    made, told = drawn(onnx.load(RESNET))
    readers = [node for node in made.graph.node if node.op_type == "BatchNormalization"]
    values = stored(made)
    assert readers
    for node in readers:
        scale, shift, mean, variance = (values[name] for name in node.input[1:])
        assert (scale == 1).all() and (variance == 1).all() and not shift.any() and not mean.any()
    assert told["outputs"]["logits"] is not None and 1e-3 < told["outputs"]["logits"] < 1e3


def test_recurrent_layers_tables_slopes_and_what_stays() -> None:
    net = Net(seed=3)
    x = net.add("Gather", net.weight(50, 24), net.input(5, 1, kind=7))
    x = net.add("Add", x, net.constant(np.arange(5 * 24).reshape(5, 1, 24), np.float32, "positions"))
    x = net.add("Squeeze", net.many("GRU", 2, x, net.weight(1, 48, 24), net.weight(1, 48, 16), hidden_size=16)[0])
    x = net.add("Add", net.dense(x, 20, 16), net.weight(20, name="bias"))
    x = net.add("PRelu", x, net.weight(20, name="slope"))
    made, told = drawn(net.done(net.dense(x, 3, 20)))
    values = stored(made)
    assert told["stays"] == ["positions"] and np.isin(values["positions"], np.arange(5 * 24)).all()
    assert not values["bias"].any() and (values["slope"] == np.float32(0.25)).all()
    recurrent = [value for value in values.values() if value.ndim == 3 and value.shape[0] == 1]
    hidden = next(node.attribute[0].i for node in made.graph.node if node.op_type == "GRU")
    for value in recurrent:
        assert np.abs(value).max() <= hidden**-0.5 and np.abs(value).max() == pytest.approx(hidden**-0.5, rel=0.05)
    table = next(value for value in values.values() if value.ndim == 2 and len(value) == 50)
    assert table.std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("name", ["gemm", "matmul", "conv", "grouped", "flattened", "joined", "residual", "branches"])
def test_the_file_runs_and_nothing_overflows(name: str) -> None:
    made, _ = drawn(NETWORKS[name]())
    feeds = {
        value.name: np.random.default_rng(0)
        .standard_normal([dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim])
        .astype(np.float32)
        for value in made.graph.input
    }
    for value in Session(made.SerializeToString(), (CPU,)).run(feeds).values():
        assert np.isfinite(value).all() and 1e-3 < value.std() < 1e3


def test_seeds_and_names_decide_alone() -> None:
    first, second, third = (drawn(wide("Relu"), seed=seed)[0] for seed in (0, 0, 1))
    assert first == second and first != third
    shapes = {name: value.shape for name, value in stored(first).items()}
    assert shapes == {name: value.shape for name, value in stored(third).items()}
    name, value = next((name, value) for name, value in stored(first).items() if value.ndim == 2)
    again = np.random.default_rng([0, zlib.crc32(name.encode())]).standard_normal(value.shape) * np.sqrt(2 / 300)
    np.testing.assert_array_equal(value, again.astype(np.float32))


def test_what_is_kept_is_proved_and_what_is_thrown_away_is_not_judged(command: Command, tmp_path: Path) -> None:
    out, report, widths = tmp_path / "out.onnx", tmp_path / "r.json", tmp_path / "p.json"
    flags = ("--ratio", "0.5", "--method", "thinner", "--reinit", "--report", report, "--profile", widths)
    ran = command.done(RESNET, out, *flags)
    assert "drawn anew, with seed 0, to be trained from scratch." in ran.out and "Sound:" in ran.out
    assert "from the original (relative L2)" not in ran.out
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert facts["validation"]["twin"]["passed"] and facts["validation"]["fidelity"] == {} and facts["refit"] == {}
    assert facts["output"]["sha256"] != facts["input"]["sha256"]
    profile = json.loads(widths.read_text(encoding="utf-8"))
    assert profile == facts["profile"]
    whole, pruned = stored(onnx.load(RESNET)), stored(onnx.load(out))
    for layer in profile["layers"]:
        for name, shapes in layer["weights"].items():
            assert list(pruned[name].shape) == shapes["after"]
            assert list(whole[name].shape) == shapes["before"]
    assert any(
        shapes["before"] != shapes["after"] for layer in profile["layers"] for shapes in layer["weights"].values()
    )
    for measure, total in profile["totals"].items():
        assert (total["before"], total["after"]) == (facts["input"][measure], facts["output"][measure])
    for side, total in profile["totals"]["macs"].items():
        assert sum(layer["macs"][side] for layer in profile["layers"]) == total
    kept = {group["name"]: group["kept"] for group in profile["groups"]}
    assert kept == {group["name"]: group["kept"] for group in facts["groups"]}
    assert all(group["width_of"] for group in profile["groups"])


def test_widths_of_a_weight_that_is_cut_in_two_ways() -> None:
    """Two layers have one bias of zeros; channels go from the first alone, and the other keeps it whole."""
    net = Net()
    x, bias = net.input("n", 12), net.constant(np.zeros(20), np.float32, "bias")
    first = net.add("Relu", net.add("Gemm", x, net.weight(12, 20, name="one"), bias))
    second = net.add("Gemm", x, net.weight(12, 20, name="two"), bias)
    proto = net.done(net.gemm(first, 5, 20), second)
    result = prune(proto, ratio=0.2, method="thinner", reinit=True, best_effort=True)
    profile, made = result.report["profile"], stored(result.model)
    (group,) = profile["groups"]
    kept = group["kept"]
    assert kept < 20 and group["width_of"] == ["made by one, axis 1", "read by w3, axis 0"]
    told = {layer["node"]: layer for layer in profile["layers"]}
    assert [layer["weights"]["bias"]["after"] for layer in told.values() if "bias" in layer["weights"]] == [
        [kept],
        [20],
    ]
    assert told["gemm0"]["macs"] == {"before": 12 * 20, "after": 12 * kept}
    assert told["gemm2"]["macs"] == {"before": 12 * 20, "after": 12 * 20}
    assert profile["totals"]["params"]["after"] == sum(value.size for value in made.values())


def test_widths_of_a_plan_alone(command: Command, tmp_path: Path) -> None:
    widths = tmp_path / "p.json"
    command.done(RESNET, "--dry-run", "--ratio", "0.5", "--method", "l1", "--refit", "off", "--profile", widths)
    profile = json.loads(widths.read_text(encoding="utf-8"))
    assert all(shapes["after"] is None for layer in profile["layers"] for shapes in layer["weights"].values())
    assert any(group["kept"] < group["channels"] for group in profile["groups"])


def test_what_is_refused(command: Command, tmp_path: Path) -> None:
    net = Net()
    weight = net.constant(net.rng.integers(-9, 9, (6, 8)), np.int8)
    weight = net.add("DequantizeLinear", weight, net.constant(0.1, np.float32), net.constant(0, np.int8))
    x = net.add("Relu", net.add("MatMul", net.input("n", 6), weight))
    with pytest.raises(onnxprune.RefusedError, match=r"DequantizeLinear.*integers"):
        prune(net.done(net.dense(x, 3, 8)), ratio=0.3, method="l1", reinit=True, best_effort=True)
    for wrong in ({"refit": "on"}, {"max_drop": 1.0, "calib": np.ones((9, 300), np.float32)}):
        with pytest.raises(onnxprune.UsageError, match="--reinit throws away"):
            prune(wide("Relu"), ratio=0.3, reinit=True, **wrong)
    out = tmp_path / "out.onnx"
    command.refused(RESNET, out, "--ratio", "0.3", "--profile", out, words=["--profile"])
