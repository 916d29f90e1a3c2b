"""Quantised networks: counted, scored and proved as the numbers that their integers stand for."""

from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from cases import quantized
from cases.case import Case
from doors import prune_plain
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from oracle import TOLERANCE, Analysis, analyse, prune, random_plan, twin_gap

from onnxprune.calibrate.feeds import random_feeds
from onnxprune.coupling.channels import ChannelReader
from onnxprune.coupling.costs import measure
from onnxprune.coupling.dequantise import Dequantiser
from onnxprune.coupling.scalable import scalable_groups
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index, weights_of
from onnxprune.graph.runtime import CPU, Session
from onnxprune.ops.op import Op
from onnxprune.ops.trace import Role
from onnxprune.rewrite.cut import Cut
from onnxprune.shapes.standins import QONNX, infer_standin
from onnxprune.validate.bypass import bypass
from onnxprune.validate.roundings import find_roundings

SOUND = [pytest.param(case, id=case.identifier) for case in quantized.CASES if case.runs and case.groups]
RUNNING = [case for case in SOUND if case.values[0].row[0] not in QONNX]


def _case(identifier: str) -> ModelProto:
    return next(case for case in quantized.CASES if case.identifier == identifier).make()


def _run(proto: ModelProto, feeds: dict[str, NDArray[np.generic]], names: Sequence[str] = ()) -> dict[str, NDArray]:
    copy = ModelProto()
    copy.CopyFrom(proto)
    given = {value.name for value in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in given)
    return Session(copy.SerializeToString(), (CPU,)).run(feeds)


def _reader(found: Analysis) -> ChannelReader:
    weights = found.index.weights
    return ChannelReader(found.coupling, found.index, lambda name: found.model.array(weights[name]))


@pytest.mark.parametrize("case", SOUND)
def test_parameters_are_counted_before_as_after(case: Case) -> None:
    proto = case.make()
    found = analyse(proto)
    cost = measure("params", found.coupling, found.index)
    assert cost.value(np.array([group.size for group in found.coupling.groups])) == sum(weights_of(proto))
    for share in (0.3, 0.6):
        plan = random_plan(found.coupling, np.random.default_rng(0), share)
        assert cost.value(plan.counts(found.coupling)) == sum(weights_of(prune(proto, plan).proto))


@pytest.mark.parametrize("case", RUNNING)
def test_sound_as_it_is_rounded(case: Case) -> None:
    """Where integers follow from the input alone, roundings need not be taken out."""
    proto = case.make()
    rng = np.random.default_rng(2)
    plan = random_plan(analyse(proto).coupling, rng, 0.5)
    gap, _ = twin_gap(proto, plan, prune(proto, plan), rng, rounded=True)
    assert gap <= TOLERANCE


@pytest.mark.parametrize("case", RUNNING)
def test_shapes_and_types_are_those_of_onnxruntime(case: Case) -> None:
    proto = case.make()
    found = analyse(proto)
    names = [name for node in proto.graph.node for name in node.output if node.op_type != "Constant"]
    values = _run(proto, random_feeds(found.index, found.shapes, np.random.default_rng(0)), names)
    assert {name: value.shape for name, value in values.items()} == {name: found.shapes.shapes[name] for name in values}
    kinds = {name: helper.tensor_dtype_to_np_dtype(found.shapes.types[name]) for name in values}
    assert {name: value.dtype for name, value in values.items() if value.dtype.itemsize > 1} == {
        name: kind for name, kind in kinds.items() if values[name].dtype.itemsize > 1
    }


