"""What is made plain before a network is looked at: it computes the same, more can go, and nothing else changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import FLAGS, Command, convolutional, perceptron, prune_plain
from forms import chosen, copy, other_floats, outlined, two_branches
from net import FLOAT, Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.calibrate.feeds import random_feeds
from onnxprune.errors import ValidationError
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.prepare import hoist, inline, weights
from onnxprune.prepare.plain import prepare
from onnxprune.rewrite import GroupPlan, Plan
from onnxprune.shapes.infer import infer_shapes


def runs(proto: ModelProto, feeds: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def feeds_of(proto: ModelProto) -> dict[str, NDArray[np.generic]]:
    model = io.from_proto(proto)
    index = Index(model.proto)
    return random_feeds(index, infer_shapes(index, model.skeleton()), np.random.default_rng(0))


def assert_same(first: ModelProto, second: ModelProto) -> None:
    feeds = feeds_of(first)
    for one, other in zip(runs(first, feeds), runs(second, feeds), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def plain(proto: ModelProto, **expected: int) -> ModelProto:
    """Make a copy plain: it computes the same, and what was done is as expected; a second time nothing is done."""
    model = io.from_proto(proto)
    found = prepare(model, can_open=lambda trial: True)
    assert {name: getattr(found, name) for name in expected} == expected
    assert bool(found) == any((found.functions, found.branches, found.weights, found.respelled, found.hoisted))
    assert_same(proto, model.proto)
    again = io.from_proto(model.proto)
    assert not prepare(again) and again.proto == model.proto
    return model.proto


def kept_whole(result: onnxprune.Result) -> Plan:
    groups = result.plan.groups
    return Plan("", tuple(GroupPlan(g.name, g.channels, tuple(range(g.channels))) for g in groups))


def sizes(proto: ModelProto) -> list[int]:
    return sorted(group["channels"] for group in onnxprune.inspect(proto)["groups"])


# ---- functions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [convolutional, perceptron])
@pytest.mark.parametrize("size", [1, 4])
def test_functions_are_no_obstacle(make: Callable[[], ModelProto], size: int) -> None:
    proto = make()
    called = outlined(proto, size)
    first, second = (prune_plain(each, ratio=0.4, best_effort=True) for each in (proto, called))
    assert [g.kept for g in first.plan.groups] == [g.kept for g in second.plan.groups]
    assert not second.model.functions and second.report["made_plain"]["functions"] == len(called.functions)
    assert {n.op_type for n in second.model.graph.node} == {n.op_type for n in proto.graph.node}
    assert second.model.opset_import == called.opset_import
    assert second.report["validation"]["unproved"] == first.report["validation"]["unproved"]
    assert_same(first.model, second.model)
    same = prune_plain(called, replay=kept_whole(second))
    assert same.model == called and not any(same.report["made_plain"].values())


def test_the_report_says_so(command: Command) -> None:
    path = command.put(outlined(perceptron(), 3))
    ran = command.done(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.4", "--best-effort")
    assert "local functions were inlined." in " ".join(ran.out.split())


FUNCTIONS = """<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
net (float[1,3,8,8] x, bool c) => (float[1,4,8,8] y)
<float[6,3,1,1] w, float[4,6,1,1] v, float[1] tmp>
{
  h_1 = Relu(x)
  h = local.block<k = 2, axis = 1>(h_1, w)
  r = If (c) <then_branch = yes () => (t) { t = local.act(h) }, else_branch = no () => (e) { e = Neg(h) }>
  same = local.pass(r)
  same_too, tmp_1 = local.twice(same, )
  y = local.block(tmp_1, v)
}
<domain: "local", opset_import: ["" : 18, "local" : 1]>
block <k: int = 3> (a, b) => (o) {
  tmp = Conv(a, b)
  z = local.act(tmp)
  q = Constant<value_int: int = @k>()
  r = Cast<to = 1>(q)
  o = Mul(z, r)
}
<domain: "local", opset_import: ["" : 18]>
act (a) => (o) {
  tmp = Relu(a)
  yes = Constant<value = bool {1}>()
  o = If (yes) <then_branch = one () => (m) { m = Sigmoid(tmp) }, else_branch = two () => (n) { n = Neg(a) }>
}
<domain: "local", opset_import: ["" : 18]>
pass (a) => (a) { unused = Neg(a) }
<domain: "local", opset_import: ["" : 18]>
twice (a, missing) => (o, o) { o = Clip(a, missing) }
"""


def _parsed() -> ModelProto:
    proto = onnx.parser.parse_model(FUNCTIONS)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (6, 3, 1, 1)), ("v", (4, 6, 1, 1))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    del proto.graph.value_info[:]
    return proto


def test_functions_of_every_kind() -> None:
    proto = _parsed()
    model = io.from_proto(proto)
    assert inline.inline_functions(model) == 4 and not model.proto.functions
    onnx.checker.check_model(model.proto, full_check=True)
    assert _integers(model.proto) == [2, 3]  # a given attribute, and one by default, which onnx's inliner loses
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    for which in (True, False):
        (found,) = runs(model.proto, feeds | {"c": np.array(which)})
        hidden = 2 / (1 + np.exp(-np.maximum(_conv(np.maximum(feeds["x"], 0), proto, "w"), 0)))
        between = 1 / (1 + np.exp(-np.maximum(hidden, 0))) if which else -hidden
        expected = 3 / (1 + np.exp(-np.maximum(_conv(between, proto, "v"), 0)))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def _integers(proto: ModelProto) -> list[int]:
    return [a.i for node in proto.graph.node for a in node.attribute if a.name == "value_int"]


def _conv(x: NDArray[np.float32], proto: ModelProto, name: str) -> NDArray[np.float32]:
    weight = next(numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == name)
    return np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x)


def _with_function(nodes: list[onnx.NodeProto], opset: int, *, name: str = "f", domain: str = "local") -> ModelProto:
    proto = perceptron()
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(domain, 1)]
    proto.functions.append(helper.make_function(domain, name, ["a"], ["o"], nodes, imports))
    proto.opset_import.append(helper.make_opsetid(domain, 1))
    place = next(k for k, node in enumerate(proto.graph.node) if node.op_type == "Relu")
    proto.graph.node[place].op_type, proto.graph.node[place].domain = name, domain
    proto.ir_version = 9
    return proto


@pytest.mark.parametrize(
    ("operator", "opset", "gone"), [("Relu", 14, 1), ("Relu", 13, 0), ("Softmax", 11, 0), ("Softmax", 13, 1)]
)
def test_a_function_of_another_operator_set(operator: str, opset: int, gone: int) -> None:
    """It is written out where its operators mean the same at the network's."""
    model = io.from_proto(_with_function([helper.make_node(operator, ["a"], ["o"])], opset))
    assert inline.inline_functions(model) == gone and len(model.proto.functions) == 1 - gone


