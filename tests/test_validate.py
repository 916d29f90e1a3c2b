"""The proof: measures against tiny computations, the judge's verdicts, shapes to try, and what is called unproved."""

from dataclasses import replace

import numpy as np
import pytest
from doors import half, prune_plain
from net import Net
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxprune.analysis import Analysis, analyse
from onnxprune.calibrate.feeds import random_feeds, shape_attempts
from onnxprune.errors import ModelError, RefusedError
from onnxprune.graph import io
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import CPU, CUDA
from onnxprune.ops.trace import Kept
from onnxprune.rewrite import GroupPlan, Plan, apply
from onnxprune.validate import Validation, validate
from onnxprune.validate.compare import agreement, difference, looks_like_scores
from onnxprune.validate.judge import Judge


def test_difference_is_what_it_says() -> None:
    a, b = np.array([1.0, 2.0, 2.5]), np.array([1.0, 2.0, 2.0])
    gap = difference(a, b)
    assert gap.max_abs == pytest.approx(0.5)
    assert gap.max_rel == pytest.approx(0.25)
    assert gap.relative_l2 == pytest.approx(0.5 / 3.0)
    assert gap.cosine == pytest.approx((1 + 4 + 5) / (3 * np.linalg.norm(a)))


@pytest.mark.parametrize(
    ("found", "reference", "expected"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), np.inf),
        (np.array([np.inf, 1.0]), np.array([np.inf, 1.0]), 0.0),
        (np.array([1.0, 1.0]), np.array([np.inf, 1.0]), np.inf),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0.0),
        (np.array([np.nan, 1.0]), np.array([0.0, 1.0]), np.inf),
        (np.zeros(3), np.zeros(3), 0.0),
        (np.array([1e-30, 0.0]), np.zeros(2), np.inf),
        (np.array([1e300, 1e300]), np.array([1e300, 1e300]), 0.0),
    ],
)
def test_difference_at_the_edges(found: np.ndarray, reference: np.ndarray, expected: float) -> None:
    assert difference(found, reference).relative_l2 == expected


def test_nothing_finite_is_not_comparable() -> None:
    assert not difference(np.full(3, np.nan), np.full(3, np.nan)).comparable
    assert not difference(np.empty(0), np.empty(0)).comparable


def test_agreement_counts_equal_winners() -> None:
    a = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)
    b = np.array([[0.2, 0.8], [0.1, 0.9], [0.4, 0.6], [0.9, 0.1]], dtype=np.float32)
    assert agreement(a, b) == 0.75
    assert looks_like_scores(a) and looks_like_scores(a.reshape(4, 2, 1, 1))
    assert not looks_like_scores(np.zeros((4, 1), np.float32))
    assert not looks_like_scores(np.zeros((1, 3, 8, 8), np.float32))
    assert not looks_like_scores(np.zeros((4, 2), np.int64))


def _mlp(last: str = "") -> ModelProto:
    net = Net()
    x = net.input("batch", 6)
    hidden = net.add("Relu", net.gemm(x, 8, 6))
    out = net.gemm(hidden, 4, 8)
    return net.done(net.add(last, out) if last else out)


def _plan(analysis: Analysis) -> Plan:
    groups = analysis.coupling.groups
    return Plan("", tuple(GroupPlan(g.name, g.size, tuple(range(0, g.size, 2))) for g in groups))


def _validated(proto: ModelProto, spoil: float = 0.0, inputs: int = 4) -> Validation:
    model = io.from_proto(proto)
    analysis = analyse(model)
    plan = _plan(analysis)
    apply(model, analysis.index, analysis.shapes, analysis.coupling, plan)
    if spoil:
        tensor = next(t for t in model.proto.graph.initializer if len(t.dims) == 2)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] += spoil
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return validate(
        io.from_proto(proto),
        Model(model.proto),
        analysis.shapes,
        analysis.coupling,
        plan,
        providers=(CPU,),
        rng=np.random.default_rng(0),
        inputs=inputs,
    )


def test_a_sound_prune_passes_and_a_spoiled_weight_does_not() -> None:
    sound = _validated(_mlp())
    assert sound.twin.passed and sound.twin.compared >= 1 and not sound.unproved
    assert sound.fidelity[0].top1_agreement is not None
    assert not _validated(_mlp(), spoil=0.01).twin.passed


def test_a_saturated_output_does_not_hide_a_spoiled_weight() -> None:
    net = Net()
    x = net.input(1, 6)
    hidden = net.add("Relu", net.gemm(x, 8, 6))
    steep = net.add("Mul", net.gemm(hidden, 4, 8), net.constant(1e6, np.float32))
    proto = net.done(net.add("Sigmoid", steep))
    assert _validated(proto).twin.passed
    assert not _validated(proto, spoil=0.01).twin.passed


