"""Made-up inputs: of the kind that an input looks like, the same for a seed, and at the scale a network expects."""

from typing import Any

import numpy as np
import pytest
from doors import Command, convolutional, perceptron
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from onnxprune import prune
from onnxprune.analysis import analyse
from onnxprune.calibrate import surest, towards
from onnxprune.calibrate.calibration import Calibration, Network, Slots
from onnxprune.calibrate.leaves import dead_leaves
from onnxprune.calibrate.respond import fed, find_scale, misfit, shares
from onnxprune.calibrate.scale import COLOURED, GREY, Scale, wished
from onnxprune.calibrate.strokes import strokes
from onnxprune.calibrate.synthetic import synthesise
from onnxprune.errors import ModelError, UsageError
from onnxprune.graph import io
from onnxprune.graph.staged import open_session
from onnxprune.options import Options


def network(proto: ModelProto) -> Network:
    analysis = analyse(io.from_proto(proto))
    return Network(analysis.model, analysis.index, analysis.shapes)


def rows(calibration: Calibration, name: str = "x0") -> NDArray[Any]:
    return np.concatenate([feeds[name] for feeds in calibration.batches()])


# --- pictures


@pytest.mark.parametrize("draw", [dead_leaves, strokes])
@pytest.mark.parametrize("sizes", [(3, 32, 32), (1, 28, 28), (3, 24, 40)])
def test_pictures_are_bytes_that_differ(draw: Any, sizes: tuple[int, int, int]) -> None:
    drawn = draw(7, sizes, np.random.default_rng(0))
    assert drawn.shape == (7, *sizes) and drawn.dtype == np.uint8 and drawn.std() > 20
    assert len({picture.tobytes() for picture in drawn}) == 7
    assert np.array_equal(drawn, draw(7, sizes, np.random.default_rng(0)))


def test_dead_leaves_are_like_photographs() -> None:
    """Neighbours are alike, colours go together, and amplitudes fall about as one over frequency."""
    drawn = dead_leaves(128, (3, 32, 32), np.random.default_rng(0)).astype(np.float64)
    centred = drawn - drawn.mean(axis=(2, 3), keepdims=True)
    neighbours = (centred[..., 1:] * centred[..., :-1]).mean() / (centred**2).mean()
    assert neighbours > 0.7
    colours = np.corrcoef(drawn.transpose(1, 0, 2, 3).reshape(3, -1))
    assert colours[0, 1] > 0.6 and colours[0, 2] > 0.6
    power = (np.abs(np.fft.fft(centred.mean(axis=1), axis=-1)) ** 2).mean(axis=(0, 1))[1:12]
    slope = np.polyfit(np.log(np.arange(1, 12)), np.log(power), 1)[0]
    assert -2.5 < slope < -0.7


def test_strokes_are_bright_on_black() -> None:
    drawn = strokes(64, (1, 28, 28), np.random.default_rng(0))
    assert 0.05 < (drawn > 128).mean() < 0.3 and (drawn[:, :, 0] == 0).mean() > 0.9


def with_norm(mean: NDArray[Any], deviation: NDArray[Any]) -> ModelProto:
    """A network whose first BatchNormalization has stored statistics of its input."""
    net = Net()
    x = net.input("n", len(mean), 32, 32)
    ones, zeros = np.ones(len(mean)), np.zeros(len(mean))
    stored = [net.constant(values, np.float32) for values in (ones, zeros, mean, deviation**2)]
    normal = net.add("BatchNormalization", net.add("Identity", x), *stored)
    return net.done(net.add("Relu", net.conv(normal, 8, len(mean), kernel=(3, 3))))