# ---- what integers stand for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identifier",
    [
        "DequantizeLinear-10-opset 10",
        "DequantizeLinear-10-per channel",
        "DequantizeLinear-10-per channel that is read",
        "DequantizeLinear-10-int4, opset 21",
        "DequantizeLinear-10-float8_e4m3fn, opset 19",
        "DequantizeLinear-10-blocks that are read, the last one shorter",
        "DequantizeLinear-10-blocks that are made",
        "DequantizeLinear-10-one block",
    ],
)
def test_weights_are_dequantised_as_onnxruntime_does(identifier: str) -> None:
    proto = _case(identifier)
    found = analyse(proto)
    node = next(node for node in proto.graph.node if node.op_type == "DequantizeLinear")
    number = list(proto.graph.node).index(node)
    use = found.coupling.trace.uses[number, 0]
    stored = found.model.array(found.index.weights[node.input[0]])
    reader = Dequantiser(found.coupling.trace, found.index, lambda name: found.model.array(found.index.weights[name]))
    feeds = random_feeds(found.index, found.shapes, np.random.default_rng(0))
    expected = _run(proto, feeds, [node.output[0]])[node.output[0]]
    np.testing.assert_allclose(reader.numbers(use, stored), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "identifier",
    [
        f"MatMulNBits-{name}"
        for name in (
            "four bits",
            "the last block shorter",
            "eight bits",
            "zero points in bytes of two",
            "tables as lists",
        )
    ],
)
def test_packed_weights_are_those_that_onnxruntime_multiplies_by(identifier: str) -> None:
    proto = _case(identifier)
    found = analyse(proto)
    number, node = next(item for item in enumerate(proto.graph.node) if item[1].op_type == "MatMulNBits")
    count = next(item.i for item in node.attribute if item.name == "K")
    only = helper.make_graph(
        [helper.make_node("MatMulNBits", [*node.input[:4]], ["y"], domain=node.domain)],
        "one",
        [helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [count, count])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(proto.graph.initializer),
    )
    only.node[0].attribute.extend(node.attribute)
    model = helper.make_model(only, opset_imports=list(proto.opset_import), ir_version=8)
    expected = _run(model, {node.input[0]: np.eye(count, dtype=np.float32)})["y"]
    use = found.coupling.trace.uses[number, 1]
    reader = Dequantiser(found.coupling.trace, found.index, lambda name: found.model.array(found.index.weights[name]))
    numbers = reader.numbers(use, found.model.array(found.index.weights[node.input[1]]))
    assert numbers.shape[:2] == use.view[:2]
    np.testing.assert_allclose(numbers.reshape(len(numbers), -1)[:, :count].T, expected, rtol=1e-4, atol=1e-5)


def _floating(proto: ModelProto) -> ModelProto:
    """The same network with weights and biases stored as the numbers that they stand for."""
    found = analyse(proto)
    names = [name for name in found.index.constants if name in found.index.producer]
    values = _run(proto, random_feeds(found.index, found.shapes, np.random.default_rng(0)), names)
    copy = ModelProto()
    copy.CopyFrom(proto)
    for place in range(len(copy.graph.node) - 1, -1, -1):
        if copy.graph.node[place].output[0] in names:
            del copy.graph.node[place]
    copy.graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in names)
    return copy


@pytest.mark.parametrize(
    "identifier",
    ["DequantizeLinear-10-everywhere", "DequantizeLinear-10-grouped", "DequantizeLinear-10-Gemm with a bias"],
)
def test_channels_are_those_of_the_floating_network(identifier: str) -> None:
    proto = _case(identifier)
    quantised, floating = analyse(proto), analyse(_floating(proto))
    assert [group.name for group in quantised.coupling.groups] == [group.name for group in floating.coupling.groups]
    pairs = zip(quantised.coupling.groups, floating.coupling.groups, strict=True)
    for first, second in ((_reader(quantised).channels(a), _reader(floating).channels(b)) for a, b in pairs):
        assert first.activation == second.activation
        assert (first.bias is None) == (second.bias is None)
        if first.bias is not None and second.bias is not None:
            np.testing.assert_allclose(first.bias, second.bias, rtol=1e-6)
        for ours, theirs in ((first.incoming, second.incoming), (first.outgoing, second.outgoing)):
            assert len(ours) == len(theirs)
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6)


