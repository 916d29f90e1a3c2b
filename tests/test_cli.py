"""The command's doors: every flag, every number it reports, and what goes to which stream."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import (
    FLAGS,
    Command,
    Maker,
    Ran,
    convolutional,
    dense,
    perceptron,
    prune_plain,
    run_file,
    signature,
    weights,
)
from net import Net
from onnx import ModelProto
from rich.console import Console

import onnxprune
from onnxprune import pipeline, progress
from onnxprune.methods import METHODS

NETWORKS = {
    "lenet": None,
    "resnet": None,
    "convolutional": convolutional,
    "dense": dense,
}
FEW = ("--synthetic", "32")
SAMPLED = ("coreset-sampled", "coreset-distinct", "coreset-split", "lowner-sampled")
# Methods that leave the number of channels to chance, so that a ratio may be missed.
BY_CHANCE = ("coreset-sampled", "coreset-split", "lowner-sampled")
FILES = {"lenet": "lenet-300-100.onnx", "resnet": "resnet8-mnist.onnx"}


def place(command: Command, name: str) -> Path:
    """Put a network into the command's folder."""
    maker: Maker | None = NETWORKS[name]
    return command.model(FILES[name]) if maker is None else command.put(maker())


def prune(command: Command, path: Path, *flags: object, name: str = "out.onnx") -> dict[str, Any]:
    """Prune by weights alone, unless the flags say otherwise, with a report, which is returned."""
    report = command.folder / "report.json"
    command.done(path, command.folder / name, *FLAGS, *flags, "--report", report)
    return read(report)


def read(report: Path) -> dict[str, Any]:
    """Read a report strictly: NaN and Infinity are no JSON."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    facts: dict[str, Any] = json.loads(report.read_text(), parse_constant=refuse)
    return facts


def count_params(proto: ModelProto) -> int:
    """Elements of the weights, counted without the package."""
    floats = (onnx.TensorProto.FLOAT,)
    return sum(math.prod(tensor.dims) for tensor in proto.graph.initializer if tensor.data_type in floats)


def count_macs(proto: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of convolutions and Gemms, counted without the package."""
    copy = ModelProto.FromString(proto.SerializeToString())
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(copy).graph
    values = [*inferred.value_info, *inferred.output]
    out = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    sizes = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    total = 0
    for node in proto.graph.node:
        if node.op_type == "Conv":
            total += math.prod(out[node.output[0]]) * math.prod(sizes[node.input[1]][1:])
        elif node.op_type == "Gemm":
            rows, columns = out[node.output[0]]
            total += rows * math.prod(sizes[node.input[1]])
            assert columns in sizes[node.input[1]]
    return total


