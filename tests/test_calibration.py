"""Calibration data: every source gives the batches that the network takes, and bad data give one clear line."""

import base64
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from doors import convolutional, perceptron
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from PIL import Image

from onnxprune import extras
from onnxprune.analysis import analyse
from onnxprune.calibrate.calibration import Calibration, Network
from onnxprune.calibrate.given import open_calibration
from onnxprune.calibrate.scale import COLOURED, GREY, Scale, wished
from onnxprune.calibrate.synthetic import synthesise
from onnxprune.errors import DataError, UsageError
from onnxprune.graph import io as graph_io
from onnxprune.options import Options

UNIT = Scale("0 to 1", (0.0,), (1.0,))


def network(proto: ModelProto) -> Network:
    analysis = analyse(graph_io.from_proto(proto))
    return Network(analysis.model, analysis.index, analysis.shapes)


CONVOLUTIONAL, PERCEPTRON = network(convolutional()), network(perceptron())


def rows(calibration: Calibration, name: str = "x0") -> NDArray[Any]:
    """All samples, which are the same each time they are read."""
    first = np.concatenate([feeds[name] for feeds in calibration.batches()])
    again = np.concatenate([feeds[name] for feeds in calibration.batches()])
    assert np.array_equal(first, again)
    return first


def pictures(count: int = 6, size: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


FLOATS = np.random.default_rng(1).standard_normal((6, 3, 8, 8)).astype(np.float32)


# --- Python sources


class Reader:
    def __init__(self, items: list[Any]) -> None:
        self.items = iter(items)

    def get_next(self) -> Any:
        return next(self.items, None)


@pytest.mark.parametrize("source", [
    FLOATS,
    FLOATS.astype(np.float64),
    {"x0": FLOATS},
    list(FLOATS),
    [{"x0": row} for row in FLOATS],
    [{"x0": FLOATS[:4]}, {"x0": FLOATS[4:]}],
    Reader([{"x0": FLOATS[:1]}, {"x0": FLOATS[1:]}]),
    (row[None] for row in FLOATS),
    FLOATS.reshape(6, 1, 3, 8, 8),
    FLOATS.transpose(0, 2, 3, 1),
], ids=lambda source: type(source).__name__)  # fmt: skip
def test_python_sources_give_their_samples(source: Any) -> None:
    calibration = open_calibration(source, CONVOLUTIONAL)
    assert (calibration.origin, calibration.count, calibration.labels) == ("given", 6, None)
    assert np.array_equal(rows(calibration), FLOATS)
    assert all(feeds["x0"].dtype == np.float32 for feeds in calibration.batches())


def test_samples_are_spread_over_the_source() -> None:
    calibration = open_calibration(FLOATS, CONVOLUTIONAL, limit=3, labels=np.arange(6))
    assert np.array_equal(rows(calibration), FLOATS[::2])
    assert calibration.labels is not None and calibration.labels.tolist() == [0, 2, 4]
    assert any("3 of 6" in note for note in calibration.notes)


def test_a_source_without_end_is_read_as_far_as_needed() -> None:
    def forever() -> Iterator[NDArray[np.float32]]:
        while True:
            yield FLOATS[0]

    assert open_calibration(forever(), CONVOLUTIONAL, limit=7).count == 7


def test_a_fixed_batch_is_kept_and_what_does_not_fill_it_is_said() -> None:
    data = np.arange(13 * 8, dtype=np.float32).reshape(13, 8)
    calibration = open_calibration(data, PERCEPTRON)
    assert [feeds["x0"].shape for feeds in calibration.batches()] == [(5, 8)] * 2
    assert calibration.count == 10 and any("batch of 5" in note for note in calibration.notes)
    with pytest.raises(DataError, match="takes 5 samples at once, and 4 of 4 are"):
        open_calibration(data[:4], PERCEPTRON)


def test_samples_of_other_lengths_are_in_other_batches() -> None:
    net = Net()
    proto = net.done(net.dense(net.input("n", "t", 4), 6, 4))
    data = [np.ones((1, length, 4), np.float32) for length in (3, 3, 5)]
    shapes = [feeds["x0"].shape for feeds in open_calibration(data, network(proto)).batches()]
    assert shapes == [(2, 3, 4), (1, 5, 4)]


def test_of_larger_samples_than_are_assumed_fewer_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.calibrate.calibration._LARGEST_BATCH", 8)
    net = Net(seed=0)
    free = network(net.done(net.add("GlobalAveragePool", net.conv(net.input("n", 3, "h", "w"), 4, 3))))
    for edge, size in ((112, 8), (224, 8), (448, 2), (1000, 1)):
        data = open_calibration(np.zeros((9, 3, edge, edge), np.float32), free)
        assert [len(feeds["x0"]) for feeds in data.batches()] == [size] * (9 // size) + [9 % size] * bool(9 % size)


def test_several_inputs_go_together() -> None:
    net = Net()
    proto = net.done(net.add("Add", net.dense(net.input("n", 4), 6, 4), net.dense(net.input("n", 5), 6, 5)))
    two = network(proto)
    data = {"x0": np.ones((3, 4)), "x1": np.zeros((3, 5))}
    (feeds,) = open_calibration(data, two).batches()
    assert feeds["x0"].shape == (3, 4) and feeds["x1"].shape == (3, 5)
    for bad, words in (
        ({"x0": np.ones((3, 4))}, "no array for input 'x1'"),
        (data | {"x1": np.ones((2, 5))}, "differ"),
    ):
        with pytest.raises(DataError, match=words):
            open_calibration(bad, two)


def test_bytes_for_no_picture_are_numbers_and_that_is_said() -> None:
    calibration = open_calibration(np.full((5, 8), 200, np.uint8), PERCEPTRON)
    assert (rows(calibration) == 200).all() and any("0 to 255" in note for note in calibration.notes)


# --- bad data


@pytest.mark.parametrize(("source", "words"), [
    ({"y": FLOATS}, "no array for input 'x0'.*only y.*name arrays"),
    (FLOATS[:0], "empty.*at least one"),
    ([], "empty"),
    (FLOATS[:, :2], r"\[6, 2, 8, 8\].*\[N, 3, 8, 8\]"),
    (np.full_like(FLOATS, np.nan), "'x0' holds NaN"),
    (np.full_like(FLOATS, np.inf), "'x0' holds infinity"),
    (np.full(FLOATS.shape, 1e300), "too large"),
    (FLOATS.astype(complex), "complex128"),
    ([object()], "not numbers"),
    ([{"x0": [[1], [1, 2]]}], "no array of numbers"),
    ([None], "not numbers"),
    (["text"], "not numbers"),
])  # fmt: skip
def test_bad_arrays(source: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        list(open_calibration(source, CONVOLUTIONAL).batches())
    assert "\n" not in str(caught.value)


def test_floats_are_no_token_ids() -> None:
    net = Net()
    ids = net.input("n", 4, kind=TensorProto.INT64)
    tokens = network(net.done(net.add("Gather", net.weight(9, 3), ids)))
    with pytest.raises(DataError, match=r"holds float64, the network takes int64.*astype"):
        open_calibration(np.ones((2, 4)), tokens)
    assert rows(open_calibration(np.ones((2, 4), np.int32), tokens)).dtype == np.int64


def test_no_source_at_all() -> None:
    with pytest.raises(UsageError, match="not int"):
        open_calibration(3, CONVOLUTIONAL)


@pytest.mark.parametrize("labels", [np.arange(5), np.ones((6, 2), int), np.full(6, 0.5), np.full(6, -1)])
def test_labels_that_do_not_fit(labels: Any) -> None:
    with pytest.raises(DataError, match="classes"):
        open_calibration(FLOATS, CONVOLUTIONAL, labels=labels)


# --- files


def encoded(array: NDArray[Any]) -> str:
    stream = io.BytesIO()
    np.save(stream, array)
    return base64.b64encode(stream.getvalue()).decode()


def write_all(folder: Path) -> list[Path]:
    """The same samples in every kind of file."""
    np.savez(folder / "a.npz", x0=FLOATS)
    np.savez_compressed(folder / "b.npz", anything=FLOATS, y=np.arange(6))
    np.save(folder / "c.npy", FLOATS)
    (folder / "several").mkdir()
    for number in range(3):
        np.save(folder / "several" / f"{number}.npy", FLOATS[2 * number : 2 * number + 2])
    for number in range(6):
        home = folder / "sets" / f"test_data_set_{number}"
        home.mkdir(parents=True)
        (home / "input_0.pb").write_bytes(numpy_helper.from_array(FLOATS[number : number + 1]).SerializeToString())
    feeds = [{"x0": {"array": encoded(row[None]), "polygraphy_class": "ndarray"}} for row in FLOATS]
    (folder / "d.json").write_text(json.dumps(feeds))
    wrapped = [{"x0": {"values": feed["x0"], "polygraphy_class": "LazyArray"}} for feed in feeds]
    (folder / "e.json").write_text(json.dumps(wrapped))
    return [folder / name for name in ("a.npz", "b.npz", "c.npy", "several", "sets", "d.json", "e.json")]


def test_files_give_their_samples(tmp_path: Path) -> None:
    for path in write_all(tmp_path):
        calibration = open_calibration(path, CONVOLUTIONAL)
        assert np.array_equal(rows(calibration), FLOATS), path
        expected = list(range(6)) if path.name == "b.npz" else None
        assert (None if calibration.labels is None else calibration.labels.tolist()) == expected


def test_damaged_files(tmp_path: Path) -> None:
    for path in write_all(tmp_path):
        for file in [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()][:1]:
            whole = file.read_bytes()
            for length in (0, 5, 60, len(whole) // 2, len(whole) - 10):
                file.write_bytes(whole[:length])
                with pytest.raises(DataError, match=file.name) as caught:
                    list(open_calibration(path, CONVOLUTIONAL).batches())
                assert "\n" not in str(caught.value)
            file.write_bytes(whole)


class Mean:
    """Would do harm if it were unpickled."""

    def __reduce__(self) -> Any:
        raise AssertionError("unpickled")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}] * 6, dtype=object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "o.npz", x0=objects)
    (tmp_path / "p.npy").write_bytes(pickle.dumps([1, 2]))
    for name in ("o.npy", "o.npz", "p.npy"):
        with pytest.raises(DataError, match="never unpickled"):
            open_calibration(tmp_path / name, CONVOLUTIONAL)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("x")
    (tmp_path / "l.json").write_text('{"x0": 1}')
    (tmp_path / "m.json").write_text('[{"x0": 1}]')
    (tmp_path / "s" / "test_data_set_0").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("none.npz", "does not exist"),
        ("t.txt", "not read"),
        ("l.json", "no list of inputs"),
        ("m.json", "no array as polygraphy"),
        ("s", "no input_0.pb"),
        ("empty", "no pictures"),
    ):
        with pytest.raises(DataError, match=words):
            open_calibration(tmp_path / name, CONVOLUTIONAL)