def test_layers_of_integers_are_scored_with_their_scales_and_biases() -> None:
    found = analyse(_case("QLinearConv-10-per channel"))
    group = next(group for group in found.coupling.groups if group.size == 8)
    channels = _reader(found).channels(group)
    number, node = [item for item in enumerate(found.index.nodes) if item[1].op_type == "QLinearConv"][1]
    weight, scale, zero, bias = (found.model.array(found.index.weights[node.input[place]]) for place in (3, 4, 5, 8))
    numbers = (weight.astype(np.float32) - zero.reshape(-1, 1, 1, 1)) * scale.reshape(-1, 1, 1, 1)
    assert group.name == found.index.nodes[number].name
    np.testing.assert_allclose(channels.incoming[0], numbers.reshape(8, -1), rtol=1e-6)
    of_input = found.model.array(found.index.weights[node.input[1]])
    assert channels.bias is not None
    np.testing.assert_allclose(channels.bias, bias * scale.astype(np.float64) * float(of_input), rtol=1e-6)


def test_integers_take_no_factors() -> None:
    found = analyse(_case("DequantizeLinear-10-everywhere"))
    assert scalable_groups(found.coupling, found.index) == frozenset()


def test_biases_of_32_bits_are_weights_and_sizes_are_not() -> None:
    net = Net(13)
    sizes = net.constant([0, 6], np.int32)
    bias, scale = net.constant(np.arange(6), np.int32), net.constant(0.1, np.float32)
    added = net.add("DequantizeLinear", bias, scale, net.constant(0, np.int32))
    hidden = net.add("Add", net.dense(net.input("n", 3), 6, 3), added)
    proto = net.done(net.dense(net.add("Reshape", hidden, net.add("Cast", sizes, to=7)), 2, 6))
    index = Index(proto)
    assert index.is_weight(bias) and not index.is_weight(sizes)
    assert sum(weights_of(proto)) == 18 + 6 + 1 + 1 + 12
    assert {block.role for block in analyse(proto).coupling.trace.blocks if block.use and block.use.tensor == bias} == {
        Role.CHANNEL
    }


# ---- roundings -------------------------------------------------------------------------------------------------------


def _summed(net: Net, x: str, size: int) -> str:
    """The same numbers, as sums of floats."""
    return net.add("MatMul", x, net.constant(np.eye(size), np.float32))


def _single(kind: type = np.uint8, zero: int = 100, shape: Sequence[int] = ()) -> ModelProto:
    net = Net(13)
    scale, point = net.constant(np.full(shape, 0.1), np.float32), net.constant(np.full(shape, zero), kind)
    integers = net.add("QuantizeLinear", _summed(net, net.input("n", 4, 3, 3), 3), scale, point, axis=1)
    return net.done(net.add("DequantizeLinear", integers, scale, point, axis=1))


