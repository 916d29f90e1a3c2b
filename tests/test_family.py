"""A family: members that are parts of one another, each proved, written one by one, with one table."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from doors import MODELS, Command
from net import Net
from onnx import ModelProto

from onnxprune import pipeline
from onnxprune.analysis import analyse
from onnxprune.budget import Item, allocate
from onnxprune.choose import Ranked, narrowed
from onnxprune.errors import ValidationError
from onnxprune.graph import io
from onnxprune.methods import Choice
from onnxprune.rewrite import GroupPlan, Plan

RESNET = MODELS / "resnet8-mnist.onnx"
RATIOS = (0.2, 0.4, 0.6, 0.8)


def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Plans of all members, as they are carried out."""
    found: list[Plan] = []
    finish = pipeline.finish_file

    def watched(*arguments: Any, **more: Any) -> Any:
        outcome = finish(*arguments, **more)
        found.append(outcome.plan)
        return outcome

    monkeypatch.setattr("onnxprune.family.finish_file", watched)
    return found


@pytest.mark.parametrize("method", ["auto", "submodular", "l1", "thinner", "synflow", "random"])
def test_every_member_is_a_part_of_the_one_before(
    method: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, folder = plans(monkeypatch), tmp_path / "out"
    refit = "auto" if method in ("auto", "submodular") else "off"
    flags = ("--method", method, "--refit", refit, "--synthetic", "64", "--min-keep", "1")
    command.done("family", RESNET, folder, "--ratios", "0.8,0.2,0.6,0.4", *flags)
    assert len(found) == 4
    for before, after in pairwise(found):
        for larger, smaller in zip(before.groups, after.groups, strict=True):
            assert set(smaller.kept) <= set(larger.kept), smaller.name
    facts = json.loads((folder / "family.json").read_text(encoding="utf-8"))
    assert [member["ratio"] for member in facts["members"]] == list(RATIOS)
    for member in facts["members"]:
        assert member["achieved"]["params"] == pytest.approx(member["ratio"], abs=0.01)
        assert member["twin"]["passed"] and member["latency"]["median_ms"] > 0
        assert Path(member["path"]).stat().st_size == member["bytes"]


def test_the_first_member_is_what_a_prune_gives(command: Command, tmp_path: Path) -> None:
    alone = tmp_path / "alone.onnx"
    flags = ("--method", "l1", "--refit", "off", "--allocation", "uniform")
    command.done(RESNET, alone, "--ratio", "0.3", *flags)
    command.done("family", RESNET, tmp_path / "out", "--ratios", "0.3,0.7", *flags)
    assert onnx.load(alone) == onnx.load(tmp_path / "out" / "resnet8-mnist-0.3.onnx")


def test_the_table_and_what_is_asked(command: Command, tmp_path: Path) -> None:
    report = tmp_path / "all.json"
    flags = ("--method", "l2", "--refit", "off", "--report", report)
    ran = command.done("family", RESNET, tmp_path / "out", "--ratios", "0.25,0.5", *flags)
    assert "resnet8-mnist-0.25" in ran.out and "78,426" in ran.out and "by turns" in " ".join(ran.out.split())
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert facts["kind"] == "family" and facts["request"]["ratios"] == [0.25, 0.5]
    assert not (tmp_path / "out" / "family.json").exists()
    assert facts["original"]["params"] == 78426 and facts["original"]["latency"]["runs"] >= 5


def test_fresh_weights(command: Command, tmp_path: Path) -> None:
    command.done("family", RESNET, tmp_path, "--ratios", "0.2,0.5", "--method", "thinner", "--reinit", "-q")
    for ratio in ("0.2", "0.5"):
        stored = onnx.load(tmp_path / f"resnet8-mnist-{ratio}.onnx").graph.initializer
        made = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in stored}
        scales = [made[node.input[1]] for node in onnx.load(RESNET).graph.node if node.op_type == "BatchNormalization"]
        assert scales and all((scale == 1).all() for scale in scales)


