"""Networks judged by their original: every figure against a computation of its own, files of any origin, conditions."""

import base64
import io
import json
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
from PIL import Image
from scipy.special import softmax

from onnxprune.compare.thumbnails import shrunk
from onnxprune.errors import RefusedError, UsageError
from onnxprune.evaluate import CLASSES, MEASURABLE, Pair, kind_of, parse_condition

RESNET = MODELS / "resnet8-mnist.onnx"
RNG = np.random.default_rng(3)
N, C = 203, 7


def scores(seed: int) -> NDArray[np.float32]:
    return (2 * np.random.default_rng(seed).standard_normal((N, C))).astype(np.float32)


def judged(
    before: NDArray[Any],
    after: NDArray[Any],
    labels: NDArray[np.int64] | None = None,
    *,
    size: int = 50,
    kind: str = "",
) -> dict[str, Any]:
    pair = Pair(kind or kind_of(before))
    for start in range(0, len(before), size):
        part = slice(start, start + size)
        numbers = np.arange(len(before))[part]
        pair.add(before[part], after[part], numbers, None if labels is None else labels[part])
    return pair.facts()


def test_distances() -> None:
    before, after = scores(1), scores(1) + 0.1 * scores(2)
    found, gap = judged(before, after), (after - before).astype(float)
    assert found["relative_l2"] == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(before), rel=1e-6)
    cosine = (before.astype(float) * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
    assert found["cosine"] == pytest.approx(cosine, rel=1e-6)
    assert found["max_abs"] == pytest.approx(np.abs(gap).max(), rel=1e-6)
    spread = float(before.max()) - float(before.min())
    assert found["psnr"] == pytest.approx(10 * np.log10(spread**2 / np.mean(gap**2)), rel=1e-6)


def test_answers() -> None:
    before, after, labels = scores(1), scores(1) + scores(2), np.random.default_rng(5).integers(0, C, N)
    found = judged(before, after, labels)
    p, q = softmax(before.astype(float), axis=1), softmax(after.astype(float), axis=1)
    a, b = before.argmax(1), after.argmax(1)
    assert found["kind"] == "classes"
    assert found["agreement"] == pytest.approx((a == b).mean())
    assert found["softmax_distance"] == pytest.approx(np.linalg.norm(p - q, axis=1).mean(), rel=1e-9)
    assert found["kl"] == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-9)
    assert found["top1"] == pytest.approx([(a == labels).mean(), (b == labels).mean()])
    among = [np.mean([label in row.argsort()[-5:] for row, label in zip(each, labels, strict=True)]) for each in (p, q)]
    assert found["top5"] == pytest.approx(among)
    for share, answer, told in zip((p, q), (a, b), found["calibration_error"], strict=True):
        sure, error = share.max(axis=1), 0.0
        for low in np.arange(15) / 15:
            inside = (sure >= low) & (sure < low + 1 / 15)
            if inside.any():
                error += inside.mean() * abs((answer == labels)[inside].mean() - sure[inside].mean())
        assert told == pytest.approx(error, abs=1e-9)
    assert found["perplexity"] is None


def test_who_changed_and_which_classes_lost() -> None:
    before, after = scores(1), scores(1).copy()
    labels = before.argmax(1)
    order = softmax(before.astype(float), axis=1).max(axis=1).argsort()[::-1]
    moved = order[::4]
    after[moved] = np.roll(after[moved], 1, axis=1)
    moved = np.array([number for number in moved if after[number].argmax() != labels[number]])
    found = judged(before, after, labels)
    assert found["flips"] == len(moved) and len(found["flipped"]) == 24
    assert [entry["sample"] for entry in found["flipped"]] == moved[:24].tolist()
    first = found["flipped"][0]
    assert first["before"] == first["label"] == labels[moved[0]] and first["after"] == after[moved[0]].argmax()
    lost = {number: np.mean(after.argmax(1)[labels == number] != number) for number in range(C)}
    worst = max(lost, key=lambda number: lost[number])
    assert found["worst_classes"][0]["class"] == worst
    assert found["worst_classes"][0]["after"] == pytest.approx(1 - lost[worst])
    unknown = judged(before, after)
    assert unknown["top1"] is None and unknown["worst_classes"] == found["worst_classes"]