def test_an_inactive_group_is_called_unproved() -> None:
    net = Net()
    x = net.input(1, 6)
    dead = net.add("Relu", net.add("Sub", net.add("Sigmoid", net.gemm(x, 8, 6)), net.constant(2.0, np.float32)))
    assert _validated(net.done(net.gemm(dead, 4, 8))).unproved


def test_a_network_that_answers_at_random_is_refused() -> None:
    noisy = Net()
    y = noisy.input(1, 64)
    active = noisy.add("Dropout", y, noisy.constant(0.5, np.float32), noisy.constant(True, np.bool_))
    inner = noisy.add("Relu", noisy.gemm(active, 64, 64))
    with pytest.raises(RefusedError, match="random operators"):
        _validated(noisy.done(noisy.gemm(inner, 4, 64)))


def test_the_judge_is_as_strict_as_the_provider_allows() -> None:
    analysis = analyse(io.from_proto(_mlp()))
    name = analysis.index.outputs[0]
    whole = Kept(np.ones(analysis.coupling.trace.count, dtype=bool))
    judge = Judge(CPU, {}, analysis.coupling, analysis.shapes, whole)
    expected = {name: np.ones((1, 4), np.float32)}
    found = {name: np.full((1, 4), 1 + 5e-5, np.float32)}
    assert not judge.compare([name], expected, found)[0].passed
    assert replace(judge, provider=CUDA).compare([name], expected, found)[0].passed
    result, loose = replace(judge, noise={name: 1e-4}).compare([name], expected, found)
    assert loose == {name} and not result.passed and result.compared == 0


def test_larger_sizes_are_tried_only_for_symbolic_dimensions() -> None:
    net = Net()
    x = net.input("batch", 3, "height", 32)
    model = io.from_proto(net.done(net.conv(x, 4, 3)))
    analysis = analyse(model)
    attempts = list(shape_attempts(analysis.index, analysis.shapes))
    assert attempts[0]["x0"] == (1, 3, 224, 32)
    assert {attempt["x0"][2] for attempt in attempts} == {224, 256, 320, 640}
    assert all(attempt["x0"][1] == 3 and attempt["x0"][3] == 32 for attempt in attempts)


def test_token_inputs_stay_within_the_table_they_look_up() -> None:
    net = Net()
    tokens = net.input(1, 50, kind=TensorProto.INT64)
    out = net.dense(net.add("Gather", net.weight(7, 8), tokens), 4, 8)
    analysis = analyse(io.from_proto(net.done(out)))
    drawn = random_feeds(analysis.index, analysis.shapes, np.random.default_rng(0))["x0"]
    assert drawn.dtype == np.int64 and drawn.min() >= 0 and drawn.max() == 6


def test_a_network_that_does_not_run_at_the_assumed_sizes_says_so() -> None:
    net = Net()
    x = net.input("batch", "time", 6)
    cut = net.add("Reshape", x, net.constant([-1, 7, 6]))
    hidden = net.add("Relu", net.dense(cut, 8, 6))
    with pytest.raises(ModelError, match="--input-shape"):
        _validated(net.done(net.dense(hidden, 4, 8)))


def test_old_opsets_are_masked_without_where() -> None:
    net = Net(opset=8)
    x = net.input(1, 6)
    assert _validated(net.done(net.gemm(net.add("Relu", net.gemm(x, 8, 6)), 4, 8))).twin.passed


def test_half_precision_has_its_own_tolerance() -> None:
    proto = half(_mlp())
    result = _validated(helper.make_model(proto.graph, opset_imports=proto.opset_import, ir_version=8))
    assert result.twin.passed and result.twin.tolerance == 5e-3


def test_an_edge_that_is_read_along_two_axes() -> None:
    """The index may be of the very protobuf that becomes the twin."""
    net = Net()
    x = net.input(2, 8)
    first, second = (net.add("Relu", net.gemm(x, 6, 8)) for _ in range(2))
    outer = net.add(
        "MatMul", net.add("Unsqueeze", first, net.constant([2])), net.add("Unsqueeze", second, net.constant([1]))
    )
    summed = net.add("ReduceSum", outer, net.constant([1, 2]), keepdims=0)
    result = prune_plain(net.done(net.add("Add", summed, summed)), ratio=0.4, best_effort=True)
    assert result.report["validation"]["twin"]["passed"] and len(result.report["groups"]) == 2