def test_labels_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.arange(6))
    np.savez(tmp_path / "l.npz", labels=np.arange(6), other=np.zeros(2))
    for name in ("l.npy", "l.npz"):
        labels = open_calibration(FLOATS, CONVOLUTIONAL, labels=tmp_path / name).labels
        assert labels is not None and labels.tolist() == list(range(6))


# --- pictures


def test_bytes_are_scaled(tmp_path: Path) -> None:
    calibration = open_calibration(pictures(), CONVOLUTIONAL, scale=UNIT)
    assert np.allclose(rows(calibration), pictures().transpose(0, 3, 1, 2) / 255)
    assert any("channels last" in note for note in calibration.notes)


def test_folders_of_pictures_have_classes(tmp_path: Path) -> None:
    data = pictures()
    for number, picture in enumerate(data):
        home = tmp_path / ("cat", "dog")[number % 2]
        home.mkdir(exist_ok=True)
        Image.fromarray(picture).save(home / f"{number}.png")
    calibration = open_calibration(tmp_path, CONVOLUTIONAL, scale=UNIT)
    expected = data[[0, 2, 4, 1, 3, 5]].transpose(0, 3, 1, 2) / 255
    assert np.allclose(rows(calibration), expected)
    assert calibration.labels is not None and calibration.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_pictures_are_resized_and_cut_at_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 255
    Image.fromarray(wide).save(tmp_path / "w.png")
    assert rows(open_calibration(tmp_path, CONVOLUTIONAL, scale=UNIT))[:, :, :, 1:-1].min() == 1


