"""Distillation: what answers are, how far they are apart, and weights that move until they are nearer."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import MODELS, Command, convolutional, dense, weights
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnxprune
from onnxprune import decide
from onnxprune.analysis import analyse
from onnxprune.calibrate.calibration import Slot, Slots
from onnxprune.distill import Samples, answers_of, descent
from onnxprune.distill.answers import Answer, graded, with_distance
from onnxprune.gradient import Loss, differentiate, raised
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.rewrite import Plan, apply, places, trained
from onnxprune.shapes.infer import Shapes, infer_shapes

Array = NDArray[Any]


def known(proto: ModelProto) -> tuple[Index, Shapes]:
    index = Index(proto)
    return index, infer_shapes(index, Model(proto).skeleton())


def run(proto: ModelProto, feeds: dict[str, Array]) -> list[Array]:
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def apart(proto: ModelProto, model: ModelProto, feeds: dict[str, Array]) -> float:
    pairs = list(zip(run(proto, feeds), run(model, feeds), strict=True))
    return math.sqrt(sum(np.square(b - a).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs))


def pruned(proto: ModelProto, feeds: dict[str, Array], **more: Any) -> onnxprune.Result:
    return onnxprune.prune(proto, ratio=0.5, best_effort=True, calib=feeds, **more)


def grouped() -> ModelProto:
    """Convolutions in groups, a BatchNormalization, a residual sum, a mean over positions."""
    net = Net(seed=1)
    x = net.add("Relu", net.conv(net.input("n", 3, 8, 8), 16, 3, kernel=(3, 3), pads=[1, 1, 1, 1]))
    y = net.add("Relu", net.conv(x, 16, 16, kernel=(3, 3), pads=[1, 1, 1, 1], group=4))
    own = [net.weight(16), net.weight(16), net.weight(16), net.constant(np.full(16, 0.5), np.float32)]
    y = net.add("BatchNormalization", net.conv(y, 16, 16, kernel=(1, 1)), *own)
    z = net.add("GlobalAveragePool", net.add("Relu", net.add("Add", x, y)))
    return net.done(net.gemm(net.add("Flatten", z), 10, 16))


def attending() -> ModelProto:
    net = Net(seed=4)
    x = net.input("n", 5, 8)
    queries, keys, values = (net.dense(x, 12, 8) for _ in range(3))
    scores = net.add("Softmax", net.add("MatMul", queries, net.add("Transpose", keys, perm=[0, 2, 1])), axis=-1)
    return net.done(net.dense(net.add("MatMul", scores, values), 6, 12))


CASES: list[tuple[Callable[[], ModelProto], tuple[int, ...]]] = [
    (dense, (8,)),
    (grouped, (3, 8, 8)),
    (attending, (5, 8)),
]


# --- what is learnt


@pytest.mark.parametrize(("make", "shape"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_answers_are_nearer_on_others(make: Callable[[], ModelProto], shape: tuple[int, ...]) -> None:
    proto = make()
    name = proto.graph.input[0].name
    shape = tuple(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim[1:]) or shape
    learnt, others = {name: drawn(512, *shape)}, {name: drawn(256, *shape, seed=1)}
    solved, distilled = (pruned(proto, learnt, distill=how, method="l1") for how in ("off", "on"))
    told = distilled.report["distill"]
    assert told["kept"] and told["after"] < told["before"] and distilled.report["validation"]["twin"]["passed"]
    assert apart(proto, distilled.model, others) < 0.95 * apart(proto, solved.model, others)
    sizes = [{t.name: tuple(t.dims) for t in each.model.graph.initializer} for each in (solved, distilled)]
    assert sizes[0] == sizes[1] and solved.report["distill"] is None


def test_the_same_bytes_every_time_and_others_by_seed() -> None:
    feeds = {"x0": drawn(256, 20)}
    made = [pruned(dense(), feeds, seed=seed).model.SerializeToString(deterministic=True) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_weights_that_are_no_nearer_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = {"x0": drawn(256, 20)}
    solved = pruned(dense(), feeds, distill="off")
    monkeypatch.setattr(descent, "_RATE", 1e3)
    result = pruned(dense(), feeds)
    assert not result.report["distill"]["kept"] and result.report["validation"]["twin"]["passed"]
    assert result.model.SerializeToString(deterministic=True) == solved.model.SerializeToString(deterministic=True)


def test_a_weight_that_two_layers_share_stays_one() -> None:
    net = Net(seed=3)
    shared = net.weight(12, 12)
    x = net.add("Relu", net.gemm(net.input("n", 8), 12, 8))
    x = net.add("Relu", net.add("MatMul", net.add("Relu", net.add("MatMul", x, shared)), shared))
    proto = net.done(net.gemm(x, 5, 12))
    result = pruned(proto, {proto.graph.input[0].name: drawn(256, 8)}, min_keep=4)
    assert result.report["distill"]["kept"] and result.report["validation"]["twin"]["passed"]
    readers = [node.input[1] for node in result.model.graph.node if node.op_type == "MatMul"]
    assert len(readers) == 2 and len(set(readers)) == 1


def test_half_precision_stays_half() -> None:
    from_single = convolutional()
    shape = [d.dim_value for d in from_single.graph.input[0].type.tensor_type.shape.dim[1:]]
    for tensor in from_single.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*from_single.graph.input, *from_single.graph.output, *from_single.graph.value_info):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    name = from_single.graph.input[0].name
    result = pruned(from_single, {name: drawn(256, *shape).astype(np.float16)})
    assert result.report["distill"]["steps"] and result.report["validation"]["twin"]["passed"]
    kinds = {t.data_type for t in result.model.graph.initializer if t.dims}
    assert onnx.TensorProto.FLOAT not in kinds


def test_one_number_of_one_sample_at_a_time() -> None:
    net = Net(seed=6)
    x = net.add("Relu", net.gemm(net.input(1, 8), 24, 8))
    proto = net.done(net.gemm(net.add("Relu", net.gemm(x, 24, 24)), 1, 24))
    assert pruned(proto, {proto.graph.input[0].name: drawn(400, 8)}).report["distill"]["kept"]


def test_batches_of_a_fixed_size_are_learnt_from_as_they_are() -> None:
    proto = dense()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.value_info[:]
    result = pruned(proto, {"x0": drawn(400, 20)})
    assert result.report["distill"]["kept"] and result.report["distill"]["samples"] >= 400


# --- where it cannot be done


def recurrent() -> ModelProto:
    net = Net(seed=2)
    x = net.add("Relu", net.dense(net.add("Transpose", net.input("n", 7, 6), perm=[1, 0, 2]), 12, 6))
    y = net.add("LSTM", x, net.weight(1, 40, 12), net.weight(1, 40, 10), net.weight(1, 80), hidden_size=10)
    return net.done(net.dense(net.add("Squeeze", y, net.constant([1])), 5, 10))


def test_what_cannot_be_differentiated_is_solved_alone_and_said(command: Command) -> None:
    path, out = command.put(recurrent()), command.folder / "out.onnx"
    ran = command.done(path, out, "--ratio", "0.3", "--best-effort", "--synthetic", "64")
    assert "Weights were not distilled" in " ".join(ran.out.split()) and "LSTM" in ran.out
    flags = ("--ratio", "0.3", "--best-effort", "--synthetic", "64", "--distill", "on")
    command.refused(path, command.folder / "other.onnx", *flags, words=["--distill on", "LSTM", "--distill auto"])


@pytest.mark.parametrize("other", [("--refit", "off"), ("--reinit",), ("--method", "coreset-sampled")])
def test_it_needs_readers_that_are_solved(command: Command, other: Sequence[str]) -> None:
    path, out = command.put(dense()), command.folder / "out.onnx"
    command.refused(path, out, "--ratio", "0.3", "--distill", "on", *other, code=2, words=["--distill on"])


def test_too_few_samples_to_tell() -> None:
    result = pruned(dense(), {"x0": drawn(12, 20)})
    assert "no samples are left" in result.report["distill"]["none"]


def test_too_much_to_be_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left by default where few steps are all that it may cost, and done on request."""
    monkeypatch.setattr(descent, "_COST", 1e6)
    assert "too few" in pruned(dense(), {"x0": drawn(256, 20)}).report["distill"]["none"]
    assert pruned(dense(), {"x0": drawn(256, 20)}, distill="on").report["distill"]["steps"] >= 1