def test_what_is_no_function_to_write_out() -> None:
    itself = _with_function([helper.make_node("f", ["a"], ["o"], domain="local")], 17)
    model = io.from_proto(itself)
    assert inline.inline_functions(model) == 0 and model.proto == itself
    known = _with_function([helper.make_node("Neg", ["a"], ["o"])], 17, name="Gelu", domain="com.microsoft")
    model = io.from_proto(known)
    assert inline.inline_functions(model, {("com.microsoft", "Gelu")}) == 0 and model.proto == known
    uncalled = perceptron()
    uncalled.functions.extend(_parsed().functions)
    model = io.from_proto(uncalled)
    assert inline.inline_functions(model) == 0 and model.proto == uncalled


def test_big_constants_of_functions_are_stored_once() -> None:
    net = Net()
    x = net.input(5, 64)
    value = numpy_helper.from_array(net.rng.standard_normal((64, 64)).astype(np.float32))
    body = [helper.make_node("Constant", [], ["w"], value=value), helper.make_node("MatMul", ["a", "w"], ["m"])]
    body.append(helper.make_node("Relu", ["m"], ["o"]))
    nodes = [helper.make_node("f", [x], ["h"], domain="local"), helper.make_node("f", ["h"], ["o"], domain="local")]
    graph = helper.make_graph(nodes, "g", net.inputs, [helper.make_tensor_value_info("o", FLOAT, [5, 64])])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "f", ["a"], ["o"], body, imports[:1])
    proto = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=9)
    made = plain(proto, functions=1, dropped=0)
    assert [list(tensor.dims) for tensor in made.graph.initializer] == [[64, 64]]