@pytest.mark.parametrize("last", [False, True])
def test_an_assumed_size_is_said(tmp_path: Path, last: bool) -> None:
    net = Net(seed=0)
    x = net.input("n", *(("h", "w", 3) if last else (3, "h", "w")))
    first = net.add("Transpose", x, perm=[0, 3, 1, 2]) if last else x
    proto = net.done(net.add("GlobalAveragePool", net.conv(first, 4, 3)))
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    words, given = "224x224 is assumed: give another as --input-shape x0:1,", (1, 16, 16, 3) if last else (1, 3, 16, 16)
    for shapes, size in (({}, 224), ({"x0": given}, 16)):
        analysis = analyse(graph_io.from_proto(proto), Options(input_shapes=shapes))
        free = Network(analysis.model, analysis.index, analysis.shapes)
        for data in (open_calibration(tmp_path, free, scale=UNIT), synthesise(free, count=2, seed=0, scale=UNIT)):
            assert any(words in note for note in data.notes) == (size == 224)
            assert next(data.batches())["x0"].shape[2] == size
    assert not any(words in note for note in open_calibration(FLOATS, CONVOLUTIONAL).notes)


def test_bad_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png: cannot read the picture"):
        list(open_calibration(tmp_path, CONVOLUTIONAL, scale=UNIT).batches())
    with pytest.raises(DataError, match="takes 'x0'"):
        open_calibration(tmp_path, PERCEPTRON)
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(DataError, match="onnxprune\\[images\\]"):
        open_calibration(tmp_path, CONVOLUTIONAL, scale=UNIT)
    with pytest.raises(DataError, match="Pillow"):
        extras.pillow()