def test_large_networks_on_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "_MOVED", 100)
    assert "--distill on" in pruned(dense(), {"x0": drawn(256, 20)}).report["distill"]["none"]
    assert pruned(dense(), {"x0": drawn(256, 20)}, distill="on").report["distill"]["steps"]


# --- answers


def test_scores_are_those_that_probabilities_are_made_of() -> None:
    net = Net()
    scores = net.gemm(net.input("n", 4), 6, 4)
    both = net.add("Reshape", net.add("Softmax", scores, axis=1), net.constant([-1, 2, 3]))
    index, shapes = known(net.done(both, net.add("Sigmoid", scores)))
    answers = answers_of(index, shapes)
    assert [(a.tensor, a.axis) for a in answers] == [(scores, 1), (index.outputs[1], None)]


def test_scores_for_every_entry_of_a_table() -> None:
    net = Net()
    x = net.add("Gather", net.weight(40, 8), net.input("n", 6, kind=onnx.TensorProto.INT64))
    index, shapes = known(net.done(net.dense(x, 40, 8), net.dense(x, 7, 8)))
    assert [answer.axis for answer in answers_of(index, shapes)] == [2, None]


def test_what_a_decision_is_made_of() -> None:
    net = Net()
    scores = net.gemm(net.input("n", 4), 6, 4)
    proto = net.done(net.add("ArgMax", scores, axis=1))
    assert [answer.tensor for answer in answers_of(*known(proto))] == [scores]