def test_functions_beside_external_data(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(outlined(convolutional(), 3), path, save_as_external_data=True, location="in.data", size_threshold=0)
    result = prune_plain(path, ratio=0.4)
    assert not result.model.functions and result.report["validation"]["twin"]["passed"]


# ---- branches that are always taken ---------------------------------------------------------------------------------


def _stored(value: bool) -> Callable[[Net, str], str]:
    return lambda net, hidden: net.constant(value, np.bool_)


def _sized(axis: int, size: int) -> Callable[[Net, str], str]:
    """As exporters write `squeeze`: is this axis as long as that?"""

    def condition(net: Net, hidden: str) -> str:
        length = net.add("Gather", net.add("Shape", hidden), net.constant(axis))
        return net.add("Equal", length, net.constant(size))

    return condition


@pytest.mark.parametrize(
    ("condition", "taken", "operators"),
    [
        (_stored(True), 1, ["Conv", "Relu", "Sigmoid", "Conv"]),
        (_stored(False), 1, ["Conv", "Conv", "Sigmoid", "Conv"]),
        (lambda net, hidden: net.constant_node(np.array([True])), 1, ["Conv", "Relu", "Sigmoid", "Conv"]),
        (_sized(1, 6), 1, ["Conv", "Relu", "Sigmoid", "Conv"]),
        (_sized(2, 1), 1, ["Conv", "Conv", "Sigmoid", "Conv"]),
        (_sized(0, 1), 0, []),
        (lambda net, hidden: net.input(kind=TensorProto.BOOL), 0, []),
    ],
)
def test_a_branch_that_is_always_taken(condition: Callable[[Net, str], str], taken: int, operators: list[str]) -> None:
    proto = two_branches(condition)
    model = io.from_proto(proto)
    assert prepare(model).branches == taken
    assert_same(proto, model.proto)
    assert [node.op_type for node in model.proto.graph.node] == operators or not taken
    if taken:
        result = prune_plain(proto, ratio=0.4, best_effort=True)
        assert result.report["groups"] and result.report["made_plain"]["branches"] == 1
    else:
        assert model.proto == proto


def test_a_condition_that_a_user_may_set_decides_nothing() -> None:
    proto = two_branches(_stored(True))
    name = next(node.input[0] for node in proto.graph.node if node.op_type == "If")
    proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.BOOL, []))
    model = io.from_proto(proto)
    assert not prepare(model) and model.proto == proto


# ---- branches laid open ---------------------------------------------------------------------------------------------


def _nested() -> ModelProto:
    inner = chosen(convolutional(seed=1), convolutional(seed=2), shared=False)
    inner.graph.input.pop()
    return chosen(inner, copy(inner), shared=False)


@pytest.mark.parametrize(
    ("proto", "ifs"),
    [
        (chosen(convolutional(seed=1), convolutional(seed=2), shared=False), 1),
        (chosen(convolutional(), convolutional(), shared=True), 1),
        (chosen(perceptron(hidden=12), perceptron(hidden=20, seed=1), shared=False), 1),
        (_nested(), 3),
    ],
    ids=["own weights", "shared weights", "other widths", "nested"],
)
def test_networks_in_branches(proto: ModelProto, ifs: int) -> None:
    model = io.from_proto(proto)
    opened = hoist.hoist(model)
    assert len(opened.ifs) == ifs and "If" not in {node.op_type for node in model.proto.graph.node}
    assert_same(proto, model.proto)
    hoist.lower(model, opened)
    assert model.proto == proto, "what was laid open and put back is as it was"
    result = prune_plain(proto, ratio=0.4)
    assert [node.op_type for node in result.model.graph.node] == ["If"]
    assert abs(result.report["achieved"]["params"] - 0.4) <= 0.01 and not result.report["validation"]["unproved"]
    onnx.checker.check_model(result.model, full_check=True)
    for which in (True, False):
        runs(result.model, feeds_of(proto) | {"which": np.array(which)})
    assert prune_plain(proto, replay=kept_whole(result)).model == proto