@pytest.mark.parametrize("size", [1, 7, 203])
def test_batches_do_not_matter(size: int) -> None:
    before, after, labels = scores(1), scores(4), np.arange(N) % C
    whole, parted = judged(before, after, labels, size=N), judged(before, after, labels, size=size)
    for name, value in whole.items():
        assert parted[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value) or (
            isinstance(value, list) and np.allclose(parted[name], value)
        )


def test_probabilities_are_taken_as_they_are() -> None:
    logits, others = scores(1), scores(2)
    plain = judged(logits, others, np.arange(N) % C)
    shares = judged(softmax(logits, axis=1), softmax(others, axis=1), np.arange(N) % C)
    for name in ("agreement", "softmax_distance", "kl", "top1", "calibration_error"):
        assert shares[name] == pytest.approx(plain[name], rel=1e-4)


def test_pixels_tokens_numbers_and_decisions() -> None:
    maps, others = (np.random.default_rng(k).standard_normal((3, 5, 4, 6)).astype(np.float32) for k in (1, 2))
    found = judged(maps, others, np.zeros(3, dtype=np.int64))
    assert found["kind"] == "pixels" and found["top1"] is None and found["flips"] == 0
    assert found["agreement"] == pytest.approx((maps.argmax(1) == others.argmax(1)).mean())
    truth = np.random.default_rng(3).integers(0, 5, (3, 4, 6))
    assert judged(maps, others, truth)["top1"][0] == pytest.approx((maps.argmax(1) == truth).mean())
    words, more = (np.random.default_rng(k).standard_normal((4, 6, 9)).astype(np.float32) for k in (1, 2))
    wanted = np.random.default_rng(3).integers(0, 9, (4, 6))
    found = judged(words, more, wanted, kind=kind_of(words, sequence=True))
    p = softmax(words.astype(float), axis=2)
    own = np.take_along_axis(p, wanted[:, :, None], axis=2)
    assert found["perplexity"][0] == pytest.approx(np.exp(-np.log(own).mean()), rel=1e-9)
    assert kind_of(words) == "numbers" and kind_of(np.ones((2, 3, 8, 8), np.float32)) == "numbers"
    masks = np.array([[0, 1, 1], [2, 2, 0]])
    found = judged(masks, np.array([[0, 1, 2], [2, 2, 1]]))
    assert found["kind"] == "decisions" and found["agreement"] == pytest.approx(4 / 6)


def test_what_is_not_finite_or_nothing() -> None:
    before = np.array([[1.0, np.inf, 2.0]], dtype=np.float32)
    assert judged(before, before, kind="numbers")["relative_l2"] == 0
    assert judged(before, np.array([[1.0, 5.0, 2.0]], np.float32), kind="numbers")["relative_l2"] is None
    assert judged(before, np.array([[np.nan, np.inf, 2.0]], np.float32), kind="numbers")["relative_l2"] is None
    nothing = np.zeros((2, 3), np.float32)
    found = judged(nothing, nothing, kind="numbers")
    assert found["relative_l2"] == 0 and found["psnr"] is None and found["cosine"] is None
    assert judged(nothing, nothing + 1, kind="numbers")["relative_l2"] is None


# ---- conditions ----------------------------------------------------------------------------------------------------


def facts(**figures: Any) -> dict[str, Any]:
    found = judged(scores(1), scores(2), np.arange(N) % C) | figures
    latency = {"median_ms": 2.0}
    original = {"params": 100, "macs": None, "bytes": 400, "latency": latency}
    network = {**original, "name": "small", "params": 40, "removed": 0.6, "latency": {"median_ms": 3.0}}
    return {"original": original, "networks": [{**network, "outputs": {"y": found}}]}


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("agreement<0.97", True),
        ("agreement < 0.01", False),
        ("relative_l2>=0.1", True),
        ("top1_drop>-100", True),
        ("removed<=.6", True),
        ("latency_ratio>1.4", True),
        ("latency_ratio>1.6", False),
        ("params_ratio > 4e-1", False),
    ],
)
def test_conditions(text: str, fails: bool) -> None:
    said = parse_condition(text).broken(facts())
    assert bool(said) == fails and all(text in line and "small" in line for line in said)


def test_an_output_that_is_empty_is_no_row_of_scores() -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert kind_of(nothing) == "numbers"
    pair = Pair("numbers")
    pair.add(nothing, nothing, np.arange(1))
    pair.add(np.float32(1), np.float32("nan"), np.arange(1))  # a scalar, too, can be none
    assert pair.facts()["broken"] == 1 and pair.facts()["samples"] == 2


