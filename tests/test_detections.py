"""What detectors find: every way that it is written, and figures against a count of one's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from doors import Command
from net import Net
from numpy.typing import NDArray

from onnxprune.evaluate.detections import THRESHOLD, Detections, reader_of

Boxes = list[tuple[float, float, float, float, int, float]]

# Left, top, right, bottom, class, score.
FIRST: Boxes = [(10, 10, 30, 50, 1, 0.9), (40, 5, 80, 25, 0, 0.6), (5, 60, 25, 90, 2, 0.5), (0, 0, 9, 9, 1, 0.2)]
# The first one moved, the second of another class, the third as it is, the fourth surer, and one more.
SECOND: Boxes = [
    (12, 10, 32, 50, 1, 0.8),
    (40, 5, 80, 25, 1, 0.6),
    (5, 60, 25, 90, 2, 0.45),
    (0, 0, 9, 9, 1, 0.35),
    (60, 60, 90, 90, 0, 0.7),
]


def table(boxes: Boxes, columns: list[int]) -> NDArray[np.float32]:
    return np.array(boxes, dtype=np.float32)[:, columns]


def lists(boxes: Boxes) -> dict[str, NDArray[Any]]:
    labels = table(boxes, [4])[:, 0].astype(np.int64)
    return {"a": table(boxes, [0, 1, 2, 3]), "b": labels, "c": table(boxes, [5])[:, 0]}


def batched_lists(boxes: Boxes) -> dict[str, NDArray[Any]]:
    """As TensorFlow writes them: classes as floats, filled up with nothing, and their number."""
    filled = [*boxes, *[(0.0, 0.0, 0.0, 0.0, 0, 0.0)] * (8 - len(boxes))]
    every = {f"detection_{name}": table(filled, columns)[None] for name, columns in (("boxes", [0, 1, 2, 3]),)}
    every |= {"classes": table(filled, [4])[None, :, 0], "scores": table(filled, [5])[None, :, 0]}
    return every | {"count": np.array([len(boxes)], dtype=np.float32)}


def six(boxes: Boxes) -> dict[str, NDArray[Any]]:
    return {"rows": table(boxes, [0, 1, 2, 3, 5, 4])[None]}


def seven(boxes: Boxes) -> dict[str, NDArray[Any]]:
    return {"rows": np.pad(table(boxes, [0, 1, 2, 3, 4, 5]), ((0, 0), (1, 0)))}


def columns(boxes: Boxes, *, sure: bool) -> NDArray[np.float32]:
    """Middle, width and height, and scores of three classes, each box twice, the second time less sure."""
    rows = np.zeros((64, 8 if sure else 7), dtype=np.float32)
    rows[:, 2:4] = 5
    for number, (left, top, right, bottom, kind, score) in enumerate(boxes):
        for place, loss in ((number, 1.0), (20 + number, 0.9)):
            rows[place, :4] = (left + right) / 2 + loss - 1, (top + bottom) / 2, right - left, bottom - top
            rows[place, 4] = 1
            rows[place, (5 if sure else 4) + kind] = score * loss
            if not sure:
                rows[place, 4] = score * loss if kind == 0 else 0
    return rows


def yolo(boxes: Boxes) -> dict[str, NDArray[Any]]:
    return {"out": columns(boxes, sure=True)[None]}


def yolo_turned(boxes: Boxes) -> dict[str, NDArray[Any]]:
    return {"out": np.ascontiguousarray(columns(boxes, sure=False).T[None])}


def heads(boxes: Boxes) -> dict[str, NDArray[Any]]:
    """Probabilities with one for nothing, and corners, at two sizes of positions."""
    scores, corners = np.zeros((1, 96, 4), dtype=np.float32), np.zeros((1, 96, 4), dtype=np.float32)
    for number, (*box, kind, score) in enumerate(boxes):
        scores[0, 9 * number, 1 + int(kind)], corners[0, 9 * number] = score, box
    scores[..., 0] = 1 - scores.sum(axis=2)
    return {"s0": scores[:, :60], "s1": scores[:, 60:], "b0": corners[:, :60] / 100, "b1": corners[:, 60:] / 100}


WRITTEN = [lists, batched_lists, six, seven, yolo, yolo_turned, heads]


@pytest.mark.parametrize("write", WRITTEN)
def test_detections_are_read_and_matched(write: Any) -> None:
    found = Detections()
    found.add(write(FIRST), write(SECOND), 1)
    facts = found.facts()
    assert facts is not None and facts["by"] == "boxes" and facts["threshold"] == THRESHOLD
    assert (facts["before"], facts["after"]) == (3, 5)
    # The first and the third are found again; the first overlaps by 18 of 22.
    assert facts["kept"] == pytest.approx(2 / 3) and facts["new"] == pytest.approx(3 / 5)
    assert facts["overlap"] == pytest.approx((18 / 22 + 1) / 2, abs=1e-5)
    assert facts["score_gap"] == pytest.approx((0.1 + 0.05) / 2, abs=1e-6)


@pytest.mark.parametrize("write", WRITTEN)
def test_a_detector_finds_what_it_finds(write: Any) -> None:
    found = Detections()
    for boxes in (FIRST, SECOND, FIRST[:1]):
        found.add(write(boxes), write(boxes), 1)
    facts = found.facts()
    assert facts is not None and facts["before"] == facts["after"] == 3 + 5 + 1
    assert facts["kept"] == 1 and facts["new"] == 0 and facts["overlap"] == pytest.approx(1) and not facts["score_gap"]


def distances(boxes: Boxes, samples: int, *, flat: bool) -> dict[str, NDArray[Any]]:
    """Scores of one class, twice, to be multiplied, and distances that are no boxes, for every picture."""
    scores = np.zeros((samples, 40, 1), dtype=np.float32)
    for number, box in enumerate(boxes):
        scores[:, 3 * number, 0] = box[5]
    apart = np.random.default_rng(0).standard_normal((samples, 40, 4)).astype(np.float32)
    every = {
        "cls": np.sqrt(scores),
        "obj": np.sqrt(scores),
        "bbox": apart,
        "kps": np.repeat(apart, 3, axis=2)[..., :10],
    }
    return {name: value.reshape(-1, value.shape[2]) if flat else value for name, value in every.items()}


@pytest.mark.parametrize("flat", [True, False])
def test_positions_are_matched_where_heads_give_no_boxes(flat: bool) -> None:
    found = Detections()
    found.add(distances(FIRST, 2, flat=flat), distances(SECOND, 2, flat=flat), 2)
    facts = found.facts()
    assert facts is not None and facts["by"] == "positions" and facts["overlap"] is None
    assert (facts["before"], facts["after"]) == (2 * 3, 2 * 5)
    assert facts["kept"] == 1 and facts["new"] == pytest.approx(2 / 5)  # by where they are, all of one class
    assert facts["score_gap"] == pytest.approx((0.1 + 0 + 0.05) / 3, abs=1e-6)


def test_no_box_is_matched_twice() -> None:
    one, two = [(0.0, 0.0, 10.0, 10.0, 0, 0.9)], [(0.0, 0.0, 10.0, 10.0, 0, 0.9), (0.0, 0.0, 10.0, 9.0, 0, 0.8)]
    found = Detections()
    found.add(lists(two), lists([*one, (50, 50, 60, 60, 0, 0.5)]), 1)
    facts = found.facts()
    assert facts is not None and facts["kept"] == 0.5 and facts["new"] == 0.5 and facts["overlap"] == 1


def test_boxes_without_an_area_are_themselves() -> None:
    points = [(5.0, 5.0, 5.0, 5.0, 0, 0.9), (7.0, 1.0, 7.0, 1.0, 0, 0.8)]
    found = Detections()
    found.add(lists(points), lists(points), 1)
    facts = found.facts()
    assert facts is not None and facts["before"] == 2 and facts["kept"] == 1 and facts["new"] == 0


def test_boxes_that_are_no_numbers_do_not_count() -> None:
    wrong = [*FIRST[:3], (float("nan"), 0.0, 1.0, 1.0, 0, 0.9), (0.0, 0.0, float("inf"), 1.0, 0, 0.8)]
    found = Detections()
    found.add(lists(FIRST), lists(wrong), 1)
    facts = found.facts()
    assert facts is not None and (facts["before"], facts["after"], facts["kept"]) == (3, 3, 1.0)


@pytest.mark.parametrize(
    "outputs",
    [
        {"logits": np.random.default_rng(1).standard_normal((5, 10))},
        {"shares": np.full((5, 4), 0.25)},
        {"map": np.random.default_rng(1).random((5, 4, 60, 60))},
        {"tokens": np.random.default_rng(1).standard_normal((5, 40, 100))},
        {"landmarks": np.random.default_rng(1).random((5, 136))},
        {"a": np.random.default_rng(1).random((5, 40, 4)), "b": np.random.default_rng(1).standard_normal((5, 10))},
        {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64), "scores": np.zeros(0, np.float32)},
        {},
    ],
)
def test_what_is_no_detector(outputs: dict[str, NDArray[Any]]) -> None:
    assert reader_of({name: np.asarray(value) for name, value in outputs.items()}, 5) is None
    assert Detections().facts() is None


def detector(seed: int) -> onnx.ModelProto:
    """Heads that give scores and corners for every position, and the thinned list of them, as exporters end it."""
    net = Net(seed=seed)
    x = net.add("Relu", net.conv(net.input("n", 3, 24, 24), 16, 3, kernel=(3, 3), strides=[2, 2], pads=[1, 1, 1, 1]))
    x = net.add("Relu", net.conv(x, 16, 16, kernel=(3, 3), pads=[1, 1, 1, 1]))

    def head(made: int) -> str:
        rows = net.add("Transpose", net.conv(x, made, 16), perm=[0, 2, 3, 1])
        return net.add("Reshape", rows, net.constant([0, -1, made]))

    scores = net.add("Sigmoid", head(3))
    middle, half = net.many("Split", 2, head(4), axis=2)
    half = net.add("Abs", half)
    corners = net.add("Concat", net.add("Sub", middle, half), net.add("Add", middle, half), axis=2)
    return net.done(scores, corners)


def test_the_command_says_what_is_found_again(command: Command, tmp_path: Path) -> None:
    onnx.save(detector(1), tmp_path / "in.onnx")
    command.done(tmp_path / "in.onnx", tmp_path / "out.onnx", "--ratio", "0.3", "--method", "l1", "--refit", "off")
    flags = ("compare", tmp_path / "in.onnx", tmp_path / "out.onnx", "--synthetic", "16")
    ran = command("compare", *flags[1:], "--report", tmp_path / "r.html", "--fail-if", "detections_kept<1.01")
    assert ran.code == 3 and "detections_kept<1.01: out has" in ran.err and "found again" in ran.out
    (network,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["networks"]
    facts = network["detections"]
    assert facts["before"] > 50 and 0 < facts["kept"] < 1 and 0 < facts["overlap"] < 1
    assert {found["kind"] for found in network["outputs"].values()} == {"numbers"}
    assert "found again" in (tmp_path / "r.html").read_text(encoding="utf-8")
    same = command.done("compare", tmp_path / "in.onnx", tmp_path / "in.onnx", "--synthetic", "16")
    assert "100.0%" in same.out
