"""Accuracy before and after where classes are known, and the largest ratio that keeps to a loss of it."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import MODELS, Command, dense, perceptron, weights
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from PIL import Image

import onnxprune
from onnxprune import DataError, RefusedError, UsageError, choose, refine
from onnxprune.analysis import analyse
from onnxprune.calibrate.strokes import strokes
from onnxprune.curves import lost_accuracy
from onnxprune.graph import io
from onnxprune.options import Options
from onnxprune.reconstruct.evidence import Data, gather
from onnxprune.refine import open_refiner
from onnxprune.validate import Accuracy, Exam

COUNT, CLASSES = 240, 5


def scores(proto: ModelProto, samples: NDArray[Any]) -> NDArray[Any]:
    """First output of a network by onnxruntime."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: samples})[0])


def trained(count: int) -> tuple[ModelProto, NDArray[np.float32], NDArray[np.int64]]:
    """A network that tells clouds apart, by least squares on random features, and points of the clouds."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((CLASSES, 12))
    labels = rng.integers(0, CLASSES, count)
    samples = (centres[labels] + 1.2 * rng.standard_normal((count, 12))).astype(np.float32)
    proto = dense(sizes=(12, 24, 16, CLASSES))
    stored, hidden = weights(proto), samples
    for node in [node for node in proto.graph.node if node.op_type == "Gemm"][:-1]:
        hidden = np.maximum(hidden @ stored[node.input[1]] + stored[node.input[2]], 0)
    hidden = np.column_stack([hidden, np.ones(count)])
    solved = np.linalg.lstsq(hidden, np.eye(CLASSES)[labels], rcond=None)[0].astype(np.float32)
    _write(proto, {proto.graph.node[-1].input[1]: solved[:-1], proto.graph.node[-1].input[2]: solved[-1]})
    return proto, samples, labels


def _write(proto: ModelProto, values: dict[str, NDArray[Any]]) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))


def classes(proto: ModelProto, samples: NDArray[Any], wrong: int = 10) -> NDArray[np.int64]:
    """What a network answers, but for one in so many samples."""
    found = scores(proto, samples)
    labels = found.reshape(len(samples), -1).argmax(axis=1)
    labels[::wrong] = (labels[::wrong] + 1) % found.shape[1]
    return labels.astype(np.int64)


DENSE, SAMPLES, LABELS = trained(COUNT)


def held_out(count: int, share: int = 4, seed: int = 0) -> NDArray[np.int64]:
    """Numbers of the samples that are held out."""
    return np.sort(np.random.default_rng([seed, 7]).permutation(count)[: count // share])


def by_hand(before: ModelProto, after: ModelProto, samples: NDArray[Any], labels: NDArray[Any]) -> list[float]:
    """Accuracies and the standard error of their difference, in another form of the formula."""
    right = [scores(each, samples).reshape(len(samples), -1).argmax(axis=1) == labels for each in (before, after)]
    n, lost, won = len(labels), int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    error = np.sqrt((lost + won - (lost - won) ** 2 / n) / (n - 1) / n)
    return [float(right[0].mean()), float(right[1].mean()), float(error)]


def told(entry: dict[str, Any]) -> list[float]:
    """The same numbers from a report."""
    assert entry["drop"] == pytest.approx(entry["before"] - entry["after"])
    return [entry["before"], entry["after"], entry["standard_error"]]


# --- accuracy


@pytest.mark.parametrize("refit", ["on", "off"])
def test_the_report_says_what_onnxruntime_gives(refit: str) -> None:
    options: dict[str, Any] = {"ratio": 0.6, "calib": SAMPLES, "labels": LABELS}
    result = onnxprune.prune(DENSE, **options, refit=refit)
    entry = result.report["validation"]["accuracy"]
    held = held_out(COUNT)
    data = result.report["data"]
    assert entry["samples"] == len(held) == data["held_out"] == COUNT - data["samples"] - data["examined"]
    assert data["examined"] == (COUNT // 16 if refit == "on" else 0)
    expected = by_hand(DENSE, result.model, SAMPLES[held], LABELS[held])
    assert told(entry) == pytest.approx(expected, abs=1e-12)
    assert entry["output"] == DENSE.graph.output[0].name and expected[0] != expected[1] and expected[2] > 0


def test_where_nothing_is_learnt_all_samples_are_held_out_and_nothing_else_changes() -> None:
    options: dict[str, Any] = {"ratio": 0.5, "calib": SAMPLES, "method": "coreset", "refit": "off"}
    plain, judged = onnxprune.prune(DENSE, **options), onnxprune.prune(DENSE, **options, labels=LABELS)
    assert judged.model.SerializeToString(deterministic=True) == plain.model.SerializeToString(deterministic=True)
    entry = judged.report["validation"]["accuracy"]
    assert entry["samples"] == COUNT and judged.report["data"]["samples"] == 0
    assert told(entry) == pytest.approx(by_hand(DENSE, judged.model, SAMPLES, LABELS), abs=1e-12)
    assert plain.report["data"] is None and plain.report["validation"]["accuracy"] is None


def test_without_classes_nothing_is_said(command: Command) -> None:
    path = command.put(DENSE)
    np.savez(command.folder / "plain.npz", x0=SAMPLES)
    np.savez(command.folder / "known.npz", x0=SAMPLES, y=LABELS)
    flags = ("--ratio", "0.5", "--report", command.folder / "r.json", "--calib")
    ran = command.done(path, command.folder / "out.onnx", *flags, command.folder / "plain.npz")
    facts = json.loads((command.folder / "r.json").read_text())
    assert "accuracy" not in ran.out and facts["validation"]["accuracy"] is None and facts["search"] == []
    ran = command.done(path, command.folder / "out.onnx", *flags, command.folder / "known.npz")
    entry = json.loads((command.folder / "r.json").read_text())["validation"]["accuracy"]
    line = next(line for line in ran.out.splitlines() if "top-1 accuracy" in line)
    assert f"{entry['before']:.1%} before, {entry['after']:.1%} after, on 60 samples held out" in line
    change = f"{100 * abs(entry['drop']):.2f} points {'lost' if entry['drop'] >= 0 else 'gained'}"
    assert f"{change} (standard error {100 * entry['standard_error']:.2f})" in line


def test_samples_sorted_by_their_classes_are_held_out_of_every_class() -> None:
    order = np.argsort(LABELS, kind="stable")
    result = onnxprune.prune(DENSE, ratio=0.4, calib=SAMPLES[order], labels=LABELS[order])
    held = held_out(COUNT)
    assert set(LABELS[order][held]) == set(LABELS)
    expected = by_hand(DENSE, result.model, SAMPLES[order][held], LABELS[order][held])
    assert told(result.report["validation"]["accuracy"]) == pytest.approx(expected, abs=1e-12)


def test_batches_that_are_not_full() -> None:
    """A fixed batch of five leaves the last samples out, of the labels too."""
    proto, rng = perceptron(hidden=30), np.random.default_rng(5)
    samples = rng.standard_normal((63, 8)).astype(np.float32)
    rows = samples[:60].reshape(12, 5, 8)
    labels = np.concatenate([classes(proto, each, wrong=3) for each in rows] + [np.zeros(3, np.int64)])
    result = onnxprune.prune(proto, ratio=0.5, calib=samples, labels=labels)
    chosen = np.arange(60) * 63 // 60
    held = chosen[np.sort(np.random.default_rng([0, 7]).permutation(60)[:15])]
    batches = [held[start : start + 5] for start in range(0, 15, 5)]
    right = [[scores(each, samples[b]).argmax(axis=1) == labels[b] for b in batches] for each in (proto, result.model)]
    entry = result.report["validation"]["accuracy"]
    assert (entry["samples"], entry["before"], entry["after"]) == (15, np.mean(right[0]), np.mean(right[1]))


def test_more_samples_are_held_out_than_learnt_from_where_there_are_many() -> None:
    many = np.tile(SAMPLES, (9, 1))
    data = onnxprune.prune(DENSE, ratio=0.4, calib=many, labels=np.tile(LABELS, 9)).report["data"]
    assert (data["samples"], data["examined"], data["held_out"]) == (1024, 128, len(many) - 1024 - 128)
    data = onnxprune.prune(DENSE, ratio=0.4, calib=many, labels=np.tile(LABELS, 9), samples=800).report["data"]
    assert (data["samples"], data["examined"], data["held_out"]) == (550, 50, 200)


def test_scores_with_axes_of_one_behind_another_output() -> None:
    net = Net()
    x = net.input("n", 3, 4, 4)
    hidden = net.add("Relu", net.conv(x, 20, 3))
    features = net.conv(hidden, 6, 20)
    pooled = net.add("GlobalAveragePool", features)
    proto = net.done(features, pooled)
    samples = np.random.default_rng(0).standard_normal((40, 3, 4, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    labels = session.run([pooled], {"x0": samples})[0].reshape(40, 6).argmax(axis=1)
    report = onnxprune.prune(proto, ratio=0.2, best_effort=True, calib=samples, labels=labels).report
    accuracy = report["validation"]["accuracy"]
    assert (accuracy["output"], accuracy["before"], accuracy["samples"]) == (pooled, 1.0, 10)


def test_folders_of_pictures_are_classes(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
    net = Net()
    x = net.add("Relu", net.conv(net.input("n", 3, 8, 8), 12, 3))
    proto = net.done(net.add("Flatten", net.add("GlobalAveragePool", net.conv(x, 3, 12))))
    for number, picture in enumerate(pictures):
        home = tmp_path / ("cat", "dog", "eel")[number % 3]
        home.mkdir(exist_ok=True)
        Image.fromarray(picture).save(home / f"{number:02}.png")
    report = onnxprune.prune(proto, ratio=0.3, best_effort=True, calib=tmp_path, input_range="0,1").report
    held = np.concatenate([np.arange(kind, 24, 3) for kind in range(3)])[held_out(24)]
    right = scores(proto, (pictures[held].transpose(0, 3, 1, 2) / 255).astype(np.float32)).argmax(axis=1) == held % 3
    assert report["validation"]["accuracy"]["samples"] == 6
    assert report["validation"]["accuracy"]["before"] == pytest.approx(right.mean())


@pytest.mark.parametrize(("before", "after"), [
    ([1, 1, 1, 0, 0], [1, 0, 0, 1, 0]), ([1, 1, 1], [0, 0, 0]), ([0, 1], [1, 0]),
])  # fmt: skip
def test_the_standard_error_is_that_of_paired_differences(before: Sequence[int], after: Sequence[int]) -> None:
    found = Accuracy.of("y", np.array(before, bool), np.array(after, bool))
    apart = [a - b for a, b in zip(before, after, strict=True)]
    mean = sum(apart) / len(apart)
    variance = sum((each - mean) ** 2 for each in apart) / (len(apart) - 1)
    assert found.drop == pytest.approx(mean) and found.standard_error == pytest.approx((variance / len(apart)) ** 0.5)


def test_one_sample_has_no_standard_error() -> None:
    assert np.isnan(Accuracy.of("y", np.ones(1, bool), np.zeros(1, bool)).standard_error)


@pytest.mark.parametrize(("labels", "words"), [
    (LABELS[:-1], "239 classes for 240 samples"),
    (np.append(LABELS, 0), "241 classes for 240 samples"),
    (np.where(np.arange(COUNT) == 7, 5, LABELS), "class 5.*5 scores, for the classes 0 to 4"),
])  # fmt: skip
def test_labels_that_do_not_fit(labels: NDArray[Any], words: str) -> None:
    for source in (SAMPLES, list(SAMPLES)):
        with pytest.raises(DataError, match=words):
            onnxprune.prune(DENSE, ratio=0.5, calib=source, labels=labels)


def test_classes_of_the_data_that_do_not_fit_are_left_out_and_that_is_said(command: Command) -> None:
    """Nobody asked for accuracy: an array that is called y may be anything."""
    path = command.put(DENSE)
    many = np.tile(SAMPLES, (5, 1))
    np.savez(command.folder / "c.npz", x0=many, y=np.tile(LABELS, 5) + 1000)
    np.savez(command.folder / "plain.npz", x0=many)
    ran = command.done(path, command.folder / "a.onnx", "--ratio", "0.5", "--calib", command.folder / "c.npz")
    assert "accuracy is not measured: the labels hold class 1004" in ran.out
    command.done(path, command.folder / "b.onnx", "--ratio", "0.5", "--calib", command.folder / "plain.npz")
    assert (command.folder / "a.onnx").read_bytes() == (command.folder / "b.onnx").read_bytes()


def test_outputs_that_are_no_scores(command: Command) -> None:
    net = Net()
    hidden = net.add("Relu", net.dense(net.input("n", 7, 4), 12, 4))
    path = command.put(net.done(net.dense(hidden, 3, 12)))
    np.savez(command.folder / "c.npz", x0=np.ones((8, 7, 4), np.float32))
    np.save(command.folder / "l.npy", np.zeros(8, np.int64))
    flags = ("--ratio", "0.3", "--calib", command.folder / "c.npz", "--labels", command.folder / "l.npy")
    command.refused(path, command.folder / "o.onnx", *flags, words=["no output", "[8, 7, 3]", "leave the labels out"])


# --- the largest ratio for a loss


@cache
def searched(points: float) -> onnxprune.Result:
    return onnxprune.prune(DENSE, max_drop=points, calib=SAMPLES, labels=LABELS, distill="off")


def kept(result: onnxprune.Result) -> list[int]:
    return [len(group.kept) for group in result.plan.groups]


@pytest.mark.parametrize("points", [0, 5, 20])
def test_the_largest_ratio_that_keeps_to_it(points: float) -> None:
    result = searched(points)
    tried, accuracy = result.report["search"], result.report["validation"]["accuracy"]
    held = held_out(COUNT)
    assert told(accuracy) == pytest.approx(by_hand(DENSE, result.model, SAMPLES[held], LABELS[held]), abs=1e-12)
    assert 100 * accuracy["drop"] <= points + 1e-9 and result.report["validation"]["twin"]["passed"]
    taken = max((each for each in tried if 100 * each["drop"] <= points + 1e-9), key=lambda each: each["ratio"])
    assert taken["removed"] == pytest.approx(result.report["achieved"]["params"], abs=1e-9)
    assert told(taken) == pytest.approx(told(accuracy), abs=1e-12)
    larger = [each for each in tried if each["ratio"] > taken["ratio"]]
    assert larger and all(100 * each["drop"] > points for each in larger)
    nearest = min(each["ratio"] for each in larger)
    assert 2 <= len(tried) <= 7 and nearest - taken["ratio"] <= max(0.02, 0.01)


def test_distilled_weights_are_tried_as_they_are_written() -> None:
    """They lose less, so that more may go."""
    result = onnxprune.prune(DENSE, max_drop=5, calib=SAMPLES, labels=LABELS)
    assert result.report["distill"]["kept"]
    taken = max((each for each in result.report["search"] if 100 * each["drop"] <= 5), key=lambda each: each["ratio"])
    assert told(taken) == pytest.approx(told(result.report["validation"]["accuracy"]), abs=1e-12)
    assert result.report["achieved"]["params"] > searched(5).report["achieved"]["params"]


def test_weights_by_sign_are_tried_as_they_are_written() -> None:
    result = onnxprune.prune(DENSE, max_drop=60, method="coreset-split", calib=SAMPLES, labels=LABELS)
    assert any(group.negative for group in result.plan.groups)
    taken = max((each for each in result.report["search"] if 100 * each["drop"] <= 60), key=lambda each: each["ratio"])
    assert told(taken) == pytest.approx(told(result.report["validation"]["accuracy"]), abs=1e-12)


def test_more_may_go_for_more_points() -> None:
    shares = [searched(points).report["achieved"]["params"] for points in (0, 5, 20)]
    assert shares[0] < shares[1] < shares[2]


def test_a_ratio_is_the_largest_that_is_tried() -> None:
    result = onnxprune.prune(DENSE, max_drop=90, ratio=0.5, calib=SAMPLES, labels=LABELS)
    plain = onnxprune.prune(DENSE, ratio=0.5, calib=SAMPLES, labels=LABELS)
    assert [each["ratio"] for each in result.report["search"]] == [0.5]
    assert result.model.SerializeToString(deterministic=True) == plain.model.SerializeToString(deterministic=True)
    assert result.report["request"]["max_drop"] == 90 and result.plan.groups == plain.plan.groups
    result = onnxprune.prune(DENSE, max_drop=0, ratio=0.9, calib=SAMPLES, labels=LABELS, distill="off")
    ratios = [each["ratio"] for each in result.report["search"]]
    assert ratios[0] == max(ratios) == 0.9 and result.report["achieved"]["params"] < 0.85


def test_what_cannot_be_reached_is_not_tried() -> None:
    """All but one group are left out: the most that can go is less than the ratio."""
    result = onnxprune.prune(DENSE, max_drop=95, ratio=0.9, include="gemm0", min_keep=12, calib=SAMPLES, labels=LABELS)
    (tried,) = result.report["search"]
    assert tried["ratio"] < 0.9 and min(kept(result)) == 12


def test_the_command_says_what_was_tried(command: Command) -> None:
    path, plan = command.put(DENSE), command.folder / "plan.json"
    np.savez(command.folder / "c.npz", x0=SAMPLES, labels=LABELS)
    flags = ("--calib", command.folder / "c.npz", "--max-drop", "10")
    report = command.folder / "r.json"
    ran = command.done(path, command.folder / "out.onnx", *flags, "--plan", plan, "--report", report)
    tried = json.loads(report.read_text())["search"]
    assert "Tried for at most 10 points:" in ran.out
    assert all(f"{each['removed']:.1%} lost {100 * each['drop']:.2f}" in " ".join(ran.out.split()) for each in tried)
    assert command.done(path, command.folder / "quiet.onnx", *flags, "-q").out == ""
    data = ("--calib", command.folder / "c.npz")
    command.done(path, command.folder / "again.onnx", *data, "--replay", plan)
    made = [(command.folder / f"{name}.onnx").read_bytes() for name in ("out", "quiet", "again")]
    assert made[0] == made[1] == made[2]
    ran = command.done(path, "--dry-run", *flags)
    assert "Tried for at most 10 points:" in ran.out and "Dry run" in ran.out


def test_what_loses_too_much_whatever_goes_is_refused(command: Command) -> None:
    """Every channel of the one hidden layer decides for a class of its own."""
    proto = dense(sizes=(16, 16, 16))
    sizes = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    # The last channel has the smallest norm, and nothing else is the first class where all scores are zero.
    _write(
        proto, {name: np.diag(np.arange(32.0, 16.0, -1)) if size == 2 else np.zeros(16) for name, size in sizes.items()}
    )
    samples = np.tile(np.eye(16, dtype=np.float32), (20, 1))
    path = command.put(proto)
    np.savez(command.folder / "c.npz", x0=samples, y=np.tile(np.arange(16), 20))
    flags = ("--max-drop", "0", "--calib", command.folder / "c.npz", "--method", "l2", "--refit", "off")
    words = ["--max-drop 0 cannot be kept to", "from 100.0% to", "320 samples held out", "allow more"]
    command.refused(path, command.folder / "out.onnx", *flags, words=words)


def test_what_max_drop_needs(command: Command) -> None:
    path, out, plan = command.put(DENSE), command.folder / "out.onnx", command.folder / "plan.json"
    np.savez(command.folder / "c.npz", x0=SAMPLES)
    np.savez(command.folder / "y.npz", x0=SAMPLES, y=LABELS)
    np.save(command.folder / "wrong.npy", np.roll(LABELS, 1))
    command.done(path, "--dry-run", "--ratio", "0.5", "--calib", command.folder / "c.npz", "--plan", plan)
    data = ("--calib", command.folder / "c.npz")
    command.refused(path, out, "--max-drop", "1", code=2, words=["--max-drop 1", "--calib", "--labels"])
    command.refused(path, out, "--max-drop", "1", *data, words=["--max-drop 1", "no classes", "--labels FILE"])
    command.refused(path, out, "--max-drop", "-1", *data, code=2, words=["--max-drop -1", "from 0"])
    known = ("--calib", command.folder / "y.npz", "--max-drop", "1")
    command.refused(path, out, *known, "--replay", plan, code=2, words=["--max-drop", "--replay", "alone"])
    shuffled = ("--labels", command.folder / "wrong.npy")
    command.refused(path, out, *data, *shuffled, "--max-drop", "1", words=["as by guessing", "order of the samples"])


def test_python_says_the_same() -> None:
    plan = onnxprune.prune(DENSE, ratio=0.5, calib=SAMPLES).plan
    with pytest.raises(UsageError, match="max_drop="):
        onnxprune.prune(DENSE, max_drop=1, replay=plan, calib=SAMPLES, labels=LABELS)
    with pytest.raises(UsageError, match="ratio="):
        onnxprune.prune(DENSE)
    with pytest.raises(RefusedError, match="nothing can go"):
        onnxprune.prune(DENSE, max_drop=1, min_keep=100, calib=SAMPLES, labels=LABELS)


# --- budgets of one accuracy


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float64]]:
    """Curves of accuracy, group by group, as they are found."""
    found: list[NDArray[np.float64]] = []

    def noted(*given: Any) -> NDArray[np.float64]:
        found.append(lost_accuracy(*given))
        return found[-1]

    monkeypatch.setattr(choose, "lost_accuracy", noted)
    return found


def digits() -> tuple[ModelProto, NDArray[np.float32], NDArray[np.int64]]:
    """A trained network, figures that are not what it was trained on, and its answers as their classes."""
    proto = onnx.load(MODELS / "resnet8-mnist.onnx")
    ink = strokes(400, (1, 28, 28), np.random.default_rng(0))
    samples = ((ink / 255 - 0.1307) / 0.3081).astype(np.float32)
    return proto, samples, classes(proto, samples, wrong=50)


def clouds() -> tuple[ModelProto, NDArray[np.float32], NDArray[np.int64]]:
    return DENSE, SAMPLES, LABELS


@pytest.mark.parametrize("make", [clouds, digits])
@pytest.mark.parametrize("measure", ["params", "macs"])
def test_budgets_of_one_accuracy(make: Any, measure: str, curves: list[NDArray[np.float64]]) -> None:
    """Every group that is not at its floor would lose more with a channel less than any other group has lost.

    So that the share is met, groups may depart from that, by two channels where steps of others are passed over and by
    two where they are tried.
    """
    proto, samples, labels = make()
    options: dict[str, Any] = {"ratio": 0.5, "measure": measure, "min_keep": 1}
    result = onnxprune.prune(proto, **options, allocation="accuracy", calib=samples, labels=labels)
    assert result.report["achieved"][measure] == pytest.approx(0.5, abs=0.01)
    assert result.report["validation"]["twin"]["passed"] and len(curves) == len(result.plan.groups)
    assert result.report["validation"]["accuracy"]["samples"] == len(samples) // 4
    for curve, group in zip(curves, result.plan.groups, strict=True):
        assert curve.size == group.channels + 1 and curve[-1] == 0 and (np.diff(curve) <= 0).all() and curve[0] > 0.3
    counts = kept(result)
    lost = [curve[min(count + 4, curve.size - 1)] for curve, count in zip(curves, counts, strict=True)]
    left = [curve[count - 5] for curve, count in zip(curves, counts, strict=True) if count > 5]
    assert max(lost) <= min(left) and max(lost) > 0


def test_budgets_are_of_samples_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is held out, and readers are solved on none of them, though samples are sorted by their classes."""
    order = np.argsort(LABELS, kind="stable")
    seen: list[tuple[Exam, Data]] = []

    def noted(work: Any, data: Data) -> Any:
        assert refiner.lesson is not None and data is refiner.lesson.others
        seen.append((refiner.lesson.exam, data))
        return gather(work, data)

    options = Options(ratio=0.5, allocation="accuracy", calib=SAMPLES[order], labels=LABELS[order])
    refiner = open_refiner(analyse(io.from_proto(DENSE), options), options)
    assert refiner is not None
    monkeypatch.setattr(refine, "gather", noted)
    list(refiner.evidence().groups)
    exam, others = seen[0]
    told, solved, held, examined = (
        {row.tobytes() for batch in batches for row in batch["x0"]}
        for batches in (exam.batches, others.batches, refiner.held_out, refiner.examined)
    )
    assert set(exam.labels) == set(LABELS) and (len(told), len(solved), len(held), len(examined)) == (82, 83, 60, 15)
    assert not told & solved and not (told | solved) & held and not (told | solved | held) & examined