def test_answers_that_tell_nothing_are_left_out() -> None:
    found = {"a": drawn(8, 3), "b": np.ones((8, 3), np.float32), "c": np.full((8, 3), np.nan), "d": drawn(8, 3)}
    asked = [Answer(name, axis) for name, axis in zip("abcd", (None, None, None, 1), strict=True)]
    parted = [{name: value[part] for name, value in found.items()} for part in (slice(0, 1), slice(1, 8))]
    made = list(graded(asked, parted))
    assert [answer.tensor for answer in made] == ["a", "d"]
    assert made[0].spread == pytest.approx(found["a"].std())
    assert made[1].spread == pytest.approx(found["d"].std(axis=1).mean())


@pytest.mark.parametrize("axis", [None, 1])
def test_the_distance_is_its_formula_and_has_its_derivative(axis: int | None) -> None:
    net = Net(seed=5)
    x = net.input("n", 4)
    y = net.gemm(x, 6, 4)
    proto = raised(net.done(y))
    shapes = known(proto)[1]
    told, targets = with_distance(proto, [Answer(y, axis, 1.7)], shapes)
    rows, other = drawn(3, 4), drawn(3, 6, seed=1)
    assumed = shapes.inputs | {targets[y]: (3, 6)}
    gradient = differentiate(proto, [x], loss=Loss("total", told), outputs=[y], input_shapes=assumed)
    own, total, slope = (run(gradient.proto, {x: rows, targets[y]: other})[place] for place in (0, 1, 2))
    assert total == pytest.approx(distance(own, other, axis, 1.7), rel=1e-4)
    weight = weights(proto)[next(node for node in proto.graph.node if node.op_type == "Gemm").input[1]]
    turned = any(a.name == "transB" and a.i for n in proto.graph.node for a in n.attribute)
    matrix = weight.T if turned else weight
    steps = np.zeros_like(own, dtype=np.float64)
    for place in np.ndindex(own.shape):
        moved = np.zeros_like(steps)
        moved[place] = 1e-5
        ahead, behind = (distance(own.astype(np.float64) + sign * moved, other, axis, 1.7) for sign in (1, -1))
        steps[place] = (ahead - behind) / 2e-5
    np.testing.assert_allclose(slope, steps @ matrix.T, rtol=1e-3, atol=1e-5)


def distance(y: Array, t: Array, axis: int | None, spread: float) -> float:
    """By the formula at the head of the module."""
    if axis is None:
        return float(np.square(np.asarray(y, np.float64) - t).mean() / spread**2)
    heat = spread / 2

    def certain(values: Array) -> Array:
        raised_ = np.asarray(values, np.float64) / heat
        return raised_ - np.log(np.exp(raised_).sum(axis=axis, keepdims=True))

    q = np.exp(certain(t))
    return float((q * (certain(t) - certain(y))).sum(axis=axis).mean() * 2 * 0.25)


# --- the way back, and which weights move


@pytest.mark.parametrize("make", [dense, convolutional, grouped, attending])
def test_places_are_where_weights_were(make: Callable[[], ModelProto]) -> None:
    proto = make()
    analysis = analyse(io.from_proto(proto))
    plan: Plan = onnxprune.prune(proto, ratio=0.4, method="l1", refit="off", best_effort=True).plan
    found = places(analysis.index, analysis.coupling, plan)
    model = analysis.model.copy()
    apply(model, Index(model.proto), analysis.shapes, analysis.coupling, plan)
    before, after = weights(proto), {t.name: model.array(t) for t in model.proto.graph.initializer}
    cut = [name for name, where in found.items() if where is not None and name in after]
    assert len(cut) >= 2
    for name in cut:
        np.testing.assert_array_equal(before[name].reshape(-1)[found[name]], after[name])
    whole = [name for name, where in found.items() if where is None and name in after and name in before]
    assert all(np.array_equal(before[name], after[name]) for name in whole)


def test_statistics_that_were_collected_do_not_move() -> None:
    proto = grouped()
    index, shapes = known(proto)
    (node,) = (each for each in proto.graph.node if each.op_type == "BatchNormalization")
    moved = trained(index, shapes)
    assert {node.input[1], node.input[2]} <= set(moved) and not {node.input[3], node.input[4]} & set(moved)


# --- samples


def slots(*inputs: tuple[str, int | None, str], fixed: bool = False) -> Slots:
    made = [Slot(name, (None, 3), (1, 3), np.dtype(kind), axis) for name, axis, kind in inputs]
    return Slots(tuple(made), 4, fixed)


