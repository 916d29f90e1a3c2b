"""Readers solved anew: nothing is lost that can be made up for, nothing is made worse, types stay what they are."""

import logging

import numpy as np
import onnx
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from repairable import NETWORKS, halved

from onnxprune import Result, prune
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct import evidence, moments, packing, sequence, stages
from onnxprune.reconstruct.forms import Product
from onnxprune.reconstruct.readers import Reader
from onnxprune.reconstruct.wide import WideMoments
from onnxprune.validate.compare import difference


def inputs(proto: ModelProto, count: int = 64, seed: int = 0) -> NDArray[np.float32]:
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng([3, seed]).standard_normal((count, *sizes)).astype(np.float32)


def outputs(proto: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = Session(proto.SerializeToString(), (CPU,))
    return session.run({proto.graph.input[0].name: x})[proto.graph.output[0].name]


def lost(proto: ModelProto, result: Result) -> float:
    """Relative distance from the original on inputs that nothing was learnt from."""
    x = inputs(proto, seed=1)
    return difference(outputs(result.model, x), outputs(proto, x)).relative_l2


@pytest.fixture
def unridged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to no ridge: what can be made up for exactly is."""
    monkeypatch.setattr(moments, "RIDGE", 1e-9)


@pytest.mark.usefixtures("unridged")
@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_say_nothing_new_cost_nothing(name: str) -> None:
    proto = NETWORKS[name]()
    plan = halved(proto)
    result = prune(proto, replay=plan, refit="on", calib=inputs(proto, 256))
    assert result.report["validation"]["twin"]["passed"]
    assert all(len(group.kept) * 2 == group.channels for group in result.plan.groups)
    plain = lost(proto, prune(proto, replay=plan, refit="off"))
    assert lost(proto, result) < 2e-4 < 0.05 < plain
    assert all(item["missed"] <= item["missed_before"] for item in result.report["refit"].values())


@pytest.mark.usefixtures("unridged")
@pytest.mark.parametrize("method", ["submodular", "submodular-seq", "submodular-layer"])
@pytest.mark.parametrize("name", ["conv", "residual", "matmul"])
def test_every_form_makes_up_for_what_says_nothing_new(name: str, method: str) -> None:
    proto = NETWORKS[name]()
    result = prune(proto, replay=halved(proto, method), refit="on", calib=inputs(proto, 256))
    assert lost(proto, result) < 2e-4


@pytest.mark.parametrize("method", ["auto", "submodular", "submodular-seq", "submodular-layer", "l1", "random"])
def test_no_reader_is_made_worse_and_the_same_seed_gives_the_same_bytes(method: str) -> None:
    proto, calib = NETWORKS["residual"](), inputs(NETWORKS["residual"](), 100)
    first, again = (prune(proto, ratio=0.6, best_effort=True, method=method, calib=calib, seed=3) for _ in range(2))
    assert first.report["refit"]
    assert all(item["missed"] <= item["missed_before"] for item in first.report["refit"].values())
    assert all(
        item["relative_error"] == pytest.approx((2 / item["rows"]) ** 0.5) for item in first.report["refit"].values()
    )
    assert first.model.SerializeToString() == again.model.SerializeToString()
    replayed = prune(proto, replay=first.plan, calib=calib, seed=3)
    assert replayed.model.SerializeToString() == first.model.SerializeToString()


def test_the_seed_decides_which_positions_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "FEWEST", 200)
    proto = NETWORKS["conv"]()
    one, two = (prune(proto, ratio=0.5, best_effort=True, calib=inputs(proto), seed=seed).model for seed in (0, 1))
    assert one.SerializeToString() != two.SerializeToString()


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_keep_their_type(kind: type) -> None:
    proto = NETWORKS["residual"]()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = number
    result = prune(proto, ratio=0.4, best_effort=True, calib=inputs(proto).astype(kind))
    assert result.report["refit"]
    assert {tensor.data_type for tensor in result.model.graph.initializer} == {number}
    made_up = prune(proto, ratio=0.4, best_effort=True, synthetic=64)
    assert made_up.report["refit"]


@pytest.mark.parametrize("name", ["conv", "grouped", "matmul", "residual"])
def test_readers_too_wide_for_a_matrix_are_set_right_output_by_output(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sequence, evidence):
        monkeypatch.setattr(module, "WIDEST", 7)
    proto = NETWORKS[name]()
    plan = halved(proto)
    result = prune(proto, replay=plan, refit="on", calib=inputs(proto, 256))
    assert all(item["missed"] <= item["missed_before"] for item in result.report["refit"].values())
    assert lost(proto, result) < lost(proto, prune(proto, replay=plan, refit="off"))


def test_a_factor_and_a_bias_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((2, 80, 3)) + 2, rng.standard_normal((2, 3, 4))
    targets = 1.5 * rows @ weights + rng.standard_normal((2, 80, 4)) + 7
    reader = Reader(0, "a reader", "a", "w", "b", "y", Product(), np.zeros((2, 3), dtype=np.int64), 4)
    own = WideMoments(reader, 80, weights)
    for first in range(0, 80, 30):
        own.add(rows[:, first : first + 30], targets[:, first : first + 30])
    found = own.solve()
    for group, output in np.ndindex(2, 4):
        p, y = rows[group] @ weights[group, :, output], targets[group, :, output]
        spread = np.sqrt(moments.RIDGE) * p.std() * np.sqrt(80)
        tall = np.vstack([np.column_stack([p, np.ones(80)]), [spread, 0.0]])
        factor, bias = np.linalg.lstsq(tall, np.append(y, spread), rcond=None)[0]
        np.testing.assert_allclose(found.weights[group, :, output], factor * weights[group, :, output], rtol=1e-9)
        assert found.biases[group, output] == pytest.approx(bias, rel=1e-9)
    rest = targets - rows @ found.weights - found.biases[:, None]
    assert found.missed == pytest.approx(np.square(rest).sum() / 80 / targets.var(axis=1).sum(), rel=1e-9)
    assert found.missed < found.missed_before


def test_what_is_put_on_disk_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = NETWORKS["residual"]()
    calib = inputs(proto)
    plain = prune(proto, ratio=0.5, best_effort=True, calib=calib).model.SerializeToString()
    monkeypatch.setattr(stages, "_IN_MEMORY", 0)
    assert prune(proto, ratio=0.5, best_effort=True, calib=calib).model.SerializeToString() == plain


@pytest.mark.parametrize("name", ["branches", "residual"])
def test_a_stage_goes_in_parts_where_memory_is_short(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = NETWORKS[name]()
    x = inputs(proto, 64)
    whole = prune(proto, ratio=0.3, calib=x, best_effort=True)
    monkeypatch.setattr(packing, "MEMORY", 1.0)
    parts = prune(proto, ratio=0.3, calib=x, best_effort=True)
    assert parts.model == whole.model and parts.report["refit"] == whole.report["refit"]


def test_a_reader_of_infinities_keeps_its_weights_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    net = Net()
    x = net.add("Relu", net.gemm(net.input("n", 6), 8, 6))
    burst = net.add("Exp", net.add("Mul", net.gemm(x, 8, 8), net.constant(1e3, np.float32)))
    calm = net.add("Relu", net.gemm(x, 8, 8))
    proto = net.done(net.gemm(burst, 3, 8), net.gemm(calm, 3, 8))
    with caplog.at_level(logging.WARNING):
        result = prune(
            proto,
            ratio=0.3,
            best_effort=True,
            calib=np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32),
        )
    stored = [numpy_helper.to_array(tensor) for tensor in result.model.graph.initializer]
    assert all(np.isfinite(value).all() for value in stored)
    assert len(result.report["refit"]) == 3
    assert [record for record in caplog.records if "keeps its weights" in record.message]


def test_one_sample_and_dead_channels_do_no_harm() -> None:
    proto = NETWORKS["conv"]()
    for tensor in list(proto.graph.initializer)[:2]:
        value = numpy_helper.to_array(tensor).copy()
        value[:4] = 0
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    result = prune(proto, ratio=0.4, best_effort=True, calib=inputs(proto, 1))
    assert np.isfinite(outputs(result.model, inputs(proto))).all()
    kept = next(group.kept for group in result.plan.groups if group.channels == 8)
    assert set(kept) & {4, 5, 6, 7}


def test_weights_in_constant_nodes_are_solved_too() -> None:
    proto = NETWORKS["conv"]()
    nodes = [onnx.helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in proto.graph.initializer]
    stored = prune(proto, ratio=0.4, best_effort=True, calib=inputs(proto))
    del proto.graph.initializer[:]
    kept = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *kept])
    result = prune(proto, ratio=0.4, best_effort=True, calib=inputs(proto))
    assert result.report["refit"].keys() == stored.report["refit"].keys() != set()
    x = inputs(proto, seed=2)
    np.testing.assert_allclose(outputs(result.model, x), outputs(stored.model, x), atol=1e-6)


def test_sizes_may_differ_from_batch_to_batch() -> None:
    net = Net()
    x = net.add("Relu", net.conv(net.input(1, 3, "h", "w"), 8, 3, kernel=(3, 3), auto_pad="SAME_UPPER", strides=[2, 2]))
    x = net.add("Relu", net.conv(x, 8, 8, kernel=(3, 3), auto_pad="SAME_UPPER", strides=[2, 2]))
    proto = net.done(net.conv(x, 2, 8, kernel=(2, 2), auto_pad="SAME_LOWER"))
    rng = np.random.default_rng(0)
    calib = [rng.standard_normal((1, 3, *sizes)).astype(np.float32) for sizes in [(9, 8), (8, 8), (7, 10), (9, 9)] * 4]
    result = prune(proto, ratio=0.4, best_effort=True, calib=[{"x0": x} for x in calib])
    gaps = [difference(outputs(result.model, x), outputs(proto, x)).relative_l2 for x in calib]
    plain = prune(proto, replay=result.plan, refit="off").model
    assert np.mean(gaps) < 0.7 * np.mean([difference(outputs(plain, x), outputs(proto, x)).relative_l2 for x in calib])


def test_a_list_that_crosses_a_stage_leaves_readers_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    net = Net()
    x = net.add("Relu", net.gemm(net.input("n", 6), 8, 6))
    made = net.add("SequenceConstruct", x, net.gemm(x, 8, 8))
    later = net.add("Relu", net.gemm(net.add("Relu", net.gemm(x, 8, 8)), 8, 8))
    both = net.add("ConcatFromSequence", net.add("SequenceInsert", made, later), axis=1)
    proto = net.done(net.gemm(both, 3, 24))
    with caplog.at_level(logging.WARNING):
        result = prune(proto, ratio=0.2, best_effort=True, synthetic=64)
    assert result.report["validation"]["twin"]["passed"]
    assert [record for record in caplog.records if "readers keep their weights" in record.message]


def test_a_vector_of_a_higher_rank_than_the_product_is_no_bias() -> None:
    net = Net()
    x = net.add("Relu", net.add("MatMul", net.input("n", 6), net.weight(6, 8)))
    x = net.add("Add", net.add("MatMul", x, net.weight(8, 3)), net.constant(np.ones((1, 1, 3)), np.float32))
    proto = net.done(x)
    calib = np.random.default_rng(0).standard_normal((20000, 6)).astype(np.float32)
    result = prune(proto, ratio=0.4, best_effort=True, calib=calib, samples=20000)
    assert result.report["validation"]["twin"]["passed"] and result.report["refit"]