def test_budgets_of_one_accuracy_need_classes_and_a_refit(command: Command) -> None:
    path, out = command.put(DENSE), command.folder / "out.onnx"
    np.savez(command.folder / "plain.npz", x0=SAMPLES)
    asked = ("--ratio", "0.5", "--allocation", "accuracy")
    command.refused(path, out, *asked, code=2, words=["--allocation accuracy", "--calib DATA"])
    data = ("--calib", command.folder / "plain.npz")
    command.refused(path, out, *asked, *data, words=["--allocation accuracy", "no classes", "--labels FILE"])
    np.savez(command.folder / "y.npz", x0=SAMPLES, labels=LABELS)
    known = (*asked, "--calib", command.folder / "y.npz")
    command.refused(path, out, *known, "--refit", "off", code=2, words=["--allocation accuracy", "--refit on"])
    drawn = ("--method", "coreset-sampled", "--refit", "on")
    command.refused(path, out, *known, *drawn, code=2, words=["--method coreset-sampled", "choose from auto"])
    ordered = ("--method", "l2", "--layer-order", "forward")
    command.refused(path, out, *known, *ordered, code=2, words=["leave --layer-order together"])
    np.savez(command.folder / "one.npz", x0=SAMPLES[:2], labels=LABELS[:2])
    few = (*asked, "--calib", command.folder / "one.npz")
    command.refused(path, out, *few, words=["--allocation accuracy", "1 samples", "give more"])
    np.savez(command.folder / "wrong.npz", x0=SAMPLES, labels=np.roll(LABELS, 1))
    wrong = (*asked, "--calib", command.folder / "wrong.npz")
    command.refused(path, out, *wrong, words=["--allocation accuracy", "as by guessing", "order of the samples"])


def test_a_plan_of_one_accuracy_is_carried_out_again(command: Command) -> None:
    path, plan = command.put(DENSE), command.folder / "plan.json"
    np.savez(command.folder / "y.npz", x0=SAMPLES, labels=LABELS)
    data = ("--calib", command.folder / "y.npz")
    asked = ("--ratio", "0.5", "--allocation", "accuracy", "--plan", plan)
    command.done(path, command.folder / "out.onnx", *data, *asked)
    command.done(path, command.folder / "again.onnx", *data, "--replay", plan)
    assert (command.folder / "out.onnx").read_bytes() == (command.folder / "again.onnx").read_bytes()


def test_one_accuracy_and_the_most_that_may_be_lost(curves: list[NDArray[np.float64]]) -> None:
    """Curves are found once, whatever number of ratios is tried."""
    options: dict[str, Any] = {"calib": SAMPLES, "labels": LABELS, "allocation": "accuracy"}
    result = onnxprune.prune(DENSE, max_drop=10, **options)
    assert len(curves) == 2 and len(result.report["search"]) > 2
    assert 100 * result.report["validation"]["accuracy"]["drop"] <= 10