@pytest.mark.parametrize("shape", [(), (4,)])
def test_a_bypass_takes_out_half_a_step_and_saturates_alike(shape: tuple[int, ...]) -> None:
    proto = _single(shape=shape)
    found = analyse(proto)
    x = np.linspace(-30, 30, 5 * 4 * 9, dtype=np.float32).reshape(5, 4, 3, 3)
    (rounded,) = _run(proto, {"x0": x}).values()
    bypass(proto, find_roundings(found.index, found.shapes))
    assert not {node.op_type for node in proto.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    (plain,) = _run(proto, {"x0": x}).values()
    inside = (x > -10.0) & (x < 15.5)
    assert np.abs(plain - rounded).max() <= 0.0501
    np.testing.assert_allclose(plain[inside], x[inside], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain[~inside], rounded[~inside], rtol=1e-5)


@pytest.mark.parametrize(
    "identifier",
    [
        "QuantizeLinear-10-opset 21",
        "QuantizeLinear-10-uint16, per channel",
        "QuantizeLinear-10-pooled, shuffled and joined",
        "DequantizeLinear-10-everywhere",
        "MatMulInteger-10-a zero point per column",
        "MatMulIntegerToFloat-per column, with a bias",
        "DynamicQuantizeMatMul-per column, with a bias",
        "DynamicQuantizeMatMul-per tensor",
        "ConvInteger-10-zero points",
        "QLinearMatMul-10-per tensor",
        "QLinearMatMul-10-per column, as a table",
        "QLinearMatMul-10-two activations",
        "QGemm-per tensor",
        "QGemm-per column, transposed",
        "QGemm-without a bias, alpha",
        "QGemm-floating result",
        "QLinearAdd-two branches",
        "QLinearMul-a constant",
        "QLinearWhere-two branches",
        "QLinearConcat-two branches",
        "QLinearAveragePool-2 by 2",
        "QLinearGlobalAveragePool-channels second",
        "QLinearLeakyRelu-default",
        "QLinearSigmoid-default",
        "QLinearSoftmax-over columns",
    ],
)
def test_a_bypassed_network_computes_about_the_same(identifier: str) -> None:
    proto = _case(identifier)
    found = analyse(proto)
    sizes = {name: (16, *shape[1:]) for name, shape in found.shapes.inputs.items()}
    feeds = random_feeds(found.index, found.shapes, np.random.default_rng(3), sizes)
    before = _run(proto, feeds)
    roundings = find_roundings(found.index, found.shapes)
    assert roundings
    bypass(proto, roundings)
    for name, value in _run(proto, feeds).items():
        assert 0.0 < np.linalg.norm(value - before[name]) <= 0.1 * np.linalg.norm(before[name])


def _of_other_zeros() -> ModelProto:
    """What is dequantised with another zero point than it was quantised with is shifted by that."""
    net = Net(13)
    scale = net.constant(0.1, np.float32)
    integers = net.add("QuantizeLinear", _summed(net, net.input("n", 4), 4), scale, net.constant(100, np.uint8))
    return net.done(net.add("DequantizeLinear", integers, scale, net.constant(90, np.uint8)))


def test_zero_points_need_not_be_the_same() -> None:
    proto = _of_other_zeros()
    found = analyse(proto)
    bypass(proto, find_roundings(found.index, found.shapes))
    x = np.array([[-0.5, 0.0, 0.25, 3.0]], dtype=np.float32)
    (value,) = _run(proto, {"x0": x}).values()
    np.testing.assert_allclose(value, x + 1.0, rtol=1e-6)


def test_a_rounding_stays_where_its_integers_are_summed_exactly() -> None:
    for identifier in ("QLinearConv-10-per tensor", "QLinearConv-10-grouped", "QuantizeLinear-10-to the output"):
        found = analyse(_case(identifier))
        assert not find_roundings(found.index, found.shapes)


@pytest.mark.parametrize(
    ("attributes", "low", "high"),
    [
        ({}, -4, 3),
        ({"narrow": 1}, -3, 3),
        ({"signed": 0}, 0, 7),
        ({"signed": 0, "narrow": 1}, 0, 6),
    ],
)
def test_some_bits_are_what_qonnx_says(attributes: dict[str, int], low: int, high: int) -> None:
    """Weights are rounded, so that networks of a few bits are compared as they are."""
    net = Net(9)
    weight = np.linspace(-3.1, 3.2, 40, dtype=np.float32).reshape(4, 10)
    inputs = [net.constant(value, np.float32) for value in (weight, 0.5, 0.0, 3.0)]
    kernel = net.add("Quant", *inputs, domain="onnx.brevitas", **attributes)
    proto = net.done(net.add("MatMul", net.input("n", 4), kernel))
    found = analyse(proto)
    roundings = find_roundings(found.index, found.shapes)
    assert roundings.needed
    bypass(proto, roundings)
    (value,) = _run(proto, {"x0": np.eye(4, dtype=np.float32)}).values()
    np.testing.assert_allclose(value, np.clip(np.round(weight / 0.5), low, high) * 0.5)


def _deep(layers: int = 6) -> ModelProto:
    """Layers whose activations are quantised: sums of floats, in another order in a pruned network, are rounded."""
    net = Net(13)
    x = net.input("n", 3, 8, 8)
    scale, zero = net.constant(0.02, np.float32), net.constant(128, np.uint8)
    for layer in range(layers):
        integers = net.add("QuantizeLinear", x, scale, zero)
        read = 32 if layer else 3
        weight = net.constant(0.2 * net.rng.standard_normal((32, read, 3, 3)), np.float32)
        x = net.add("Conv", net.add("DequantizeLinear", integers, scale, zero), weight, pads=[1, 1, 1, 1])
    return net.done(net.conv(x, 4, 32))


def test_flipped_roundings_are_no_fault() -> None:
    """Where sums lie half-way between two steps, they may be rounded either way: roundings are taken out."""
    proto, rng = _deep(), np.random.default_rng(0)
    plan = random_plan(analyse(proto).coupling, rng, 0.5)
    pruned = prune(proto, plan)
    assert twin_gap(proto, plan, pruned, np.random.default_rng(1))[0] <= TOLERANCE


# ---- faults are found ------------------------------------------------------------------------------------------------


def _objects(proto: ModelProto, *, rounded: bool = False) -> bool:
    rng = np.random.default_rng(1)
    for share in (0.3, 0.5):
        try:
            plan = random_plan(analyse(proto).coupling, rng, share)
            gap, _ = twin_gap(proto, plan, prune(proto, plan), rng, rounded=rounded)
        except (ModelError, AssertionError, IndexError, ValueError):
            return True
        if gap > 1e-3:
            return True
        assert gap <= TOLERANCE, "a fault is either plain or not there"
    return False


LISTS = [
    "QuantizeLinear-10-per channel",
    "QuantizeLinear-10-of a weight",
    "DequantizeLinear-10-per channel",
    "DequantizeLinear-10-int4, opset 21",
    "DequantizeLinear-10-everywhere",
    "DequantizeLinear-10-grouped",
    "QLinearConv-10-per channel",
    "QLinearConv-10-grouped",
    "QLinearMatMul-10-per column",
    "MatMulInteger-10-a zero point per column",
    "MatMulIntegerToFloat-per column, with a bias",
    "DynamicQuantizeMatMul-per column, with a bias",
    "QGemm-per column, transposed",
]


@pytest.mark.parametrize("identifier", LISTS)
def test_lists_that_are_cut_wrongly_are_found(identifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = _case(identifier)
    assert not _objects(proto)
    original = Cut.gather

    def gather(self: Cut, array: NDArray[np.generic]) -> NDArray[np.generic]:
        cut = original(self, array)
        whole = array.ndim == 1 and array.dtype == np.float32
        return array[: len(cut)] if whole else cut

    monkeypatch.setattr(Cut, "gather", gather)
    assert _objects(proto)


@pytest.mark.parametrize("identifier", ["QLinearConv-10-per tensor", "QLinearMatMul-10-per tensor", "QGemm-per tensor"])
def test_a_zero_that_is_not_the_zero_point_is_found(identifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = _case(identifier)
    assert not _objects(proto, rounded=True)
    monkeypatch.setattr(Op, "quantised", lambda self, *places, **more: None)
    assert _objects(proto, rounded=True)


def test_integers_packed_two_to_a_byte_are_cut_one_by_one() -> None:
    proto = _case("DequantizeLinear-10-int4, opset 21")
    found = analyse(proto)
    plan = random_plan(found.coupling, np.random.default_rng(4), 0.4)
    pruned = prune(proto, plan)
    node = next(node for node in proto.graph.node if node.op_type == "DequantizeLinear")
    before, after = (
        next(tensor for tensor in model.graph.initializer if tensor.name == node.input[0])
        for model in (proto, pruned.proto)
    )
    kept = {item.channels: list(item.kept) for item in plan.groups}
    expected = numpy_helper.to_array(before)[kept[8]][:, kept[6]]
    assert after.data_type == TensorProto.INT4 and expected.dtype == ml_dtypes.int4
    assert len(after.raw_data) == -(-expected.size // 2)
    np.testing.assert_array_equal(numpy_helper.to_array(after).astype(np.int8), expected.astype(np.int8))


def test_packed_integers_beside_the_file(tmp_path: Path) -> None:
    """Rows of an odd number of integers of four bits, in a data file, and blocks of which the last is shorter."""
    net = Net(21)
    weights = [
        net.constant(net.rng.integers(-8, 8, shape), ml_dtypes.int4) for shape in ((16, 131), (131, 77), (77, 10))
    ]
    scales = [net.constant(0.1 + net.rng.random(shape), np.float32) for shape in ((131,), (), (3, 10))]
    numbers = [
        net.add("DequantizeLinear", weight, scale, **more)
        for weight, scale, more in zip(weights, scales, ({"axis": 1}, {}, {"axis": 0, "block_size": 32}), strict=True)
    ]
    hidden = net.input("n", 16)
    for kernel in numbers:
        hidden = net.add("Sigmoid", net.add("MatMul", hidden, kernel))
    onnx.save(net.done(hidden), tmp_path / "x.onnx", save_as_external_data=True, location="d", size_threshold=64)
    result = prune_plain(tmp_path / "x.onnx", ratio=0.4)
    assert result.report["validation"]["twin"]["passed"]
    for tensor in (tensor for tensor in result.model.graph.initializer if tensor.data_type == TensorProto.INT4):
        assert len(tensor.raw_data) == -(-int(np.prod(tensor.dims)) // 2)


# ---- from end to end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identifier", ["DequantizeLinear-10-everywhere", "QLinearConv-10-per channel", "DynamicQuantizeMatMul-per tensor"]
)
@pytest.mark.parametrize("method", ["l1", "coreset", "coreset-sampled"])
def test_pruned_from_end_to_end(identifier: str, method: str) -> None:
    proto = _case(identifier)
    result = prune_plain(proto, ratio=0.3, method=method, best_effort=True)
    twin = result.report["validation"]["twin"]
    assert twin["passed"] and twin["compared"] >= 2
    assert sum(weights_of(result.model)) < sum(weights_of(proto))
    for field in ("input", "output"):
        assert list(getattr(result.model.graph, field)) == list(getattr(proto.graph, field))


@pytest.mark.parametrize("operator", ["Quant", "BipolarQuant"])
def test_networks_of_some_bits_are_pruned_though_onnxruntime_cannot_run_them(operator: str) -> None:
    proto = _case(f"{operator}-per channel, onnx.brevitas")
    result = prune_plain(proto, ratio=0.3, best_effort=True)
    validation = result.report["validation"]
    assert validation["twin"]["passed"] and validation["unrounded"] and not validation["unproved"]
    assert [node.op_type for node in result.model.graph.node] == [node.op_type for node in proto.graph.node]


def test_quantised_inputs_are_drawn_over_their_range() -> None:
    net = Net(13)
    x = net.input(4, 64, kind=TensorProto.UINT8)
    hidden = net.add("DequantizeLinear", x, net.constant(0.02, np.float32), net.constant(128, np.uint8))
    found = analyse(net.done(net.dense(hidden, 6, 64)))
    drawn = random_feeds(found.index, found.shapes, np.random.default_rng(0))["x0"]
    assert drawn.dtype == np.uint8 and drawn.min() < 30 and drawn.max() > 220


def test_nothing_stands_in_for_what_is_not_known() -> None:
    node = helper.make_node("QLinearAdd", ["a", "s", "z", "b", "s", "z", "s", "z"], ["y"], domain="com.microsoft")
    assert infer_standin(node, {"a": (2, 3)}, {}) is None
    assert infer_standin(node, {"a": (2, 3), "b": (3,)}, {"a": TensorProto.INT8}) == ((2, 3), TensorProto.INT8)
    assert infer_standin(helper.make_node("Add", ["a", "b"], ["y"]), {"a": (2,), "b": (2,)}, {}) is None