@pytest.mark.parametrize("number", range(len(COLOURED)))
def test_stored_statistics_tell_the_scale(number: int) -> None:
    pictures = dead_leaves(32, (3, 32, 32), np.random.default_rng(0))
    fed = COLOURED[number].apply(pictures, -3)
    made = network(with_norm(fed.mean(axis=(0, 2, 3)), fed.std(axis=(0, 2, 3))))
    found, note = find_scale(made, Slots.of(made).inputs[0], pictures)
    assert found == COLOURED[number] and "statistics" in note


@pytest.mark.parametrize(("shift", "divisor", "name"), [(0.1307, 0.3081, "0 to 1"), (127.5, 127.5, "0 to 255")])
def test_operators_in_front_tell_the_scale(shift: float, divisor: float, name: str) -> None:
    net = Net()
    x = net.input("n", 1, 28, 28)
    less = net.add("Sub", x, net.constant(shift, np.float32))
    normal = net.add("Div", less, net.constant(divisor, np.float32))
    made = network(net.done(net.conv(normal, 8, 1, kernel=(3, 3))))
    notes = synthesise(made, count=4).notes
    assert any(f"fed as {name}: the graph's first operators" in note for note in notes)
    assert any(scale.name == name for scale in GREY)


def test_a_scale_that_is_asked_for_is_taken() -> None:
    made = network(convolutional())
    fed = rows(synthesise(made, count=8, scale=wished(span="0,255")))
    assert fed.max() > 100 and np.allclose(fed, np.rint(fed), atol=1e-3)
    assert rows(synthesise(made, count=8, scale=wished(span="-1,1"))).min() < -0.2


