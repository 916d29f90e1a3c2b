"""What is done where nothing but a ratio is asked for: evidence from inputs, a share by errors, readers solved anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cases import CASES
from cases.case import Case
from doors import MODELS, Command, convolutional, dense, foreign, half, perceptron, prune_plain, weights
from net import Net
from onnx import ModelProto, TensorProto

import onnxprune
from onnxprune.analysis import analyse
from onnxprune.graph import io
from onnxprune.options import Options
from onnxprune.refine import open_refiner

FEW = ("--synthetic", "48")
CHAINS = {"dense": dense, "convolutional": convolutional, "perceptron": perceptron}


def prune(command: Command, path: Path, *flags: object, name: str = "out.onnx") -> dict[str, Any]:
    """Prune with a report, which is returned."""
    report = command.folder / "report.json"
    command.done(path, command.folder / name, *FEW, *flags, "--report", report)
    facts: dict[str, Any] = json.loads(report.read_text())
    return facts


@pytest.mark.parametrize("measure", ["params", "macs", "channels"])
@pytest.mark.parametrize("make", [dense, convolutional])
def test_the_ratio_is_met_and_what_readers_miss_falls(
    command: Command, make: Callable[[], ModelProto], measure: str
) -> None:
    path = command.put(make())
    for ratio in (0.2, 0.6):
        facts = prune(command, path, "--ratio", ratio, "--measure", measure)
        assert abs(facts["achieved"][measure] - ratio) <= 0.01
        assert facts["validation"]["twin"]["passed"] and not facts["validation"]["unproved"]
        assert (facts["request"]["method"], facts["request"]["allocation"]) == ("auto", "auto")
        assert facts["data"]["origin"] == "synthetic" and facts["data"]["samples"] > 0
        assert facts["refit"] and all(e["missed"] <= e["missed_before"] for e in facts["refit"].values())
        assert any(e["missed"] < 0.9 * e["missed_before"] for e in facts["refit"].values())


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_a_share_by_errors_where_data_tells_them_and_by_scores_where_not(make: Callable[[], ModelProto]) -> None:
    def kept(**options: Any) -> list[int]:
        plan = onnxprune.prune(make(), ratio=0.4, best_effort=True, synthetic=48, **options).plan
        return [len(group.kept) for group in plan.groups]

    assert kept() == kept(allocation="error")
    assert kept(method="coreset", refit="off") == kept(method="coreset", refit="off", allocation="global")


def test_a_real_network_keeps_its_answers_better_than_by_weights_alone() -> None:
    """Fidelity on the same inputs, which neither has seen."""
    path = MODELS / "lenet-300-100.onnx"
    pictures = np.clip(np.random.default_rng(0).normal(0.3, 0.4, (256, 1, 28, 28)), 0, 1).astype(np.float32)
    ours = onnxprune.prune(path, ratio=0.7, calib=pictures).report
    theirs = onnxprune.prune(path, ratio=0.7, calib=pictures, method="coreset", allocation="global", refit="off")
    assert theirs.report["data"] is None and not theirs.report["refit"]
    assert (
        ours["data"]["origin"] == "given"
        and sum(ours["data"][part] for part in ("samples", "examined", "held_out")) == 256
    )
    apart = [
        _distance(path, result, pictures[128:])
        for result in (onnxprune.prune(path, ratio=0.7, calib=pictures[:128]).model, theirs.model)
    ]
    assert apart[0] < 0.7 * apart[1]


def _distance(path: Path, model: ModelProto, pictures: np.ndarray[Any, Any]) -> float:
    before, after = (
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, {"input": pictures})[0]
        for each in (str(path), model.SerializeToString())
    )
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


@pytest.mark.parametrize("distill", ["off", "auto", "on"])
@pytest.mark.parametrize("make", [dense, convolutional])
def test_a_plan_replayed_gives_the_same_bytes(command: Command, make: Callable[[], ModelProto], distill: str) -> None:
    path, plan, again = command.put(make()), command.folder / "plan.json", command.folder / "again.json"
    made = prune(command, path, "--ratio", "0.4", "--plan", plan, "--distill", distill)
    out, second = command.folder / "out.onnx", command.folder / "second.onnx"
    command.done(path, second, *FEW, "--replay", plan, "--plan", again)
    assert out.read_bytes() == second.read_bytes() and plan.read_bytes() == again.read_bytes()
    assert weights(onnx.load(out)).keys() >= weights(onnx.load(path)).keys() and made["refit"]


def test_a_dry_run_plans_what_a_run_does(command: Command) -> None:
    path = command.put(dense())
    facts = prune(command, path, "--ratio", "0.5")
    dry = command.folder / "dry.json"
    before = (command.folder / "out.onnx").read_bytes()
    command.done(path, "--dry-run", *FEW, "--ratio", "0.5", "--report", dry)
    planned = json.loads(dry.read_text())
    assert planned["achieved"] == facts["achieved"] and planned["refit"] == facts["refit"]
    assert [group["kept"] for group in planned["groups"]] == [group["kept"] for group in facts["groups"]]
    assert (command.folder / "out.onnx").read_bytes() == before and planned["validation"] is None


def test_the_python_door_gives_what_the_command_gives(command: Command) -> None:
    proto = convolutional()
    path = command.put(proto)
    before = proto.SerializeToString(deterministic=True)
    prune(command, path, "--ratio", "0.5")
    made = onnx.load(command.folder / "out.onnx").SerializeToString(deterministic=True)
    for model in (path, proto):
        result = onnxprune.prune(model, ratio=0.5, synthetic=48)
        assert result.model.SerializeToString(deterministic=True) == made
    assert proto.SerializeToString(deterministic=True) == before
    result = onnxprune.prune(proto, ratio=0.5, synthetic=48, seed=1)
    assert result.model.SerializeToString(deterministic=True) != made


def test_the_same_bytes_again(command: Command) -> None:
    path = command.put(convolutional())
    for name in ("one.onnx", "two.onnx"):
        prune(command, path, "--ratio", "0.5", name=name)
    assert (command.folder / "one.onnx").read_bytes() == (command.folder / "two.onnx").read_bytes()


def test_nothing_is_certain_of_readers_that_are_solved_anew(command: Command) -> None:
    result = onnxprune.prune(dense(), ratio=0.4, synthetic=48)
    thinned = [group for group in result.report["groups"] if group["kept"] < group["channels"]]
    assert thinned and all("solved anew" in group["certificate"]["none"] for group in thinned)
    assert all(group["certificate"]["measured"]["relative_l2"] < 1.0 for group in thinned)
    assert "solved anew" in result.report["end_to_end"]["none"]
    ran = command.done(command.put(dense()), command.folder / "out.onnx", *FEW, "--ratio", "0.4", "--certify")
    assert "solved anew" in ran.out


def test_a_network_that_takes_no_inputs_that_are_made_up(command: Command) -> None:
    """A foreign operator cannot be run: a warning says so, and channels go by their weights."""
    path, out = command.put(foreign(first=24, second=20)), command.folder / "out.onnx"
    ran = command(path, out, "--ratio", "0.4")
    assert ran.code == 0 and "readers keep their weights" in ran.err
    assert all(line.startswith("onnxprune: ") and "error" not in line[:18] for line in ran.err.splitlines())
    plain = prune_plain(path, ratio=0.4).model
    assert onnx.load(out).SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)


def test_half_precision_stays() -> None:
    result = onnxprune.prune(half(dense()), ratio=0.4, synthetic=48)
    assert {tensor.data_type for tensor in result.model.graph.initializer} == {TensorProto.FLOAT16}
    assert result.report["refit"] and result.report["validation"]["twin"]["passed"]


def test_products_without_a_bias_are_given_one() -> None:
    net = Net()
    hidden = net.add("Relu", net.add("MatMul", net.input(4, 10), net.weight(10, 30)))
    proto = net.done(net.add("Relu", net.add("MatMul", hidden, net.weight(30, 5))))
    result = onnxprune.prune(proto, ratio=0.4, synthetic=48)
    assert [node.op_type for node in result.model.graph.node] == ["MatMul", "Relu", "MatMul", "Add", "Relu"]
    assert [value.name for value in result.model.graph.output] == [value.name for value in proto.graph.output]
    assert result.report["validation"]["twin"]["passed"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.identifier) for case in CASES[::40] if case.runs])
def test_operators_of_all_kinds(case: Case) -> None:
    """Whatever the network is made of, it is pruned and proved, or refused with a reason."""
    try:
        result = onnxprune.prune(case.make(), ratio=0.3, best_effort=True, synthetic=8)
    except onnxprune.OnnxPruneError as error:
        assert not isinstance(error, onnxprune.ValidationError) and len(str(error)) > 20
    else:
        assert result.report["validation"]["twin"]["passed"]


def test_the_original_is_what_is_compared_with_even_where_no_sample_is_spare() -> None:
    original, count = dense(), 256
    for value in (*original.graph.input, *original.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = count
    sample = np.random.default_rng(0).normal(size=(count, 20)).astype(np.float32)
    result = onnxprune.prune(original, ratio=0.5, calib=sample)
    before, after = (
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x0": sample})[0]
        for proto in (original, result.model)
    )
    told = result.report["validation"]["fidelity"]
    assert (result.report["data"]["samples"], result.report["data"]["held_out"]) == (count, 0)
    gap = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert gap > 0.01 and [entry["relative_l2"] for entry in told.values()] == pytest.approx([gap], rel=1e-3)


def test_sizes_that_are_computed_before_a_layer_reach_what_comes_after_it() -> None:
    net = Net()
    x = net.input("n", 3, 8, 8)
    first = net.add("Relu", net.conv(x, 16, 3, kernel=(3, 3), pads=[1, 1, 1, 1]))
    batch = net.add("Slice", net.add("Shape", first), net.constant([0]), net.constant([2]))
    second = net.add("Relu", net.conv(first, 16, 16, kernel=(3, 3), pads=[1, 1, 1, 1]))
    sizes = net.add("Concat", batch, net.constant([4, 4]), axis=0)
    smaller = net.add("Resize", second, "", "", sizes, mode="nearest")
    result = onnxprune.prune(net.done(net.conv(smaller, 5, 16)), ratio=0.4, synthetic=24)
    assert len(result.report["refit"]) == 2


def test_shapes_that_a_file_claims_wrongly_are_not_learnt_with() -> None:
    proto = convolutional()
    for node in proto.graph.node[:-2]:
        claim = onnx.helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, 16, 1, 1])
        proto.graph.value_info.append(claim)
    refiner = open_refiner(analyse(io.from_proto(proto)), Options(ratio=0.4, synthetic=24))
    assert refiner is not None and all(evidence.layers for evidence in refiner.evidence().groups)
