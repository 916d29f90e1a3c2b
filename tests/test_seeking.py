"""How far one may prune, by search: networks that are made, and what they come to, against prunes of one's own."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from doors import MODELS, Command
from numpy.typing import NDArray

import onnxprune
from onnxprune.compare import seeking

RESNET = MODELS / "resnet8-mnist.onnx"
COUNT = 60


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    images = rng.random((COUNT, 1, 28, 28)).astype(np.float32)
    labels = scores(RESNET.read_bytes(), images).argmax(axis=1)
    np.savez(tmp_path / "data.npz", input=images, labels=labels)
    return tmp_path / "data.npz", images, labels


def scores(model: bytes, images: NDArray[np.float32]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": images})[0])


def test_what_is_made_is_what_a_prune_makes(
    data: tuple[Path, NDArray[np.float32], NDArray[np.int64]], command: Command, tmp_path: Path
) -> None:
    path, images, labels = data
    report = tmp_path / "r.html"
    flags = ("--potential", "--method", "l1", "--trials", "4", "--report", report)
    ran = command.done("compare", RESNET, "--data", path, *flags)
    told = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    names = [network["name"] for network in told["networks"]]
    ratios = [float(name.removeprefix("pruned-")) for name in names]
    assert len(names) == 4 and ratios == sorted(ratios) and all(name in ran.out for name in names)
    clean = told["potential"]["distributions"]["clean"]
    for ratio, network, error in zip(ratios, told["networks"], clean["errors"], strict=True):
        result = onnxprune.prune(RESNET, ratio=ratio, method="l1", best_effort=True, distill="off")
        assert network["params"] == result.report["output"]["params"] and network["path"] is None
        data = result.model.SerializeToString(deterministic=True)
        assert (network["bytes"], network["sha256"]) == (len(data), sha256(data).hexdigest())
        answers = scores(result.model.SerializeToString(), images).argmax(axis=1)
        assert error == pytest.approx((answers != labels).mean(), abs=1.5 / COUNT)
        assert network["outputs"]["logits"]["agreement"] == pytest.approx(1 - error)
    assert len(told["excess"]["points"]) == 4 * (len(told["potential"]["distributions"]) - 1)
    assert "Prune potential" in ran.out and "Prune potential" in report.read_text(encoding="utf-8")


def test_an_interrupted_search_goes_on(
    data: tuple[Path, NDArray[np.float32], NDArray[np.int64]],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = ("compare", RESNET, "--data", data[0], "--potential", "--method", "l2", "--trials", "3", "--report")
    command.done(*flags, tmp_path / "whole.json")
    plan_model, made = seeking.plan_model, list[float]()

    def counted(*arguments: Any, **more: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments[1].ratio)
        return plan_model(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(seeking, "plan_model", counted)
        assert command(*flags, tmp_path / "r.json").code == 130
    assert (tmp_path / "r.partial").is_file()
    command.done(*flags, tmp_path / "r.json")
    first, second = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("whole.json", "r.json"))
    assert first["potential"] == second["potential"] and first["excess"] == second["excess"]
    assert not (tmp_path / "r.partial").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ((RESNET,), "--potential"),
        ((RESNET, "--noise"), "--potential"),
        ((RESNET, RESNET, "--potential", "--method", "l1"), "--method"),
        ((RESNET, "--potential", "--method", "none"), "--method none"),
        ((RESNET, "--potential", "--trials", "0"), "--trials 0"),
    ],
)
def test_what_is_wrong_by_itself(flags: tuple[object, ...], word: str, command: Command) -> None:
    ran = command("compare", *flags)
    assert ran.code == 2 and word in ran.err and ran.err.count("\n") == 1


def test_data_to_make_networks_with_that_are_not_there(command: Command, tmp_path: Path) -> None:
    for name in ("none.npz", "n" * 5000):
        flags = ("--synthetic", "16", "--calib", tmp_path / name, "--report", tmp_path / "r.json")
        ran = command("compare", RESNET, "--potential", *flags)
        assert ran.code == 1 and name[:20] in ran.err and "fault of onnxprune" not in ran.err