def test_channels_last_and_bytes() -> None:
    net = Net()
    x = net.input("n", 16, 16, 3, kind=TensorProto.UINT8)
    first = net.add("Transpose", net.add("Cast", x, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    fed = rows(synthesise(network(net.done(net.conv(first, 8, 3, kernel=(3, 3)))), count=5))
    assert fed.shape == (5, 16, 16, 3) and fed.dtype == np.uint8 and fed.std() > 20


# --- all kinds


@pytest.mark.parametrize("make", [convolutional, perceptron])
def test_seeds(make: Any) -> None:
    made = network(make())
    first, again, other = (rows(synthesise(made, count=10, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    calibration = synthesise(made, count=10, seed=1)
    assert np.array_equal(rows(calibration), rows(calibration)) and calibration.count == 10


def test_a_fixed_batch_is_filled() -> None:
    calibration = synthesise(network(perceptron()), count=12)
    assert calibration.count == 10 and [len(feeds["x0"]) for feeds in calibration.batches()] == [5, 5]
    assert synthesise(network(perceptron()), count=1).count == 5


def test_a_clip_in_front_tells_the_range() -> None:
    net = Net()
    x = net.input("n", 6)
    clipped = net.add("Clip", x, net.constant(2, np.float32), net.constant(4, np.float32))
    fed = rows(synthesise(network(net.done(net.dense(clipped, 4, 6))), count=200))
    assert fed.min() >= 2 and fed.max() <= 4 and abs(fed.mean() - 3) < 0.1


def test_a_shift_and_a_divisor_in_front_are_undone() -> None:
    net = Net()
    x = net.input("n", 3)
    less = net.add("Sub", x, net.constant([10, 20, 30], np.float32))
    normal = net.add("Div", less, net.constant([1, 2, 3], np.float32))
    fed = rows(synthesise(network(net.done(net.dense(normal, 4, 3))), count=500))
    assert np.allclose(fed.mean(axis=0), [10, 20, 30], atol=0.5) and np.allclose(fed.std(axis=0), [1, 2, 3], rtol=0.15)


# --- texts


def language_model(*, causal: bool = True, vocabulary: int = 80) -> ModelProto:
    """Scores of the next token from the one at hand; where it is not causal, from the mean of all too."""
    net = Net()
    ids = net.input("n", "t", kind=TensorProto.INT64, name="input_ids")
    mask = net.input("n", "t", kind=TensorProto.INT64, name="attention_mask")
    hidden = net.add("Gather", net.weight(vocabulary, 12), ids)
    kept = net.add("Unsqueeze", net.add("Cast", mask, to=TensorProto.FLOAT), net.constant([2]))
    hidden = net.add("Mul", hidden, kept)
    if not causal:
        hidden = net.add("Add", hidden, net.add("ReduceMean", hidden, axes=[1], keepdims=1))
    return net.done(net.dense(hidden, vocabulary, 12))


def test_a_language_model_writes_by_itself() -> None:
    made = network(language_model())
    calibration = synthesise(made, count=40)
    ids, mask = rows(calibration, "input_ids"), rows(calibration, "attention_mask")
    assert ids.shape == (40, 64) and (mask == 1).all() and any("writes itself" in note for note in calibration.notes)
    session = open_session(made.model.copy(), made.providers)
    (scores,) = session.run({"input_ids": ids, "attention_mask": mask}).values()
    chosen = np.take_along_axis(scores[:, :-1], ids[:, 1:, None], axis=2)
    assert (chosen > np.median(scores[:, :-1], axis=2, keepdims=True)).mean() > 0.9


def test_other_texts_are_drawn_and_leave_special_tokens_out() -> None:
    calibration = synthesise(network(language_model(causal=False)), count=60)
    ids = rows(calibration, "input_ids")
    assert ids.min() == 4 and ids.max() == 79 and any("Zipf" in note for note in calibration.notes)
    assert (ids < 14).mean() > 2 * (ids >= 70).mean()


# --- flags


@pytest.mark.parametrize(("flags", "words"), [
    (["--samples", "0", "--calib", "x.npz"], "--samples 0"),
    (["--synthetic", "0"], "--synthetic 0"),
    (["--synthetic", "5", "--calib", "x.npz"], "leave one of them out"),
    (["--samples", "5"], "data of --calib"),
    (["--labels", "l.npy"], "data of --calib"),
    (["--input-range", "5"], "--input-range 5"),
    (["--mean", "a"], "--mean a"),
    (["--mean", "1,2"], "--mean 1.0,2.0"),
    (["--std", "0"], "--std 0.0"),
])  # fmt: skip
def test_flags_that_are_wrong_by_themselves(command: Command, flags: list[str], words: str) -> None:
    path = command.put(perceptron())
    command.refused(path, command.folder / "out.onnx", "--ratio", "0.5", *flags, code=2, words=[words])


def test_options_say_where_data_come_from() -> None:
    options = Options(calib=[1], samples=3, mean=(0.5,), std=(0.5,))
    assert options.request()["calib"] == "list" and options.scale is not None
    with pytest.raises(UsageError, match="--samples"):
        Options(calib="x", samples=True)


# --- those of them that a network is surest of


def test_the_surest_of_every_class_come_first() -> None:
    """Equal shares of the classes as far as there are pictures, then the surest of all."""
    classes, sure = np.array([0, 0, 0, 0, 1, 1, 2, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1, 0.5])
    assert surest._chosen(classes, sure, 3, 6).tolist() == [0, 1, 2, 4, 5, 6]
    assert surest._chosen(classes, sure, 3, 3).tolist() == [0, 4, 6]
    assert surest._chosen(classes, sure, 1000, 2).tolist() == [0, 4]
    assert surest._chosen(classes, sure, 3, 8).tolist() == list(range(8))


def classifier(answer: str = "Gemm") -> ModelProto:
    net = Net()
    x = net.input("n", 3, 32, 32)
    pooled = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", net.conv(x, 8, 3, kernel=(3, 3)))))
    return net.done(net.gemm(pooled, 4, 8) if answer == "Gemm" else net.conv(x, 2, 3))


def test_a_network_is_surer_of_what_is_taken_and_answers_with_more_classes() -> None:
    made = network(classifier())
    session = open_session(made.model.copy(), made.providers)

    def answers(calibration: Calibration) -> NDArray[np.float64]:
        return shares(np.asarray(session.run({"x0": rows(calibration)})[made.index.outputs[0]], np.float64))

    taken = synthesise(made, count=64, scale=wished(span="0,1"))
    assert "surest of" in taken.notes[0] and "256" in taken.notes[0]
    plain = dead_leaves(256, (3, 32, 32), np.random.default_rng([0, 3, 0]))
    everything = {picture.tobytes() for picture in (plain / np.float32(255)).astype(np.float32)}
    found = answers(taken)
    assert rows(taken).shape == (64, 3, 32, 32) and len({row.tobytes() for row in rows(taken)} & everything) == 64
    every = shares(np.asarray(session.run({"x0": plain / np.float32(255)})[made.index.outputs[0]], np.float64))
    assert found.max(axis=1).mean() > every.max(axis=1).mean()
    assert np.bincount(found.argmax(axis=1), minlength=4).max() <= np.bincount(every.argmax(axis=1), minlength=4).max()


# --- and moved towards what it takes for its classes


def bent(*, last: bool = False, softmax: bool = False, kept: bool = False) -> ModelProto:
    """A classifier of pictures, with colours first or last."""
    net = Net(seed=2)
    x = net.input("n", 32, 32, 3) if last else net.input("n", 3, 32, 32)
    x = net.add("Transpose", x, perm=[0, 3, 1, 2]) if last else x
    x = net.conv(x, 8, 3, kernel=(3, 3))
    if kept:
        statistics = [net.constant(value, np.float32) for value in (np.zeros(8), np.ones(8))]
        x = net.add("BatchNormalization", x, net.weight(8), net.weight(8), *statistics)
    y = net.gemm(net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", x))), 4, 8)
    return net.done(net.add("Softmax", y, axis=-1) if softmax else y)


def loss(made: Network, pictures: NDArray[np.uint8], scale: Scale) -> float:
    """By the pictures' own classes."""
    (name,) = made.index.outputs
    session = open_session(made.model.copy(), made.providers)
    batches = fed(made, Slots.of(made).inputs[0], pictures, scale)
    found = shares(np.concatenate([session.run(feeds)[name] for feeds in batches]).astype(np.float64))
    return float(-np.log(found.max(axis=1)).mean())


@pytest.mark.parametrize("proto", [bent(), bent(last=True), bent(softmax=True)], ids=["first", "last", "softmax"])
@pytest.mark.parametrize("scale", [COLOURED[0], next(each for each in COLOURED if each.reverse)], ids=str)
def test_moved_pictures_are_surer_and_stay_pictures(proto: ModelProto, scale: Scale) -> None:
    made = network(proto)
    pictures = dead_leaves(40, (3, 32, 32), np.random.default_rng(0))
    slot = Slots.of(made).inputs[0]
    found = towards.moved(made, slot, pictures, scale, 1e6, np.random.default_rng(0))
    assert found is not None and found.dtype == np.uint8 and found.shape == pictures.shape
    assert loss(made, found, scale) < loss(made, pictures, scale)
    change = found.astype(float) - pictures
    contrast = pictures.std(axis=(1, 2, 3))
    assert (change.std(axis=(1, 2, 3)) <= 0.16 * contrast + 1).all() and change.any()
    power = np.abs(np.fft.fft2(change)).mean(axis=(0, 1))
    assert power[0, 1:4].mean() > 5 * power[0, 12:16].mean()  # as pictures have it, and not single pixels


def test_pictures_stay_where_statistics_say_that_they_were_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    made, scale = network(bent(kept=True)), wished(span="0,1")
    assert scale is not None
    pictures = dead_leaves(40, (3, 32, 32), np.random.default_rng(0))
    asked = made, Slots.of(made).inputs[0], pictures, scale, 1e6
    told = [misfit(*asked[:2], each.astype(np.float32), scale) for each in (pictures, 255 - pictures)]
    assert told[0] is not None and told[0] != told[1]
    results = []
    for values in ([1.0, 2.0], [2.0, 1.0]):
        order = iter(values)
        monkeypatch.setattr(towards, "misfit", lambda *_, order=order: next(order))
        results.append(towards.moved(*asked, np.random.default_rng(0)))
    assert results[0] is None and results[1] is not None


def test_pictures_stay_where_moving_them_takes_long_or_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made, scale, rng = network(bent()), COLOURED[0], np.random.default_rng(0)
    pictures = dead_leaves(8, (3, 32, 32), rng)
    slot = Slots.of(made).inputs[0]
    assert towards.moved(made, slot, pictures, scale, 1e12, rng) is None
    assert towards.moved(made, slot, pictures, scale, 1e6, rng) is not None

    def unruled(*_: Any, **__: Any) -> None:
        raise ModelError("no rule")

    monkeypatch.setattr(towards, "differentiate", unruled)
    assert towards.moved(made, slot, pictures, scale, 1e6, rng) is None


def test_a_prune_learns_from_moved_pictures_and_says_so() -> None:
    result = prune(bent(), ratio=0.3, best_effort=True, synthetic=64, input_range="0,1")
    (note,) = result.report["data"]["notes"]
    assert "surest of" in note and "moved towards what it takes for these" in note


@pytest.mark.parametrize("scale", [scale for scale in COLOURED if not scale.reverse])
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_what_an_input_is_quantised_to_tells_the_scale(scale: Any, kind: Any) -> None:
    ends = scale.apply(np.array([0.0, 255.0])[:, None, None, None].repeat(3, 1), -3)
    step = (ends.max() - ends.min()) / 255
    zero = np.iinfo(kind).min - np.rint(ends.min() / step)
    net = Net()
    part = net.constant(step, np.float32), net.constant(zero, kind)
    x = net.add("DequantizeLinear", net.add("QuantizeLinear", net.input("n", 3, 8, 8), *part), *part)
    made = network(net.done(net.conv(x, 4, 3)))
    pictures = dead_leaves(16, (3, 8, 8), np.random.default_rng(0)).astype(np.float32)
    found, note = find_scale(made, Slots.of(made).inputs[0], pictures)
    assert found == scale and "tell" in note


def test_answers_that_belong_to_places_choose_no_pictures() -> None:
    """A detector's scores have two axes, too: of every place of every picture, all in one."""
    net = Net()
    x = net.input("n", 3, 32, 32)
    places = net.add("Transpose", net.conv(x, 4, 3), perm=[0, 2, 3, 1])
    scores = net.done(net.add("Reshape", places, net.constant(np.array([-1, 4]))))
    calibration = synthesise(network(scores), count=8, scale=wished(span="0,1"))
    assert "surest" not in calibration.notes[0] and rows(calibration).shape == (8, 3, 32, 32)


def test_nothing_is_left_out_where_there_are_no_classes() -> None:
    calibration = synthesise(network(classifier("Conv")), count=8, scale=wished(span="0,1"))
    assert "surest" not in calibration.notes[0] and calibration.count == 8
    figures = Net()
    x = figures.input("n", 1, 28, 28)
    proto = figures.done(figures.gemm(figures.add("Flatten", x), 10, 784))
    assert "surest" not in synthesise(network(proto), count=8, scale=wished(span="0,1")).notes[0]


def test_only_some_of_what_is_made_up_is_much_like_what_networks_see() -> None:
    flat = Net(seed=1)
    digits = flat.done(flat.gemm(flat.input("n", 784), 5, 784))
    grey = Net(seed=1)
    pooled = grey.done(grey.add("GlobalAveragePool", grey.conv(grey.input("n", 1, 28, 28), 4, 1)))
    assert synthesise(network(digits), count=4).alike and synthesise(network(pooled), count=4).alike
    for proto in (convolutional(), perceptron()):
        assert not synthesise(network(proto), count=4).alike