def test_conditions_that_are_none_or_about_nothing() -> None:
    for wrong in ("", "agreement", "agreement=1", "agreement<", "agreement<x", "Agreement<1", "agreement<0.9 and more"):
        with pytest.raises(UsageError, match="--fail-if"):
            parse_condition(wrong)
    with pytest.raises(UsageError, match="no measure beauty"):
        parse_condition("beauty<1")
    for measure in ("perplexity", "macs_ratio"):
        with pytest.raises(RefusedError, match=f"has a {measure}"):
            parse_condition(f"{measure}>1").broken(facts())
    assert len(set(MEASURABLE)) == len(MEASURABLE)


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small(command: Command, tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    command.done(RESNET, path, "--ratio", "0.4", "--method", "l1", "--refit", "off")
    return path


def data(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    np.savez(folder / "data.npz", input=rng.random((60, 1, 28, 28)).astype(np.float32), labels=np.arange(60) % 10)
    return folder / "data.npz"


def test_a_network_is_itself(command: Command, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    ran = command.done("compare", RESNET, RESNET, "--data", data(tmp_path), "--report", report)
    assert "100.0%" in ran.out and "60 samples" in ran.out
    told = json.loads(report.read_text(encoding="utf-8"))
    (network,) = told["networks"]
    found = network["outputs"]["logits"]
    assert found["relative_l2"] == 0 and found["agreement"] == 1 and found["flips"] == 0 and found["kl"] == 0
    assert network["removed"] == 0 and network["macs"] == told["original"]["macs"] == 9345920
    assert told["kind"] == "compare" and told["data"] == {**told["data"], "samples": 60, "labelled": True}


def test_figures_are_those_of_runs(command: Command, small: Path, tmp_path: Path) -> None:
    import onnxruntime

    report, path = tmp_path / "r.json", data(tmp_path)
    command.done("compare", RESNET, small, "--data", path, "--report", report, "-q")
    with np.load(path) as stored:
        images, labels = stored["input"], stored["labels"]
    a, b = (
        onnxruntime.InferenceSession(str(each), providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
        for each in (RESNET, small)
    )
    found = json.loads(report.read_text(encoding="utf-8"))["networks"][0]["outputs"]["logits"]
    assert found["agreement"] == pytest.approx((a.argmax(1) == b.argmax(1)).mean())
    assert found["top1"] == pytest.approx([(each.argmax(1) == labels).mean() for each in (a, b)])
    assert found["relative_l2"] == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-4)


def decoded(picture: str) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as read:
        return np.asarray(read) / 255


def test_inputs_that_changed_their_class_are_drawn(command: Command, tmp_path: Path) -> None:
    report, path = tmp_path / "r.html", data(tmp_path)
    proto = onnx.load(RESNET)
    (last,) = (tensor for tensor in proto.graph.initializer if tensor.name == "fc.weight")
    last.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(last), 1, axis=0), last.name))
    onnx.save(proto, tmp_path / "other.onnx")
    command.done("compare", RESNET, tmp_path / "other.onnx", "--data", path, "--report", report, "-q")
    found = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))["networks"][0]["outputs"]["logits"]
    with np.load(path) as stored:
        shown = stored["input"][sorted(entry["sample"] for entry in found["flipped"]), 0]
        for entry in found["flipped"]:
            picture = (stored["input"][entry["sample"], 0] - shown.min()) / (shown.max() - shown.min())
            np.testing.assert_allclose(decoded(entry["thumbnail"]), np.stack(3 * [picture], axis=2), atol=0.51 / 255)
    assert found["flips"] > 3 and report.read_text(encoding="utf-8").count("<img") >= min(found["flips"], 24)