def test_channels_go_through_a_choice() -> None:
    proto = two_branches(lambda net, hidden: net.input(kind=TensorProto.BOOL))
    assert sizes(proto) == [6]
    result = prune_plain(proto, ratio=0.4)
    (node,) = [node for node in result.model.graph.node if node.op_type == "If"]
    assert [len(a.g.node) for a in node.attribute] == [1, 1]
    assert [len(a.g.initializer) for a in node.attribute if a.name == "else_branch"] == [1]


def test_a_branch_that_cannot_run_stays_closed() -> None:
    """Where it is not taken it may well be wrong."""
    proto = two_branches(lambda net, hidden: net.input(kind=TensorProto.BOOL))
    node = next(node for node in proto.graph.node if node.op_type == "If")
    graph = next(a.g for a in node.attribute if a.name == "else_branch")
    for name, shape in (("wrong", [7, 5]), ("right", [-1, 6, 4, 4])):
        graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
    graph.node[0].output[0] = "wide"
    graph.node.append(helper.make_node("Reshape", ["wide", "wrong"], ["narrow"]))
    graph.node.append(helper.make_node("Reshape", ["narrow", "right"], ["inner"]))
    assert "read by a subgraph" in {item["purpose"] for item in onnxprune.inspect(proto)["pinned"]}


# ---- views by strides -----------------------------------------------------------------------------------------------


def _strided(order: NDArray[np.int64]) -> ModelProto:
    """A mean over positions, flattened and looked up by numbers b · 8 + c, as torch.export writes a view by strides."""
    net = Net()
    x = net.input("n", 3, 4, 4)
    mean = net.add("ReduceMean", net.add("Relu", net.conv(x, 8, 3)), axes=[2, 3], keepdims=1)
    batch = net.add("Squeeze", net.add("Shape", x, start=0, end=1))
    rows = net.add("Mul", net.add("Range", net.constant(0), batch, net.constant(1)), net.constant(8))
    numbers = net.add(
        "Add", net.add("Unsqueeze", rows, net.constant([1, 2, 3])), net.constant(order.reshape(1, 8, 1, 1))
    )
    flat = net.add("Reshape", mean, net.constant([-1]))
    return net.done(net.gemm(net.add("Flatten", net.add("Gather", flat, numbers, axis=0)), 2, 8))


def test_what_is_taken_in_order_is_a_view() -> None:
    proto = _strided(np.arange(8))
    made = plain(proto)
    assert [node.op_type for node in made.graph.node] == [
        "Conv",
        "Relu",
        "ReduceMean",
        "Reshape",
        "Reshape",
        "Flatten",
        "Gemm",
    ]
    assert sizes(proto) == [8]
    assert prune_plain(proto, ratio=0.48).report["validation"]["twin"]["passed"]


def test_stored_numbers_may_be_in_order_too() -> None:
    net = Net()
    mean = net.add("GlobalAveragePool", net.add("Relu", net.conv(net.input(2, 3, 4, 4), 8, 3)))
    taken = net.add("Gather", net.add("Reshape", mean, net.constant([-1])), net.constant(np.arange(16).reshape(2, 8)))
    proto = net.done(net.gemm(taken, 2, 8))
    made = plain(proto)
    assert [node.op_type for node in made.graph.node] == [
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Reshape",
        "Reshape",
        "Gemm",
    ]
    assert sizes(proto) == [8]