# --- scales


def test_a_scale_is_what_is_asked_for() -> None:
    black_white = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
    for asked, ends in (
        ({"span": "-1,1"}, (-1, 1)),
        ({"span": "0,255"}, (0, 255)),
        ({"mean": (0.5,), "std": (0.25,)}, (-2, 2)),
        ({"mean": (127.5,), "std": (127.5,)}, (-1, 1)),
        ({"span": "0,255", "std": (255.0,)}, (0, 1)),
    ):
        scale = wished(**asked)  # type: ignore[arg-type]
        assert scale is not None and np.allclose(scale.apply(black_white, -3).ravel(), ends, atol=1e-5), asked
    assert wished() is None


@pytest.mark.parametrize("asked", [
    {"span": "1,0"}, {"span": "a,b"}, {"span": "1"}, {"span": "0,inf"},
    {"mean": (1.0, 2.0)}, {"mean": (np.nan,)}, {"std": (0.0,)}, {"std": (-1.0, 1.0, 1.0)},
])  # fmt: skip
def test_a_scale_that_is_none(asked: Any) -> None:
    with pytest.raises(UsageError, match="--"):
        wished(**asked)


def test_scales_in_use_differ() -> None:
    for candidates in (COLOURED, GREY):
        assert len({(scale.mean, scale.std, scale.reverse) for scale in candidates}) == len(candidates)
    caffe = COLOURED[-1]
    red = np.zeros((1, 3, 1, 1), np.uint8)
    red[0, 0] = 255
    assert np.allclose(caffe.apply(red, -3).ravel(), [-103.939, -116.779, 255 - 123.68], atol=1e-3)


def test_the_protobuf_of_an_input_is_read_in_its_order(tmp_path: Path) -> None:
    net = Net()
    proto = net.done(net.add("Add", net.dense(net.input("n", 4), 6, 4), net.dense(net.input("n", 5), 6, 5)))
    home = tmp_path / "test_data_set_0"
    home.mkdir()
    for number, size in enumerate((4, 5)):
        tensor: onnx.TensorProto = numpy_helper.from_array(np.full((2, size), number, np.float32))
        (home / f"input_{number}.pb").write_bytes(tensor.SerializeToString())
    (feeds,) = open_calibration(tmp_path, network(proto)).batches()
    assert feeds["x0"].shape == (2, 4) and (feeds["x1"] == 1).all()