def test_nothing_is_written_where_a_ratio_cannot_be_reached(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    flags = ("--ratios", "0.2,0.99", "--method", "l1", "--refit", "off", "--min-keep", "0.5")
    ran = command("family", RESNET, folder, *flags)
    assert ran.code == 1 and "at most" in ran.err and not folder.exists()
    ran = command("family", RESNET, folder, "--method", "coreset-sampled", "--ratios", "0.2,0.4")
    assert ran.code == 2 and "choose a method with an order" in ran.err and not folder.exists()
    net = Net(seed=2)
    onnx.save(net.done(net.gemm(net.add("Relu", net.gemm(net.input("n", 6), 6, 6)), 4, 6)), tmp_path / "coarse.onnx")
    folder.mkdir()
    flags = ("--ratios", "0.157,0.4", "--method", "l1", "--refit", "off")
    ran = command("family", tmp_path / "coarse.onnx", folder, *flags)
    assert ran.code == 1 and "--ratio 0.4 cannot be met" in ran.err and not list(folder.iterdir())


def test_members_that_were_done_stay_where_a_later_one_fails(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finish, done = pipeline.finish_file, []

    def failing(*arguments: Any, **more: Any) -> Any:
        if done:
            raise ValidationError("a fault")
        done.append(True)
        return finish(*arguments, **more)

    monkeypatch.setattr("onnxprune.family.finish_file", failing)
    ran = command("family", RESNET, tmp_path, "--ratios", "0.2,0.4", "--method", "l1", "--refit", "off")
    assert ran.code == 3 and [path.name for path in tmp_path.iterdir()] == ["resnet8-mnist-0.2.onnx"]
    onnx.checker.check_model(tmp_path / "resnet8-mnist-0.2.onnx")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--ratios", "0.2,0.2"), "different"),
        (("--ratios", "0.2,0.200001"), "first four digits"),
        (("--ratios", "0.2,1.2"), "--ratio 1.2"),
        (("--ratios", "half"), "--ratios"),
        (("--ratios", "0.2", "--method", "l1", "--layer-order", "forward"), "a part of another"),
        (("--report", "x.txt"), "--report"),
        (("--replay", "x.json"), "--replay"),
    ],
)
def test_what_is_wrong_by_itself(flags: tuple[str, ...], word: str, command: Command, tmp_path: Path) -> None:
    ran = command("family", RESNET, tmp_path / "out", *flags)
    assert ran.code == 2 and word in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ran = command("family", RESNET, tmp_path / "out", "--ratios", "0.2")
    assert ran.code == 1 and "folder" in ran.err and (tmp_path / "out").read_text() == "mine"


def test_a_ceiling_is_kept_to() -> None:
    analysis, rng = analyse(io.from_proto(chain())), np.random.default_rng(0)
    items = [Item(int(size), 1, np.sort(rng.random(size))[::-1], 1, ceiling=int(size) // 2) for size in analysis.sizes]
    for allocation in ("uniform", "global", "error"):
        for ratio in (0.6, 0.75, 0.9):
            found = allocate(analysis.costs["params"], items, ratio, allocation=allocation)
            assert all(count <= size // 2 for count, size in zip(found.counts, analysis.sizes, strict=True))
            assert found.removed >= ratio - 0.05


def chain() -> ModelProto:
    net = Net(seed=2)
    x = net.add("Relu", net.gemm(net.input("n", 6), 20, 6))
    x = net.add("Relu", net.gemm(x, 12, 20))
    return net.done(net.gemm(net.add("Relu", net.gemm(x, 30, 12)), 4, 30))


def test_what_is_left_comes_first() -> None:
    choice = Choice(np.array([3, 1, 0, 2]), np.array([0.2, 0.6, 0.1, 0.9]))
    ranked = narrowed(Ranked([choice], [None]), Plan("", (GroupPlan("g", 4, (0, 3)),)))
    (found,) = ranked.choices
    assert found.order.tolist() == [3, 0, 1, 2] and ranked.ceilings == (2,)
    assert found.scores[found.order].tolist() == [0.9, 0.6, 0.2, 0.1]


@pytest.mark.parametrize("runs", [True, False])
def test_members_are_timed_at_sizes_that_run_or_not_at_all(
    runs: bool, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    onnx.save(chain(), tmp_path / "chain.onnx")
    attempts = [{"x0": (4, 5)}, {"x0": (4, 6)}]  # the network takes six features
    monkeypatch.setattr("onnxprune.family.shape_attempts", lambda *_: attempts if runs else attempts[:1])
    flags = ("--ratios", "0.2,0.4", "--method", "l1", "--refit", "off", "--best-effort")
    ran = command.done("family", tmp_path / "chain.onnx", tmp_path / "out", *flags)
    facts = json.loads((tmp_path / "out" / "family.json").read_text(encoding="utf-8"))
    assert ("not timed" in ran.out) != runs
    assert all((found["latency"] is not None) == runs for found in (facts["original"], *facts["members"]))