@pytest.mark.parametrize("order", [np.arange(8)[::-1], np.zeros(8, dtype=np.int64)])
def test_what_is_taken_in_another_order_is_none(order: NDArray[np.int64]) -> None:
    proto = _strided(order)
    model = io.from_proto(proto)
    assert not prepare(model) and model.proto == proto
    assert sizes(proto) == []


# ---- weights that are computed --------------------------------------------------------------------------------------


def _computed(make: Callable[[Net, int, int], str], *, made: int = 12) -> ModelProto:
    """Two convolutions whose weights are computed, and a plain one."""
    net = Net(17)
    x = net.input("n", 3, 4, 4)
    first = net.add("Relu", net.add("Conv", x, make(net, made, 3), net.weight(made)))
    second = net.add("Relu", net.add("Conv", first, make(net, made, made), net.weight(made)))
    return net.done(net.conv(second, 4, made))


def _standardised(net: Net, made: int, read: int) -> str:
    weight = net.weight(made, read, 1, 1)
    centred = net.add("Sub", weight, net.add("ReduceMean", weight, axes=[1, 2, 3]))
    variance = net.add("ReduceMean", net.add("Mul", centred, centred), axes=[1, 2, 3])
    deviation = net.add("Sqrt", net.add("Add", variance, net.add("Constant", value_float=1e-5)))
    return net.add("Div", centred, deviation)


def _normalised(net: Net, made: int, read: int) -> str:
    """As batch normalisation in training mode over a weight is exported."""
    flat = net.add("Reshape", net.weight(made, read, 1, 1), net.constant([1, made, read]))
    mean = net.add("ReduceMean", flat, axes=[0, 2], keepdims=0)
    centred = net.add("Sub", flat, net.add("ReduceMean", flat, axes=[0, 2]))
    variance = net.add("ReduceMean", net.add("Mul", centred, centred), axes=[0, 2], keepdims=0)
    zero = net.constant(np.zeros(made), np.float32)
    normal = net.add("BatchNormalization", flat, net.weight(made), zero, mean, variance)
    return net.add("Reshape", normal, net.constant([made, read, 1, 1]))


def _spectral(net: Net, made: int, read: int) -> str:
    weight = net.weight(made, read)
    norm = net.add("MatMul", net.weight(1, made), net.add("MatMul", weight, net.weight(read, 1)))
    return net.add("Reshape", net.add("Div", weight, norm), net.constant([made, read, 1, 1]))


def _merged(net: Net, made: int, read: int) -> str:
    """W + B·A."""
    small = net.add("MatMul", net.weight(made, 2), net.weight(2, read))
    return net.add("Reshape", net.add("Add", net.weight(made, read), small), net.constant([made, read, 1, 1]))


@pytest.mark.parametrize("make", [_standardised, _normalised, _spectral, _merged])
def test_weights_are_computed_once(make: Callable[[Net, int, int], str]) -> None:
    proto = _computed(make)
    made = plain(proto, weights=2)
    assert [node.op_type for node in made.graph.node] == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert {n for node in made.graph.node for n in node.input[1:]} == {tensor.name for tensor in made.graph.initializer}
    assert sizes(proto) == [12, 12]
    result = prune_plain(proto, ratio=0.4)
    assert result.report["made_plain"]["weights"] == 2 and abs(result.report["achieved"]["params"] - 0.4) <= 0.01


def test_numbers_are_put_into_a_bias_once() -> None:
    """As where the bias of keys stays zero: a third of one for all three is set."""
    net = Net(17)
    hidden = net.dense(net.input("n", 3), 12, 3)
    places = net.constant(np.arange(4, 8)[:, None])
    zeros = net.add("Expand", net.constant(0.0, np.float32), net.constant([4]))
    bias = net.add("ScatterND", net.weight(12), places, zeros)
    proto = net.done(net.dense(net.add("Tanh", net.add("Add", bias, hidden)), 2, 12))
    made = plain(proto, weights=1)
    assert [node.op_type for node in made.graph.node] == ["MatMul", "Add", "Tanh", "MatMul"]
    assert sizes(proto) == [12]