def test_every_sample_is_drawn_once_in_any_order() -> None:
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    batches = [{"x": rows[:6]}, {"x": rows[6:]}]
    samples = Samples(batches, slots(("x", 0, "f4")))
    assert len(samples) == 10
    for rng in (None, np.random.default_rng(0)):
        taken = [samples.take(part)["x"] for part in samples.drawn(4, rng)]
        assert [len(part) for part in taken] in ([4, 4, 2], [4, 2, 4], [2, 4, 4])
        found = np.concatenate(taken)
        assert np.array_equal(found[np.argsort(found[:, 0])], rows) and np.array_equal(found, rows) == (rng is None)


def test_samples_of_several_sizes_and_along_another_axis() -> None:
    batches = [{"x": drawn(3, 2)}, {"x": drawn(3, 4)}, {"x": drawn(5, 3)}]
    samples = Samples(batches, slots(("x", 1, "f4")))
    taken = [samples.take(part)["x"] for part in samples.drawn(8)]
    assert [part.shape for part in taken] == [(3, 6), (5, 3)]
    np.testing.assert_array_equal(taken[0], np.concatenate([batches[0]["x"], batches[1]["x"]], axis=1))


def test_what_is_one_for_all_samples_stays_with_them() -> None:
    batches = [{"x": drawn(4, 3), "k": np.full((1, 3), k, np.float32)} for k in (1, 2)]
    samples = Samples(batches, slots(("x", 0, "f4"), ("k", None, "f4")))
    taken = [samples.take(part) for part in samples.drawn(8)]
    assert [part["x"].shape[0] for part in taken] == [4, 4] and [part["k"][0, 0] for part in taken] == [1, 2]


def test_batches_of_a_fixed_size_stay_whole() -> None:
    samples = Samples([{"x": drawn(4, 3, seed=k)} for k in range(3)], slots(("x", 0, "f4"), fixed=True))
    assert len(samples) == 12 and [samples.take(part)["x"].shape for part in samples.drawn(7)] == [(4, 3)] * 3


def test_mixed_samples_lie_between_two() -> None:
    rows = np.eye(3, dtype=np.float32)
    samples, rng = Samples([{"x": rows}], slots(("x", 0, "f4"))), np.random.default_rng(0)
    (part,) = samples.drawn(3)
    found = np.concatenate([samples.mixed(part, rng)["x"] for _ in range(40)])
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6) and (found >= 0).all()
    assert (found.max(axis=1) >= 0.5).all() and (np.count_nonzero(found, axis=1) <= 2).all()
    assert (found.argmax(axis=1) == np.tile([0, 1, 2], 40)).mean() > 0.95 and len(np.unique(found)) > 40


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_samples_are_parted_in_their_order(parts: int) -> None:
    rows = drawn(5, 3)
    batch = {"x": rows, "k": np.ones((1, 3), np.float32)}
    made = Samples([batch], slots(("x", 0, "f4"), ("k", None, "f4"))).split(batch, parts)
    assert [len(part["x"]) for part, _ in made] == [count for _, count in made] and len(made) == min(parts, 5)
    assert max(count for _, count in made) - min(count for _, count in made) <= 1
    assert np.array_equal(np.concatenate([part["x"] for part, _ in made]), rows) and all(
        "k" in part for part, _ in made
    )
    assert len(Samples([batch], slots(("x", 0, "f4"), fixed=True)).split(batch, parts)) == 1


def test_whole_numbers_are_not_mixed() -> None:
    batch = {"x": drawn(4, 3), "ids": np.arange(12, dtype=np.int64).reshape(4, 3)}
    samples = Samples([batch], slots(("x", 0, "f4"), ("ids", 0, "i8")))
    (part,) = samples.drawn(4)
    found = samples.mixed(part, np.random.default_rng(0))
    assert all(np.array_equal(found[name], batch[name]) for name in batch)


def test_arrays_beside_samples_go_with_them() -> None:
    rows = drawn(10, 3)
    samples = Samples([{"x": rows[:6]}, {"x": rows[6:]}], slots(("x", 0, "f4")))
    more = [{"t": 2 * rows[:6]}, {"t": 2 * rows[6:]}]
    beside = samples.beside(more)
    for part in beside.drawn(4, np.random.default_rng(0)):
        taken = beside.take(part)
        np.testing.assert_array_equal(taken["t"], 2 * taken["x"])
    assert samples.beside([{"t": rows[:3]}, {"t": rows[6:]}]) is samples


def test_a_real_network_without_data() -> None:
    path = MODELS / "lenet-300-100.onnx"
    found = [onnxprune.prune(path, ratio=0.9, synthetic=1024, distill=how).report for how in ("off", "auto")]
    assert found[0]["distill"] is None and found[1]["distill"]["kept"]
    assert found[1]["distill"]["after"] < 0.9 * found[1]["distill"]["before"]
