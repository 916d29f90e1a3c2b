"""Networks under shift, through the command: figures against runs of one's own, and an interrupted run that goes on."""

import base64
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import MODELS, Command
from net import Net
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from onnxprune.calibrate.calibration import Network
from onnxprune.calibrate.given import open_calibration
from onnxprune.compare import shifts
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.journal import Journal
from onnxprune.errors import OutputError, UsageError
from onnxprune.evaluate import runner_of
from onnxprune.evaluate.corruptions import CORRUPTIONS, corrupted
from onnxprune.evaluate.features import back_select
from onnxprune.evaluate.robustness import LEVELS
from onnxprune.graph import io as graph_io
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import CPU, CUDA
from onnxprune.shapes.infer import infer_shapes

RESNET = MODELS / "resnet8-mnist.onnx"
COUNT = 40


@pytest.fixture
def family(command: Command, tmp_path: Path) -> list[Path]:
    command.done("family", RESNET, tmp_path, "--ratios", "0.3,0.6", "--method", "l2", "--refit", "off", "-q")
    rng = np.random.default_rng(0)
    images = rng.random((COUNT, 1, 28, 28)).astype(np.float32)
    labels = answers(RESNET, images).argmax(axis=1)
    labels[::5] = (labels[::5] + 1) % 10
    np.savez(tmp_path / "data.npz", input=images, labels=labels)
    return [tmp_path / f"resnet8-mnist-{ratio}.onnx" for ratio in ("0.3", "0.6")]


def answers(path: Path, images: NDArray[np.float32]) -> NDArray[Any]:
    found: NDArray[Any] = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"input": images}
    )[0]
    return found