@pytest.mark.parametrize("last", [True, False])
def test_large_pictures_in_fixed_batches_are_drawn_small(last: bool, command: Command, tmp_path: Path) -> None:
    net, other = (colours(seed, last=last) for seed in (1, 2))
    onnx.save(net, tmp_path / "a.onnx")
    onnx.save(other, tmp_path / "b.onnx")
    images = np.random.default_rng(4).random((10, 3, 100, 150)).astype(np.float32)
    fed = images.transpose(0, 2, 3, 1) if last else images
    np.savez(tmp_path / "data.npz", x0=np.ascontiguousarray(fed))
    flags = ("--data", tmp_path / "data.npz", "--report", tmp_path / "r.json")
    command.done("compare", tmp_path / "a.onnx", tmp_path / "b.onnx", *flags)
    (found,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["networks"][0]["outputs"].values()
    assert found["flips"] % 4 and {entry["sample"] for entry in found["flipped"]} <= {0, 1, 2, 3, 5, 6, 7, 8}
    for entry in found["flipped"]:
        blocks = images[entry["sample"], :, :99, :150].reshape(3, 33, 3, 50, 3).mean(axis=(2, 4))
        drawn = decoded(entry["thumbnail"]).transpose(2, 0, 1)
        assert drawn.shape == (3, 33, 50)
        for colour, seen in zip(blocks, drawn, strict=True):
            assert np.corrcoef(colour.ravel(), seen.ravel())[0, 1] > 0.999


def colours(seed: int, *, last: bool) -> ModelProto:
    """A network that takes four pictures at once."""
    net = Net(seed=seed)
    x = net.input(4, *((100, 150, 3) if last else (3, 100, 150)))
    x = net.conv(net.add("Transpose", x, perm=[0, 3, 1, 2]) if last else x, 5, 3, kernel=(7, 7))
    return net.done(net.add("Flatten", net.add("GlobalMaxPool", x)))


def test_without_data_inputs_are_made_up_and_conditions_decide(command: Command, small: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    flags = ("--synthetic", "48", "--report", report, "-v")
    ran = command("compare", RESNET, small, *flags, "--fail-if", "agreement<1.1")
    assert ran.code == 3 and "agreement<1.1: small, output 'logits', has" in ran.err and "made up" in ran.out
    assert report.exists()
    assert command("compare", RESNET, small, *flags, "--fail-if", "agreement<0").code == 0
    report.unlink()
    ran = command("compare", RESNET, small, *flags, "--fail-if", "top1<0.5")
    assert ran.code == 1 and "--labels" in ran.err and report.exists()


def renamed(proto: ModelProto) -> ModelProto:
    """As another tool would write it."""
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"input": "image", "logits": "scores"}.get(name, name)
    proto.graph.input[0].name, proto.graph.output[0].name = "image", "scores"
    return proto


def test_names_of_another_tool(command: Command, tmp_path: Path) -> None:
    other, report = tmp_path / "other.onnx", tmp_path / "r.json"
    onnx.save(renamed(onnx.load(RESNET)), other)
    command.done("compare", RESNET, other, "--synthetic", "32", "--report", report)
    assert json.loads(report.read_text(encoding="utf-8"))["networks"][0]["outputs"]["logits"]["agreement"] == 1


def wider() -> ModelProto:
    net = Net()
    return net.done(net.gemm(net.add("Flatten", net.input("n", 1, 28, 28, name="input")), 11, 784))


@pytest.mark.parametrize(
    ("make", "word"),
    [(lambda: wider(), "outputs"), (lambda: (n := Net()).done(n.gemm(n.input("n", 6), 10, 6)), "inputs")],
)
def test_networks_that_take_or_give_something_else(
    make: Callable[[], ModelProto], word: str, command: Command, tmp_path: Path
) -> None:
    onnx.save(make(), tmp_path / "other.onnx")
    ran = command("compare", RESNET, tmp_path / "other.onnx", "--synthetic", "8")
    assert ran.code == 1 and f"other: {word}" in ran.err and "take and give the same" in ran.err


@pytest.mark.parametrize(
    ("flags", "code", "word"),
    [
        (("--labels", "x.npy"), 2, "--labels"),
        (("--report", "x.txt"), 2, "--report"),
        (("--fail-if", "agreement"), 2, "--fail-if"),
        (("--samples", "0", "--data", "x"), 2, "--samples"),
        (("--data", "nowhere.npz"), 1, "nowhere.npz"),
        (("--providers", "tpu"), 2, "--providers"),
    ],
)
def test_what_is_wrong(flags: tuple[str, ...], code: int, word: str, command: Command) -> None:
    ran = command("compare", RESNET, RESNET, *flags)
    assert ran.code == code and word in ran.err and ran.err.count("\n") == 1


def test_a_report_is_no_network(command: Command, tmp_path: Path) -> None:
    copy = tmp_path / "in.json"
    copy.write_bytes(RESNET.read_bytes())
    ran = command("compare", RESNET, copy, "--report", copy)
    assert ran.code == 1 and copy.read_bytes() == RESNET.read_bytes()


def rows(bias: float = 0.0) -> ModelProto:
    """Eight numbers to six scores; the first of them with a bias."""
    weight = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    net = Net()
    first = np.array([bias, *[0.0] * 5], np.float32)
    named = net.constant(weight, np.float32), net.constant(first, np.float32)
    return net.done(net.add("Gemm", net.input("n", 8), *named))


@pytest.mark.parametrize("bias", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_and_fails(bias: float, command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "d.npz", x0=rng.standard_normal((40, 8)).astype(np.float32), labels=rng.integers(0, 6, 40))
    for name, value in (("ok", 0.0), ("near", 0.1), ("broken", bias)):
        onnx.save(rows(value), tmp_path / f"{name}.onnx")
    others = [tmp_path / f"{name}.onnx" for name in ("ok", "near", "broken")]
    for condition in ("kl>0.9", "relative_l2>0.9", "top1<0"):
        flags = ("--data", tmp_path / "d.npz", "--fail-if", condition, "--report", tmp_path / "r.html")
        ran = command("compare", *others, *flags)
        assert ran.code == 3 and "broken, output" in ran.err and "not finite in 40 of 40 samples" in ran.err
        assert "near, output" not in ran.err and "Warning" not in ran.err and "not finite in 40" in ran.out
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["networks"][1]["outputs"]
    (found,) = told.values()
    assert found["broken"] == 40 and found["kl"] is None and found["agreement"] == 0 and found["top1"][1] == 0


def test_labels_have_to_be_classes_of_the_network(command: Command, tmp_path: Path) -> None:
    onnx.save(rows(), tmp_path / "a.onnx")
    np.save(tmp_path / "x.npy", np.ones((4, 8), np.float32))
    np.save(tmp_path / "l.npy", np.array([1, 2, 6, 3]))
    flags = ("compare", tmp_path / "a.onnx", tmp_path / "a.onnx", "--data", tmp_path / "x.npy", "--labels")
    ran = command(*flags, tmp_path / "l.npy")
    assert ran.code == 1 and "they hold class 6, but output" in ran.err and "has 6 scores" in ran.err
    ran = command(*flags, tmp_path / "none.npy")
    assert ran.code == 1 and "no such file" in ran.err


def test_labels_of_tokens_give_perplexity(command: Command, tmp_path: Path) -> None:
    net = Net(seed=1)
    ids = net.input("n", 5, kind=7, name="ids")
    onnx.save(net.done(net.dense(net.add("Gather", net.weight(11, 6), ids), 11, 6)), tmp_path / "lm.onnx")
    rng = np.random.default_rng(2)
    words, labels = rng.integers(0, 11, (2, 9, 5))
    labels[:, -1] = -100
    np.savez(tmp_path / "d.npz", ids=words, labels=labels)
    flags = ("--data", tmp_path / "d.npz", "--fail-if", "perplexity>1", "--report", tmp_path / "r.json")
    ran = command("compare", tmp_path / "lm.onnx", tmp_path / "lm.onnx", *flags)
    assert ran.code == 3, ran
    (found,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["networks"][0]["outputs"].values()
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "lm.onnx", providers=["CPUExecutionProvider"])
    shares = softmax(session.run(None, {"ids": words})[0].astype(float), axis=2)[:, :-1]
    own = np.take_along_axis(shares, labels[:, :-1, None], axis=2)
    assert found["perplexity"][0] == pytest.approx(float(np.exp(-np.log(own).mean())), rel=1e-5)
    assert found["top1"][0] == pytest.approx(float((shares.argmax(axis=2) == labels[:, :-1]).mean()))


def test_ties_are_in_the_order_of_classes() -> None:
    """A network that tells nothing apart is right of its first classes, not of all."""
    pair = Pair(CLASSES)
    scores, wanted = np.random.default_rng(0).standard_normal((60, 12)), np.arange(60) % 12
    pair.add(scores, np.zeros_like(scores), np.arange(60), wanted)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    assert pair.facts()["top5"] == pytest.approx([(order == wanted[:, None]).any(axis=1).mean(), 5 / 12])


@pytest.mark.parametrize("sizes", [(8, 1024), (2048, 3), (64, 64), (1, 1), (100, 90)])
def test_pictures_of_any_sides_get_small(sizes: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random((*sizes, 3))
    found = shrunk(picture)
    assert max(found.shape[:2]) <= 64 and min(found.shape) >= 1
    assert found.mean() == pytest.approx(picture.mean(), abs=0.05)