# --- the ratio


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("measure", ["params", "macs", "channels"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_ratio_is_met_within_a_point(command: Command, name: str, measure: str, allocation: str) -> None:
    path = place(command, name)
    for ratio in (0.1, 0.35, 0.6):
        facts = prune(command, path, "--ratio", ratio, "--measure", measure, "--allocation", allocation)
        assert abs(facts["achieved"][measure] - ratio) <= 0.01
        shares = [1 - facts["output"][key] / facts["input"][key] for key in ("params", "macs", "channels")]
        assert list(facts["achieved"].values()) == pytest.approx(shares)
        assert facts["validation"]["twin"]["passed"]
        assert facts["achieved"]["channels"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_meets_the_ratio_or_says_so(command: Command, method: str) -> None:
    met = 0
    for name in NETWORKS:
        path = place(command, name)
        for seed in range(3):
            flags = (*FLAGS, "--ratio", "0.5", "--method", method, "--seed", seed, *FEW)
            report = command.folder / "report.json"
            report.unlink(missing_ok=True)
            ran = command(path, command.folder / "out.onnx", *flags, "--report", report)
            if ran.code:
                assert method in BY_CHANCE and "cannot be met within one" in ran.err and "chance" in ran.err
                continue
            met += 1
            assert abs(read(report)["achieved"]["params"] - 0.5) <= 0.01
    assert met >= (12 if method not in BY_CHANCE else 10)


def test_beyond_reach(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    flags = (*FLAGS, "--min-keep", "0.5", "--ratio", "0.9")
    line = command.refused(path, command.folder / "out.onnx", *flags, words=["cannot be reached", "--best-effort"])
    found = re.search(r"at most ([0-9.]+)% of the parameters", line)
    assert found is not None
    facts = prune(command, path, *flags, "--best-effort")
    assert facts["achieved"]["params"] * 100 == pytest.approx(float(found[1]), abs=0.05)
    assert [group["kept"] for group in facts["groups"]] == [150, 50]
    ran = command.done("inspect", path, "--min-keep", "0.5", "--report", command.folder / "r.json")
    assert read(command.folder / "r.json")["reachable"]["params"] == pytest.approx(facts["achieved"]["params"])
    assert f"{float(found[1])}%" in ran.out


def test_coarse_networks_are_met_by_departing_from_the_order(command: Command) -> None:
    facts = prune(command, command.put(perceptron(hidden=12)), "--ratio", "0.5")
    assert abs(facts["achieved"]["params"] - 0.5) <= 0.01
    path = command.put(perceptron(hidden=2))
    flags = (*FLAGS, "--ratio", "0.1")
    line = command.refused(path, command.folder / "no.onnx", *flags, words=["nearest is", "--best-effort"])
    assert "weigh more" in line


def test_exactly_half_of_every_even_group(command: Command) -> None:
    for name in NETWORKS:
        flags = ("--ratio", "0.5", "--measure", "channels", "--allocation", "uniform")
        facts = prune(command, place(command, name), *flags)
        assert [group["kept"] * 2 for group in facts["groups"]] == [group["channels"] for group in facts["groups"]]
        assert facts["achieved"]["channels"] == 0.5


@pytest.mark.parametrize("name", ["lenet", "resnet", "convolutional"])
def test_round_to(command: Command, name: str) -> None:
    path = place(command, name)
    for text, multiple in (("8", 8), ("auto", 8), ("4", 4)):
        facts = prune(command, path, "--ratio", "0.4", "--round-to", text, "--allocation", "uniform")
        kept = [(group["kept"], group["channels"]) for group in facts["groups"]]
        assert all(count % multiple == 0 or count == size for count, size in kept)
        assert any(count < size for count, size in kept)
        assert 0.2 < facts["achieved"]["params"] < 0.5
    assert prune(command, path, "--ratio", "0.4", "--round-to", "off")["request"]["round_to"] == "off"


def test_min_keep(command: Command) -> None:
    path = command.model("resnet8-mnist.onnx")
    for flag, floor in (("10", lambda size: 10), ("0.5", lambda size: size // 2)):
        for allocation in ("uniform", "global"):
            facts = prune(
                command, path, "--ratio", "0.99", "--best-effort", "--min-keep", flag, "--allocation", allocation
            )
            assert [group["kept"] for group in facts["groups"]] == [floor(g["channels"]) for g in facts["groups"]]
    facts = prune(command, path, "--ratio", "0.8", "--allocation", "global")
    assert all(group["kept"] >= 0.1 * group["channels"] for group in facts["groups"])
    facts = prune(command, path, "--ratio", "0.995", "--allocation", "global")
    assert min(group["kept"] / group["channels"] for group in facts["groups"]) < 0.1


def test_sampled_methods_respect_the_floor(command: Command) -> None:
    flags = ("--ratio", "0.9", "--best-effort", "--min-keep", "0.5", "--method", "coreset-sampled")
    facts = prune(command, command.model("lenet-300-100.onnx"), *flags)
    assert all(group["kept"] * 2 >= group["channels"] for group in facts["groups"])


# --- include and exclude


def test_excluded_weights_are_untouched(command: Command) -> None:
    path = command.model("resnet8-mnist.onnx")
    before = weights(onnx.load(path))
    graph = onnx.load(path).graph
    conv = next(node for node in graph.node if node.name == "/stage2/conv1/Conv")
    for name in (conv.name, conv.output[0], conv.input[1], r"/stage2/conv1/.*"):
        facts = prune(command, path, "--ratio", "0.2", "--exclude", name)
        after = weights(onnx.load(command.folder / "out.onnx"))
        assert after[conv.input[1]].tobytes() == before[conv.input[1]].tobytes(), name
        assert any(item["purpose"] == "excluded by the options" for item in facts["pinned"])
        assert any(group["kept"] < group["channels"] for group in facts["groups"])


def test_only_what_is_included_is_pruned(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    before = weights(onnx.load(path))
    facts = prune(command, path, "--ratio", "0.3", "--include", "/fc1/Gemm")
    assert [(group["name"], group["kept"] < group["channels"]) for group in facts["groups"]] == [("/fc1/Gemm", True)]
    after = weights(onnx.load(command.folder / "out.onnx"))
    changed = {name for name in before if after[name].shape != before[name].shape}
    assert changed == {"fc1.weight", "fc1.bias", "fc2.weight"}
    assert after["fc3.weight"].tobytes() == before["fc3.weight"].tobytes()
    facts = prune(command, path, "--ratio", "0.3", "--include", "/fc[12]/Gemm", "--exclude", "fc3.weight")
    assert [group["name"] for group in facts["groups"]] == ["/fc1/Gemm"]
    listed = command.done("inspect", path, "--include", "/fc1/Gemm").out
    assert "excluded by the options" in listed


# --- plans


@pytest.mark.parametrize("method", ["coreset", "coreset-sampled"])
def test_a_plan_replayed_gives_the_same_bytes(command: Command, method: str) -> None:
    for name in ("lenet", "convolutional"):
        path = place(command, name)
        plan = command.folder / "plan.json"
        again = command.folder / "again.json"
        first, second = command.folder / "out.onnx", command.folder / "second.onnx"
        made = prune(command, path, "--ratio", "0.4", "--method", method, "--plan", plan)
        report = command.folder / "replayed.json"
        ran = command.done(path, second, "--replay", plan, "--plan", again, "--report", report)
        assert first.read_bytes() == second.read_bytes() and plan.read_bytes() == again.read_bytes()
        replayed = read(report)
        assert replayed["request"] == {**made["request"], "replayed": made["input"]["sha256"]}
        assert replayed["achieved"] == made["achieved"] and "another file" not in ran.out
        assert json.loads(plan.read_text())["source"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_plan_for_another_file_of_the_same_network(command: Command) -> None:
    first, second = command.put(dense(seed=1)), command.put(dense(seed=2), "other.onnx")
    plan = command.folder / "plan.json"
    prune(command, first, "--ratio", "0.4", "--plan", plan)
    assert "made for another file" in command.done(second, command.folder / "out2.onnx", "--replay", plan).out


def test_a_plan_that_keeps_everything_changes_nothing(command: Command) -> None:
    for name in NETWORKS:
        path = place(command, name)
        plan = command.folder / "plan.json"
        command.done(path, "--dry-run", *FLAGS, "--ratio", "0.3", "--plan", plan)
        data = json.loads(plan.read_text())
        for group in data["groups"]:
            group["kept"] = list(range(group["channels"]))
        plan.write_text(json.dumps(data))
        command.done(path, command.folder / "out.onnx", "--replay", plan)
        before, after = onnx.load(path), onnx.load(command.folder / "out.onnx")
        assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)


def test_a_dry_run_writes_no_network_and_runs_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("nothing runs")

    path = command.model("lenet-300-100.onnx")
    facts = prune(command, path, "--ratio", "0.6")
    (command.folder / "report.json").unlink()
    (command.folder / "out.onnx").unlink()
    monkeypatch.setattr(pipeline, "validate", forbidden)
    before = command.tree()
    ran = command.done(path, command.folder / "out.onnx", "--dry-run", *FLAGS, "--ratio", "0.6")
    assert "Dry run" in ran.out and command.tree() == before
    report, plan = command.folder / "r.json", command.folder / "p.json"
    command.done(path, "--dry-run", *FLAGS, "--ratio", "0.6", "--report", report, "--plan", plan)
    dry = read(report)
    measured = [[group.pop("certificate")["measured"] for group in each["groups"]] for each in (dry, facts)]
    assert all(entry == {"none": "nothing was run"} for entry in measured[0])
    assert all(entry["max_abs"] > 0 for entry in measured[1])
    assert dry["achieved"] == facts["achieved"] and dry["groups"] == facts["groups"]
    assert dry["validation"] is None and dry["output"]["path"] is None and dry["output"]["bytes"] is None
    assert dry["output"]["params"] == facts["output"]["params"] and dry["output"]["macs"] == facts["output"]["macs"]
    assert not (command.folder / "out.onnx").exists() and plan.exists()


# --- bytes


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bytes(command: Command, method: str) -> None:
    path = command.model("lenet-300-100.onnx")
    written = []
    for seed in (0, 0, 1):
        prune(command, path, "--ratio", "0.5", "--best-effort", "--method", method, "--seed", seed, *FEW)
        written.append((command.folder / "out.onnx").read_bytes())
    assert written[0] == written[1]
    by_chance = METHODS[method].random_order or method in SAMPLED
    assert (written[0] != written[2]) == (by_chance or METHODS[method].needs_data)


def test_the_same_bytes_in_another_process(command: Command) -> None:
    path = command.put(convolutional())
    written = []
    for seed in ("0", "1"):
        out = command.folder / f"out{seed}.onnx"
        flags = [*FLAGS, "--ratio", "0.5", "--save-as-external-data", "--plan", f"{out}.json"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-m", "onnxprune", path, out, *flags],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        data = (command.folder / f"{out.name}.data").read_bytes()
        written.append((out.read_bytes().replace(out.name.encode(), b""), data, Path(f"{out}.json").read_bytes()))
    assert written[0] == written[1]


def test_external_data(command: Command) -> None:
    proto = dense()
    path = command.put(proto)
    inside = prune(command, path, "--ratio", "0.4")
    outside = prune(command, path, "--ratio", "0.4", "--save-as-external-data", name="ext.onnx")
    plain = onnx.load(command.folder / "out.onnx")
    raw = onnx.load(command.folder / "ext.onnx", load_external_data=False)
    assert any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in raw.graph.initializer)
    assert weights(onnx.load(command.folder / "ext.onnx")).keys() == weights(plain).keys()
    for name, value in weights(onnx.load(command.folder / "ext.onnx")).items():
        np.testing.assert_array_equal(value, weights(plain)[name])
    files = [command.folder / "ext.onnx", command.folder / "ext.onnx.data"]
    assert outside["output"]["bytes"] == sum(file.stat().st_size for file in files)
    assert outside["output"]["params"] == inside["output"]["params"]
    # As in the source, unless told otherwise; a stale data file beside an embedded network is not counted.
    source = command.put(proto, "big.onnx", external=True)
    facts = prune(command, source, "--ratio", "0.4", name="big_out.onnx")
    assert facts["input"]["bytes"] == sum((command.folder / f"big.onnx{end}").stat().st_size for end in ("", ".data"))
    assert (command.folder / "big_out.onnx.data").exists()
    (command.folder / "out.onnx.data").write_bytes(bytes(1000))
    facts = prune(command, path, "--ratio", "0.4")
    assert facts["output"]["bytes"] == (command.folder / "out.onnx").stat().st_size


def test_what_surrounds_the_weights_survives(command: Command) -> None:
    for name in NETWORKS:
        path = place(command, name)
        prune(command, path, "--ratio", "0.5")
        before, after = onnx.load(path), onnx.load(command.folder / "out.onnx")
        assert signature(before) == signature(after)
        for proto in (before, after):
            for field in ("node", "initializer", "value_info"):
                proto.graph.ClearField(field)
        assert before == after


# --- the report


@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_of_the_report(command: Command, name: str) -> None:
    path = place(command, name)
    plan = command.folder / "plan.json"
    facts = prune(command, path, "--ratio", "0.5", "--plan", plan)
    shapes = {value: tuple(sizes) for value, sizes in facts["assumed_shapes"].items()}
    for key, file in (("input", path), ("output", command.folder / "out.onnx")):
        proto = onnx.load(file)
        assert facts[key]["path"] == str(file)
        assert facts[key]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert facts[key]["bytes"] == file.stat().st_size
        assert facts[key]["params"] == count_params(proto)
        assert facts[key]["macs"] == count_macs(proto, shapes)
    assert facts["request"]["ratio"] == 0.5 and facts["request"]["method"] == "coreset"
    assert set(facts["achieved"]) == {"params", "macs", "channels"}
    planned = {group["name"]: group for group in json.loads(plan.read_text())["groups"]}
    assert facts["input"]["channels"] == sum(group["channels"] for group in facts["groups"])
    for group in facts["groups"]:
        assert set(group) >= {"name", "channels", "kept", "nodes"} and group["nodes"]
        assert group["kept"] == len(planned[group["name"]]["kept"])
    assert all(set(item) >= {"site", "reason"} for item in facts["pinned"]) and facts["pinned"]
    twin = facts["validation"]["twin"]
    assert twin["passed"] is True and 0 <= twin["max_rel"] < 1e-4 and twin["max_abs"] >= 0
    fidelity = facts["validation"]["fidelity"]
    assert set(fidelity) == {value.name for value in onnx.load(path).graph.output}
    for entry in fidelity.values():
        assert set(entry) == {"relative_l2", "cosine", "top1_agreement"} and 0 <= entry["top1_agreement"] <= 1
    assert facts["validation"]["provider"] == "CPUExecutionProvider"
    assert set(facts["time"]) == {"load", "analyse", "score", "allocate", "certify", "rewrite", "write", "validate"}
    assert all(value >= 0 for value in facts["time"].values())
    assert facts["versions"]["onnxprune"] == onnxprune_version() and "onnx" in facts["versions"]


def test_what_a_group_is_worth(command: Command) -> None:
    """784 → 300 → 100 → 10: without the first hidden layer, its weights and the second's go."""
    command.done("inspect", command.model("lenet-300-100.onnx"), "--report", command.folder / "r.json")
    facts = read(command.folder / "r.json")
    worth = {group["name"]: (group["params"], group["macs"]) for group in facts["groups"]}
    assert worth == {
        "/fc1/Gemm": (784 * 300 + 300 + 300 * 100, 784 * 300 + 300 * 100),
        "/fc2/Gemm": (300 * 100 + 100 + 100 * 10, 300 * 100 + 100 * 10),
    }
    assert facts["input"]["params"] == 266_610 and facts["input"]["macs"] == 266_200
    assert facts["reachable"]["channels"] == pytest.approx(398 / 400)
    assert facts["reachable"]["params"] == pytest.approx(1 - (784 + 1 + 1 + 1 + 10 + 10) / 266_610)


def test_shapes_for_symbolic_dimensions(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    one = prune(command, path, "--ratio", "0.5")
    assert one["assumed_shapes"] == {"input": [1, 1, 28, 28]}
    for text in ("input:3,1,28,28", "input:3x1x28x28", "input:[3,1,28,28]"):
        facts = prune(command, path, "--ratio", "0.5", "--input-shape", text)
        assert facts["input"]["macs"] == 3 * one["input"]["macs"] and not facts["assumed_shapes"]
        assert facts["request"]["input_shapes"] == {"input": [3, 1, 28, 28]}
    assert "--input-shape" in command.done("inspect", path).out


def test_distances_that_json_does_not_know(command: Command) -> None:
    """An output that is zero in the original has no relative distance."""
    net = Net()
    x = net.input(4, 8)
    hidden = net.add("Relu", net.gemm(x, 40, 8))
    zero = net.add("Sub", net.add("Gemm", hidden, net.weight(40, 5)), net.constant(np.full(5, 1e9), np.float32))
    path = command.put(net.done(net.add("Relu", zero), net.gemm(hidden, 3, 40)))
    facts = prune(command, path, "--ratio", "0.4")
    assert facts["validation"]["twin"]["passed"]
    net = Net()
    hidden = net.add("Relu", net.gemm(net.input(4, 8), 40, 8))
    path = command.put(net.done(net.add("Log", net.add("Relu", net.gemm(hidden, 6, 40)))))
    command.done(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.4", "--report", command.folder / "r.json")
    assert read(command.folder / "r.json")["validation"]["twin"]["passed"]


# --- what is printed


def test_streams(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    plain = command.done(path, out, *FLAGS, "--ratio", "0.6").out
    for words in (
        "parameters",
        "266,610",
        "MACs",
        "prunable channels",
        "bytes",
        "Sound",
        "agrees with the original on",
    ):
        assert words in plain
    assert "/fc1/Gemm" not in plain and "\x1b" not in plain
    ran = command(path, out, *FLAGS, "--ratio", "0.6", "-v")
    assert ran.code == 0 and "/fc1/Gemm" in ran.out and "graph output: logits" in ran.out and "Seconds" in ran.out
    assert [line.split(":")[1].strip() for line in ran.err.splitlines()][:2] == ["load", "analyse"]
    quiet = command.done(path, out, *FLAGS, "--ratio", "0.6", "-q")
    assert quiet.out == ""
    listed = command.done("inspect", path).out
    assert "/fc1/Gemm" in listed and "can be removed, at most" in listed and "99.7%" in listed


def test_poor_fidelity_is_said_in_plain_words(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    poor = " ".join(command.done(path, out, *FLAGS, "--ratio", "0.9", "--method", "random").out.split())
    assert re.search(r"agrees with the original on \d+% of 64 random inputs. Recover it with calibration data", poor)
    good = command.done(path, out, *FLAGS, "--ratio", "0.02").out
    assert "Recover" not in good


def test_of_many_outputs_the_farthest_are_shown_and_advice_is_given_once(command: Command) -> None:
    net = Net()
    hidden = net.add("Relu", net.gemm(net.input("n", 8), 64, 8))
    path = command.put(net.done(*(net.gemm(hidden, 3, 64) for _ in range(9))))
    shown = " ".join(command.done(path, command.folder / "out.onnx", "--ratio", "0.8", "--method", "l1").out.split())
    assert shown.count("from the original (relative L2)") == 6 and "3 more outputs are nearer" in shown
    assert shown.count("Recover it") == 1


def test_help_and_version(command: Command) -> None:
    shown = command.done("--help").out
    text = " ".join(shown.split())
    assert "share to REMOVE" in text and "0.6 leaves 40 % of the parameters" in text and "inspect" in text
    flags = """--ratio --max-drop --measure --method --allocation --refit --round-to --min-keep --best-effort --include
        --exclude --labels --input-shape --providers --seed --report --plan --replay --save-as-external-data --dry-run
        -q -v --version"""
    assert all(flag in shown for flag in flags.split())
    assert all(f"{name}: {recipe.summary}" in text for name, recipe in METHODS.items())
    assert command.done("--version").out == f"onnxprune {onnxprune_version()}\n"
    assert "usage: onnxprune inspect" in command.done("inspect", "--help").out


def onnxprune_version() -> str:
    return version("onnxprune")


@pytest.mark.parametrize("program", [["-m", "onnxprune"], ["-c", "from onnxprune.cli import entry; entry()"]])
def test_in_a_process_of_its_own(command: Command, program: list[str]) -> None:
    path = command.model("lenet-300-100.onnx")

    def run(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        full = [sys.executable, *program, *map(str, arguments)]
        return subprocess.run(full, capture_output=True, text=True, check=False, **more)

    ran = run(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.6")
    assert ran.returncode == 0 and ran.stderr == "" and "Sound" in ran.stdout
    assert run().returncode == 2 and run("none.onnx", "o.onnx", *FLAGS, "--ratio", "0.6").returncode == 1
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    piped = run(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.6", env=ascii_only)
    assert piped.returncode == 0 and "Sound" in piped.stdout


def test_a_table_that_cannot_be_printed(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    with Path("/dev/full").open("w") as full:
        arguments = [sys.executable, "-m", "onnxprune", path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.6"]
        ran = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1 and "No space left" in ran.stderr
    assert (command.folder / "out.onnx").exists()


def test_nobody_looks(command: Command) -> None:
    """Standard output is closed, or closed early: the work is done all the same, without a traceback."""
    path = command.model("lenet-300-100.onnx")
    arguments = [sys.executable, "-m", "onnxprune", path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.6"]
    ran = subprocess.run(arguments, preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "") and (command.folder / "out.onnx").exists()
    (command.folder / "out.onnx").unlink()
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in ran.stderr and (command.folder / "out.onnx").exists()


def test_names_that_look_like_markup(command: Command) -> None:
    proto = dense()
    for number, name in enumerate(["a[/b]", "[red]x", ":smile:", "ü – 層", "two\nlines", "[/]", "tab\t"]):
        proto.graph.node[number].name = name
    path = command.put(proto)
    flags = (*FLAGS, "--ratio", "0.4", "--report", command.folder / "r.json", "--plan", command.folder / "p.json")
    shown = command(path, command.folder / "out.onnx", *flags, "-v")
    assert shown.code == 0 and "a[/b]" in shown.out and ":smile:" in shown.out
    assert {group["name"] for group in read(command.folder / "r.json")["groups"]} == {"a[/b]", ":smile:", "two\nlines"}
    assert "a[/b]" in command.done("inspect", path).out
    command.done(path, command.folder / "again.onnx", "--replay", command.folder / "p.json")
    command.refused(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.9", "--exclude", "two\nlines")


class _Terminal:
    """A console that counts what a bar does to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
        self.started: list[str] = []
        monkeypatch.setattr(progress, "_PATIENCE", 0.05)
        monkeypatch.setattr(progress.rich.progress.Progress, "start", lambda _: self.started.append("start"))
        monkeypatch.setattr(progress.rich.progress.Progress, "stop", lambda _: self.started.append("stop"))
        self.console = Console(force_terminal=terminal)


@pytest.mark.parametrize(("terminal", "quiet", "wait", "expected"), [
    (True, False, 0.3, ["start", "stop"]),
    (True, False, 0.0, []),
    (True, True, 0.3, []),
    (False, False, 0.3, []),
])  # fmt: skip
def test_the_bar_comes_after_a_while_and_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool, wait: float, expected: list[str]
) -> None:
    watched = _Terminal(monkeypatch, terminal=terminal)
    bar = progress.Bar(watched.console, quiet=quiet)
    bar.start("load", 3)
    bar.advance()
    threading.Event().wait(wait)
    bar.close()
    assert watched.started == expected


# --- validation


def test_a_wrong_result_is_not_written(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the rewriting, which turns one weight around, is found by the twin."""
    rewrite = pipeline.apply

    def wrong(model: Any, *rest: Any) -> None:
        rewrite(model, *rest)
        tensor = next(item for item in model.proto.graph.initializer if item.name == "fc2.weight")
        value = model.array(tensor).copy()
        model.replace(tensor, value.shape, lambda: value[:, ::-1].copy())

    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    out.write_text("precious")
    monkeypatch.setattr(pipeline, "apply", wrong)
    before = command.tree()
    flags = (*FLAGS, "--ratio", "0.5", "--report", command.folder / "r.json", "--plan", command.folder / "p.json")
    ran = command(path, out, *flags)
    assert ran.code == 3 and ran.out == "" and ran.err.count("\n") == 1
    assert "differs from the masked original" in ran.err and "nothing was written" in ran.err
    assert command.tree() == before
    with pytest.raises(onnxprune.ValidationError):
        prune_plain(path, ratio=0.5)


def test_a_result_that_does_not_run_is_not_written(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = pipeline.apply

    def wrong(model: Any, *rest: Any) -> None:
        rewrite(model, *rest)
        tensor = next(item for item in model.proto.graph.initializer if item.name == "fc2.weight")
        model.replace(tensor, (3, 3), lambda: np.ones((3, 3), np.float32))

    path = command.model("lenet-300-100.onnx")
    monkeypatch.setattr(pipeline, "apply", wrong)
    ran = command(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.5")
    assert ran.code == 3 and ran.err.count("\n") == 1 and "onnxruntime cannot" in ran.err
    assert not (command.folder / "out.onnx").exists()


# --- readers without a weight


def test_factors_only_where_every_reader_has_a_weight(command: Command) -> None:
    """A sum over channels, and a product of two activations, take no factors; everything is proved all the same."""
    net = Net()
    x = net.input(4, 10)
    first = net.add("Relu", net.gemm(x, 30, 10))
    total = net.add("ReduceSum", first, net.constant([1]), keepdims=1)
    second = net.add("Relu", net.gemm(first, 24, 30))
    gram = net.add("MatMul", second, net.add("Transpose", second, perm=[1, 0]))
    third = net.add("Relu", net.gemm(second, 20, 24))
    path = command.put(net.done(total, gram, net.gemm(third, 5, 20)))
    plan = command.folder / "plan.json"
    for method in ("coreset-sampled", "coreset-distinct"):
        facts = prune(command, path, "--ratio", "0.4", "--method", method, "--plan", plan, "--best-effort")
        found = {group["name"]: bool(group["factors"]) for group in json.loads(plan.read_text())["groups"]}
        assert found == {"gemm0": False, "gemm3": False, "gemm7": True}
        assert facts["validation"]["twin"]["passed"]
    data = json.loads(plan.read_text())
    data["groups"][0]["factors"] = [2.0] * len(data["groups"][0]["kept"])
    plan.write_text(json.dumps(data))
    command.refused(path, command.folder / "no.onnx", "--replay", plan, words=["factors", "'gemm0'"])


def test_factors_reach_a_weight_behind_a_transpose(command: Command) -> None:
    net = Net()
    first = net.add("Relu", net.gemm(net.input(4, 10), 30, 10))
    turned = net.add("Transpose", net.weight(7, 30), perm=[1, 0])
    path = command.put(net.done(net.add("MatMul", first, turned)))
    plan = command.folder / "plan.json"
    prune(command, path, "--ratio", "0.4", "--method", "coreset-distinct", "--plan", plan)
    assert json.loads(plan.read_text())["groups"][0]["factors"]


def test_the_result_computes_what_the_plan_says(command: Command) -> None:
    """The kept channels of a hidden layer, with their factors, by hand."""
    path = command.put(dense(sizes=(6, 40, 3)))
    plan = command.folder / "plan.json"
    prune(command, path, "--ratio", "0.5", "--method", "coreset-distinct", "--plan", plan)
    entry = json.loads(plan.read_text())["groups"][0]
    kept, factors = entry["kept"], np.array(entry["factors"])
    tensors = [value.astype(np.float64) for value in weights(onnx.load(path)).values()]
    x = np.random.default_rng(3).standard_normal((2, 6)).astype(np.float32)
    hidden = np.maximum(x @ tensors[0] + tensors[1], 0)[:, kept]
    expected = (hidden * factors) @ tensors[2][kept] + tensors[3]
    found = run_file(command.folder / "out.onnx", np.random.default_rng(3))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_output_that_only_ort_can_judge(command: Command) -> None:
    """The written file runs on batches it was not validated with."""
    path = command.put(convolutional())
    prune(command, path, "--ratio", "0.5")
    for batch in (1, 3):
        assert run_file(command.folder / "out.onnx", np.random.default_rng(0), batch)[0].shape == (batch, 10)
    options = onnxruntime.SessionOptions()
    assert onnxruntime.InferenceSession(str(command.folder / "out.onnx"), options, providers=["CPUExecutionProvider"])
    assert isinstance(command("--version"), Ran)