def test_figures_are_those_of_runs(command: Command, family: list[Path], tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    flags = ("--corruptions", "--potential", "--noise", "--inputs", "9", "--draws", "2", "--control", RESNET)
    ran = command.done("compare", RESNET, *family, "--data", tmp_path / "data.npz", *flags, "--report", report)
    assert "Prune potential" in ran.out and "gaussian_noise" in ran.out and "trained apart" in ran.out
    told = json.loads(report.read_text(encoding="utf-8"))
    with np.load(tmp_path / "data.npz") as stored:
        images, labels = stored["input"], stored["labels"]
    kinds = told["corruptions"]["kinds"]
    assert set(kinds) == {name for name, kind in CORRUPTIONS.items() if not kind.coloured}
    low, high = images.min(), images.max()
    rng = np.random.default_rng([0, 14, list(CORRUPTIONS).index("contrast"), 3, 0])
    moved = corrupted((images - low) / (high - low), "contrast", 3, rng) * (high - low) + low
    right = [(answers(path, moved.astype(np.float32)).argmax(axis=1) == labels).mean() for path in (RESNET, *family)]
    assert kinds["contrast"]["original"][2] == pytest.approx(right[0], abs=0.026)
    assert [own[2] for own in kinds["contrast"]["networks"]] == pytest.approx(right[1:], abs=0.026)
    potential = told["potential"]["distributions"]
    assert potential["clean"]["original_error"] == pytest.approx(0.2)
    errors = [(answers(path, images).argmax(axis=1) != labels).mean() for path in family]
    assert potential["clean"]["errors"] == pytest.approx(errors)
    ratios = [network["removed"] for network in told["networks"]]
    for entry in potential.values():
        within = [r for r, e in zip(ratios, entry["errors"], strict=True) if e <= entry["original_error"] + 0.005]
        assert entry["potential"] == pytest.approx(max(within, default=0.0))
    assert "contrast/3" in potential and sum(name.startswith("noise ") for name in potential) == 5
    x, y = np.array(told["excess"]["points"]).T
    assert told["excess"]["slope"] == pytest.approx((x @ y) / (x @ x)) and len(x) == 2 * (len(potential) - 1)
    noise = told["noise"]
    assert noise["levels"] == pytest.approx(LEVELS) and noise["inputs"] == 9
    assert noise["control"]["agreement"] == [1.0] * 15 and len(noise["networks"]) == 2


@pytest.mark.parametrize(
    ("condition", "flag", "name"),
    [
        ("corrupted_accuracy<0.99", "--corruptions", "resnet8-mnist-0.6, contrast, has"),
        ("corrupted_drop>-100", "--corruptions", "resnet8-mnist-0.3, fog, has"),
        ("noise_agreement<1.01", "--noise", "resnet8-mnist-0.6, noise ±0.7, has 0"),
        ("potential<0.9", "--potential", "the family, clean, has"),
        ("excess_error>-1000", "--potential", "the family has"),
    ],
)
def test_conditions_about_shifted_inputs(
    condition: str, flag: str, name: str, command: Command, family: list[Path], tmp_path: Path
) -> None:
    flags = ("--data", tmp_path / "data.npz", "--inputs", "5", "--draws", "2", "--fail-if", condition)
    ran = command("compare", RESNET, *family, flag, *flags)
    assert ran.code == 3 and f"{condition}: {name}" in ran.err
    never = f"{condition.rstrip('-.0123456789')}{-1e6 if '<' in condition else 1e6}"
    assert command("compare", RESNET, *family, flag, *flags[:-1], never).code == 0
    ran = command("compare", RESNET, *family, *flags)
    assert ran.code == 2 and f"is about what {flag} finds" in ran.err


def test_pixels_that_networks_go_by(command: Command, family: list[Path], tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    flags = ("--data", tmp_path / "data.npz", "--features", "--shown", "3", "--control", RESNET)
    ran = command.done("compare", RESNET, family[1], *flags, "--report", report)
    told = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))["features"]
    names = ["original", family[1].stem, "control"]
    assert list(told["confidence"]) == names and told["fraction"] == 0.1 and told["inputs"] == 3
    with np.load(tmp_path / "data.npz") as stored:
        images = stored["input"]
    chosen, blank = images[[0, 13, 26]], images.mean().reshape(1, 1, 1)
    selection = back_select(lambda x: answers(RESNET, x), chosen, blank=blank, batch=64)
    seen = np.where(selection.kept[:, None], chosen, blank)
    for name, path in zip(names, (RESNET, family[1], RESNET), strict=True):
        sure = softmax(answers(path, seen), axis=1)[np.arange(3), selection.classes]
        assert told["confidence"][name]["original"] == pytest.approx(float(sure.mean()), abs=1e-4)
    assert told["confidence"]["control"]["control"] == pytest.approx(told["confidence"]["original"]["original"])
    low, high = images.min(), images.max()
    assert [entry["sample"] for entry in told["maps"]] == [0, 13, 26]
    entry = told["maps"][1]
    np.testing.assert_allclose(decoded(entry["input"])[..., 0], (images[13, 0] - low) / (high - low), atol=1 / 255)
    own = entry["networks"]["original"]
    np.testing.assert_allclose(decoded(own["heat"])[..., 0], selection.heat[1], atol=1 / 255)
    assert own["class"] == selection.classes[1] and list(entry["networks"]) == names
    assert "10% of the pixels" in ran.out and "Informative features" in report.read_text(encoding="utf-8")