def _scaled(net: Net, made: int, read: int) -> str:
    return net.add("Mul", net.weight(made, read, 1, 1), net.weight(made, 1, 1, 1))


def _low_rank(net: Net, made: int, read: int) -> str:
    """It takes more room than what it is made from."""
    weight = net.add("MatMul", net.weight(made, 1), net.weight(1, read))
    return net.add("Reshape", weight, net.constant([made, read, 1, 1]))


def _noisy(net: Net, made: int, read: int) -> str:
    weight = net.weight(made, read, 1, 1)
    mean = net.add("ReduceMean", weight, axes=[1])
    return net.add("Add", net.add("Mul", weight, mean), net.add("RandomNormalLike", weight, seed=1.0))


@pytest.mark.parametrize("make", [_scaled, _low_rank, _noisy])
def test_weights_that_stay_computed(make: Callable[[Net, int, int], str]) -> None:
    proto = _computed(make)
    model = io.from_proto(proto)
    assert not prepare(model) and model.proto == proto


def test_a_weight_that_others_read_stays_too() -> None:
    proto = _computed(_standardised)
    shared = next(tensor.name for tensor in proto.graph.initializer if len(tensor.dims) == 4)
    proto.graph.node.append(helper.make_node("Identity", [shared], ["handed_out"]))
    proto.graph.output.append(helper.make_tensor_value_info("handed_out", FLOAT, None))
    model = io.from_proto(proto)
    assert prepare(model).weights == 1
    assert shared in {tensor.name for tensor in model.proto.graph.initializer}


@pytest.mark.parametrize("resident", [0, 1 << 28])
def test_computed_weights_of_a_network_on_disk(tmp_path: Path, resident: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "RESIDENT", resident)
    proto, path = _computed(_standardised, made=48), tmp_path / "in.onnx"
    onnx.save(copy(proto), path, save_as_external_data=True, location="in.data", size_threshold=0)
    first, second = prune_plain(path, ratio=0.4), prune_plain(proto, ratio=0.4)
    assert first.report["validation"]["twin"]["passed"]
    assert_same(first.model, second.model)


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_computed_weights_of_other_types(kind: int) -> None:
    net = Net(17)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    x = net.input(5, 8, kind=kind)
    weight = net.constant(net.rng.standard_normal((8, 200)), dtype)
    centred = net.add("Sub", weight, net.add("ReduceMean", weight, axes=[0]))
    hidden = net.add("Relu", net.add("MatMul", x, centred))
    proto = net.done(net.add("MatMul", hidden, net.constant(net.rng.standard_normal((200, 4)), dtype)))
    model = io.from_proto(proto)
    assert prepare(model).weights == 1
    assert {tensor.data_type for tensor in model.proto.graph.initializer} == {kind}


@pytest.mark.parametrize("make", [_standardised, _spectral])
@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_a_network_of_another_type_whose_weights_are_computed(make: Callable[[Net, int, int], str], kind: int) -> None:
    proto = other_floats(_computed(make, made=40), kind)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value_float":
                value = np.asarray(attribute.f, helper.tensor_dtype_to_np_dtype(kind))
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
    result = prune_plain(proto, ratio=0.4)
    assert result.report["made_plain"]["weights"] == 2 and result.report["validation"]["twin"]["passed"]
    assert not result.report["validation"]["unproved"]


# ---- the proof of it ------------------------------------------------------------------------------------------------


def test_a_fault_in_it_is_seen(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = _computed(_standardised)
    right = weights._Part.values
    monkeypatch.setattr(weights._Part, "values", lambda part: {n: v * np.float32(1.01) for n, v in right(part).items()})
    with pytest.raises(ValidationError, match="computes something else"):
        prune_plain(proto, ratio=0.4)
    path = command.put(proto)
    before = command.tree()
    assert command(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.4").code == 3 and command.tree() == before