def stopped(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, at: int) -> list[tuple[Any, ...]]:
    """What something is called with from now on; the call of that number is interrupted."""
    real, calls = getattr(place, name), list[tuple[Any, ...]]()

    def counted(*arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    monkeypatch.setattr(place, name, counted)
    return calls


def decoded(picture: str) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as read:
        return np.asarray(read) / 255


def test_without_pillow_all_else_is_told(
    command: Command, family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    report = tmp_path / "r.json"
    flags = ("--data", tmp_path / "data.npz", "--corruptions", "--report", report)
    ran = command.done("compare", RESNET, family[0], *flags)
    told = json.loads(report.read_text(encoding="utf-8"))["corruptions"]
    assert set(told["left_out"]) == {"jpeg", "saturation"} and set(told["kinds"]) == set(CORRUPTIONS) - {
        "jpeg",
        "saturation",
    }
    assert "jpeg is left out" in ran.out and "pip install" in told["left_out"]["jpeg"]


def test_an_interrupted_run_goes_on_to_the_same_figures(
    command: Command, family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, whole = tmp_path / "r.json", tmp_path / "whole.json"
    flags = ("--data", tmp_path / "data.npz", "--corruptions", "--noise", "--inputs", "5", "--draws", "2")
    command.done("compare", RESNET, *family, *flags, "--report", whole)
    calls = stopped(monkeypatch, shifts.Shifts, "wrong", 30)
    ran = command("compare", RESNET, *family, *flags, "--report", report)
    partial = tmp_path / "r.partial"
    assert ran.code == 130 and partial.is_file() and not report.exists()
    command.done("compare", RESNET, *family, *flags, "--report", report)
    assert len(calls) == 90 + 1 and not partial.exists()
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (whole, report))
    assert first["corruptions"] == second["corruptions"] and first["noise"] == second["noise"]


def test_pixels_are_gone_on_with_too(
    command: Command, family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, whole = tmp_path / "r.json", tmp_path / "whole.json"
    flags = ("--data", tmp_path / "data.npz", "--features", "--shown", "2")
    command.done("compare", RESNET, *family, *flags, "--report", whole)
    calls = stopped(monkeypatch, shifts, "back_select", 4)
    assert command("compare", RESNET, *family, *flags, "--report", report).code == 130
    command.done("compare", RESNET, *family, *flags, "--report", report)
    assert len(calls) == 6 + 1
    first, second = (json.loads(path.read_text(encoding="utf-8"))["features"] for path in (whole, report))
    assert first == second


def test_an_interrupted_run_of_other_data_is_begun_anew(
    command: Command, family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--data", tmp_path / "data.npz", "--potential", "--report", tmp_path / "r.json")
    calls = stopped(monkeypatch, shifts.Shifts, "wrong", 5)
    assert command("compare", RESNET, *family, *flags).code == 130
    with np.load(tmp_path / "data.npz") as stored:
        images, labels = stored["input"], (stored["labels"] + 1) % 10
    np.savez(tmp_path / "data.npz", input=images, labels=labels)
    command.done("compare", RESNET, *family, *flags)
    found = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["potential"]["distributions"]
    assert found["clean"]["original_error"] == pytest.approx((answers(RESNET, images).argmax(axis=1) != labels).mean())
    assert len(calls) == 5 + len(found)


def test_a_journal_is_of_one_thing_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    assert Journal(path, "a").once("n", lambda: [1]) == [1]
    assert Journal(path, "a").once("n", lambda: [2]) == [1]
    assert Journal(path, "b").once("n", lambda: [3]) == [3]
    found = Journal(path, "b")
    assert found.once("m", lambda: [5]) == [5] and found.once("l", lambda: [6]) == [6]
    head, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(head + lines[0] + lines[1].replace("5", "7") + "[" * 100_000 + "\nnull\n" + lines[2] + '["k", ')
    found = Journal(path, "b")  # damaged, and killed while it was written
    assert "n" in found and "l" in found and "m" not in found and "k" not in found
    assert found.once("k", lambda: [8]) == [8]
    assert [Journal(path, "b").once(name, list) for name in "nlkm"] == [[3], [6], [8], []]
    Journal.close(path)
    assert not path.exists() and Journal(None, "a").once("n", lambda: 5) == 5


@pytest.mark.parametrize("text", ["", "{ something else", b"\xff\xfe"])
def test_what_is_no_journal_is_left_alone(
    text: str | bytes, command: Command, family: list[Path], tmp_path: Path
) -> None:
    report, path = tmp_path / "r.json", tmp_path / "r.partial"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = path.read_bytes()
    flags = ("--data", tmp_path / "data.npz", "--noise", "--draws", "1", "--report", report)
    ran = command("compare", RESNET, family[0], *flags)
    assert ran.code == 1 and f"{path} is in the way" in ran.err and not report.exists()
    Journal.close(path)
    command.done("compare", RESNET, family[0], *flags[:2], "--report", report)
    assert path.read_bytes() == before
    path.unlink()
    path.mkdir()
    assert command("compare", RESNET, family[0], *flags).code == 1 and path.is_dir()


def test_a_journal_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Journal(tmp_path / "x.partial", "a")
    assert found.once("n", lambda: 1) == 1

    def full(*_: Any) -> None:
        raise OutputError("cannot write x: no space; choose another output")

    monkeypatch.setattr("onnxprune.compare.journal.append_text", full)
    assert [found.once(name, lambda: 2) for name in "mlk"] == [2, 2, 2]
    assert caplog.text.count("no space") == 1


def test_what_was_found_is_kept_until_the_report_is_there(
    command: Command, family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "r.json"
    flags = ("--data", tmp_path / "data.npz", "--noise", "--draws", "1", "--report", report)
    with monkeypatch.context() as patched:

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("onnxprune.cli.commit_report", interrupted)
        assert command("compare", RESNET, family[0], *flags).code == 130
    assert (tmp_path / "r.partial").is_file()
    ran = command("compare", RESNET, family[0], *flags, "--fail-if", "top1@nosuch<1")
    assert ran.code == 1 and "needs --labels" in ran.err and report.is_file() and not (tmp_path / "r.partial").exists()


def test_what_is_read_is_not_written_over(command: Command, family: list[Path], tmp_path: Path) -> None:
    control = tmp_path / "control.json"
    control.write_bytes(RESNET.read_bytes())
    flags = ("--data", tmp_path / "data.npz", "--noise", "--draws", "1")
    ran = command("compare", RESNET, family[0], *flags, "--control", control, "--report", control)
    assert ran.code == 1 and control.read_bytes() == RESNET.read_bytes()


def test_names_that_are_taken(command: Command, family: list[Path], tmp_path: Path) -> None:
    home = tmp_path / "o"
    home.mkdir()
    for name in ("original", "control"):
        (home / f"{name}.onnx").write_bytes(family[0].read_bytes())
    flags = ("--data", tmp_path / "data.npz", "--features", "--shown", "1", "--control", RESNET)
    others = (home / "original.onnx", home / "control.onnx", family[0], family[1])
    command.done("compare", RESNET, *others, *flags, "--report", tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [network["name"] for network in told["networks"]] == [
        "original (2)", "control (2)", family[0].stem, family[1].stem
    ]  # fmt: skip
    assert len(told["features"]["confidence"]) == 6


def test_sizes_of_any_picture_are_those_that_are_given(command: Command, tmp_path: Path) -> None:
    """Where a network leaves sizes open, the figures are those of one that does not."""
    images = np.random.default_rng(0).random((30, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    reports = []
    for name, sizes in (("open", ("h", "w")), ("fixed", (12, 12))):
        net = Net(seed=3)
        x = net.add("Relu", net.conv(net.input("n", 3, *sizes), 8, 3))
        proto = net.done(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", x)), 5, 8))
        onnx.save(proto, tmp_path / f"{name}.onnx")
        pruning = ("--ratio", "0.3", "--method", "l1", "--refit", "off", "--best-effort", "-q")
        command.done(tmp_path / f"{name}.onnx", tmp_path / f"{name}-p.onnx", *pruning)
        flags = ("--noise", "--draws", "2", "--features", "--shown", "1", "--report", tmp_path / f"{name}.json")
        paths = (tmp_path / f"{name}.onnx", tmp_path / f"{name}-p.onnx")
        command.done("compare", *paths, "--data", tmp_path / "x.npy", *flags, "-q")
        reports.append(json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")))
    for ours, theirs in zip(reports[0]["noise"]["networks"], reports[1]["noise"]["networks"], strict=True):
        assert ours["agreement"] == theirs["agreement"]
        assert ours["distance"] == pytest.approx(theirs["distance"], rel=1e-5)
    one, two = (list(each["features"]["confidence"]["original"].values()) for each in reports)
    assert one == pytest.approx(two, rel=1e-5)


def test_samples_without_a_class_are_left_out(command: Command, family: list[Path], tmp_path: Path) -> None:
    with np.load(tmp_path / "data.npz") as stored:
        images, labels = stored["input"], stored["labels"]
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", np.where(np.arange(COUNT) % 2, -1, labels))
    flags = ("--labels", tmp_path / "y.npy", "--potential", "--report", tmp_path / "r.json")
    command.done("compare", RESNET, family[0], "--data", tmp_path / "x.npy", *flags)
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    right = (answers(RESNET, images[::2]).argmax(axis=1) == labels[::2]).mean()
    assert told["potential"]["distributions"]["clean"]["original_error"] == pytest.approx(1 - right)
    assert told["networks"][0]["outputs"]["logits"]["top1"][0] == pytest.approx(right)


@pytest.mark.parametrize("values", [(1e9, 1e9), (-3e38, 3e38)])
def test_numbers_that_no_picture_has(values: tuple[float, float], command: Command, tmp_path: Path) -> None:
    family_of = command.done(RESNET, tmp_path / "p.onnx", "--ratio", "0.3", "--method", "l1", "--refit", "off", "-q")
    images = np.full((8, 1, 28, 28), values[0], np.float32)
    images[4:] = values[1]
    np.save(tmp_path / "x.npy", images)
    ran = command("compare", RESNET, tmp_path / "p.onnx", "--data", tmp_path / "x.npy", "--corruptions", "-q")
    assert family_of.code == 0 and "fault of onnxprune" not in ran.err and "Warning" not in ran.err
    assert (ran.code, "scale them" in ran.err) == ((0, False) if values[1] == 1e9 else (1, True))


def test_any_number_of_inputs_is_gone_through(
    command: Command, family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk by chunk, whether those stay in memory or are read anew; interrupted, too."""
    monkeypatch.setattr("onnxprune.calibrate.calibration._LARGEST_BATCH", 4)
    monkeypatch.setattr("onnxprune.compare.inputs._CHUNK", 12)
    flags = ("--data", tmp_path / "data.npz", "--potential", "--noise", "--inputs", "30", "--draws", "2", "--report")
    command.done("compare", RESNET, *family, *flags, tmp_path / "kept.json")
    monkeypatch.setattr("onnxprune.compare.inputs._KEPT", 0)
    calls = stopped(monkeypatch, shifts.Shifts, "wrong", 50)
    assert command("compare", RESNET, *family, *flags, tmp_path / "read.json").code == 130
    command.done("compare", RESNET, *family, *flags, tmp_path / "read.json")
    kept, read = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("kept.json", "read.json"))
    assert kept["potential"] == read["potential"] and kept["noise"] == read["noise"]
    changes = len(kept["potential"]["distributions"])
    assert len(calls) == 4 * changes + 1 and {len(call[2]) for call in calls} == {12, 4}
    with np.load(tmp_path / "data.npz") as stored:
        images, labels = stored["input"], stored["labels"]
    (low, high), moved = (images.min(), images.max()), []
    for start in range(0, COUNT, 12):
        rng = np.random.default_rng([0, 14, list(CORRUPTIONS).index("contrast"), 3, start])
        moved.append(corrupted((images[start : start + 12] - low) / (high - low), "contrast", 3, rng))
    shown = (np.concatenate(moved) * (high - low) + low).astype(np.float32)
    errors = [(answers(path, shown).argmax(axis=1) != labels).mean() for path in family]
    assert read["potential"]["distributions"]["contrast/3"]["errors"] == pytest.approx(errors, abs=0.026)
    some = images[np.arange(30) * COUNT // 30]
    noise = np.stack([np.random.default_rng([0, 13, 1, number]).uniform(-1, 1, (1, 28, 28)) for number in range(30)])
    some = some + np.float32(0.7 * some.std(dtype=np.float64)) * noise.astype(np.float32)
    alike = np.mean([answers(path, some).argmax(axis=1) == answers(RESNET, some).argmax(axis=1) for path in family[:1]])
    agreement = read["noise"]["networks"][0]["agreement"][-1]
    assert abs(2 * agreement * 30 - alike * 30) <= 30 + 1e-6  # the other draw's share is from 0 to 1


@pytest.mark.parametrize(("provider", "declared", "full"), [(CPU, None, False), (CPU, 4, True), (CUDA, None, True)])
def test_batches_are_filled_up_where_it_helps(
    provider: str, declared: int | None, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(seed=1)
    model = graph_io.from_proto(net.done(net.gemm(net.input(declared or "n", 6), 5, 6)))
    index = Index(model.proto)
    network = Network(model, index, infer_shapes(index, model.skeleton(), {}))
    x, seen = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32), list[int]()
    runner = runner_of(model.copy(), model, (CPU,), "it")
    run = runner.session.run

    class Watched:
        def __init__(self) -> None:
            self.provider = provider

        def run(self, feeds: dict[str, NDArray[Any]], outputs: Any = None) -> Any:
            seen.append(len(next(iter(feeds.values()))))
            return run(feeds, outputs)

    monkeypatch.setattr("onnxprune.calibrate.calibration._LARGEST_BATCH", 4)
    watched = replace(runner, session=Watched())
    opened = shifts.open_shifts(watched, "gemm0_out", open_calibration(x, network), network, Comparison(noise=True))
    seen.clear()
    found = opened.predict[0](x)
    whole = np.concatenate([run({"x0": part}, None)["gemm0_out"] for part in (x[:4], x[4:8], x[6:])])
    np.testing.assert_allclose(found, np.delete(whole, [8, 9], axis=0), rtol=1e-5)
    assert seen == ([4, 4, 4] if full else [4, 4, 2])


def test_what_cannot_be_shifted(command: Command, tmp_path: Path) -> None:
    net = Net(seed=1)
    x = net.add("Gather", net.weight(11, 6), net.input("n", 4, kind=7))
    onnx.save(net.done(net.gemm(net.add("Flatten", x), 5, 24)), tmp_path / "words.onnx")
    net = Net(seed=1)
    onnx.save(net.done(net.gemm(net.input("n", 6), 5, 6)), tmp_path / "rows.onnx")
    net = Net(seed=1)
    onnx.save(net.done(net.conv(net.input("n", 3, 8, 8), 3, 3)), tmp_path / "maps.onnx")
    for name, flag, word in (
        ("words", "--noise", "one tensor of floats"),
        ("rows", "--corruptions", "pictures"),
        ("maps", "--potential", "about classes"),
        ("rows", "--features", "pictures"),
        ("words", "--features", "one tensor of floats"),
    ):
        path = tmp_path / f"{name}.onnx"
        ran = command("compare", path, path, "--synthetic", "16", flag)
        assert ran.code == 1 and word in ran.err, ran
    assert (
        command("compare", tmp_path / "rows.onnx", tmp_path / "rows.onnx", "--synthetic", "16", "--potential").code == 0
    )
    for wrong in ({"inputs": 0}, {"draws": 0}, {"shown": 0}, {"control": Path("x")}):
        with pytest.raises(UsageError):
            Comparison(noise="control" not in wrong, **wrong)
