"""Files in odd but legal forms: each is pruned as its plain sister is, and the result runs."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from doors import FLAGS, Command, prune_plain
from forms import copy, other_floats, sparse
from net import FLOAT, Net
from onnx import ModelProto, TensorProto, helper, numpy_helper
from oracle import assert_sound

import onnxprune
from onnxprune.analysis import analyse
from onnxprune.graph import io
from onnxprune.graph.index import weights_of
from onnxprune.prepare.precision import has_other_floats, rounded, widen, widened_shapes
from onnxprune.shapes.infer import infer_shapes

Middle = Callable[[Net, str], str]
Edit = Callable[[ModelProto], object]


def chain(middle: Middle = lambda net, hidden: hidden, *, opset: int = 17, ir: int = 8) -> ModelProto:
    """A convolution, something, Relu, a convolution."""
    net = Net(opset, ir=ir)
    hidden = middle(net, net.conv(net.input("n", 3, 8, 8), 12, 3))
    return net.done(net.conv(net.add("Relu", hidden), 4, 12))


def assert_pruned(proto: ModelProto, *, groups: list[int] | None = None) -> onnxprune.Result:
    """Prune a network, which is left as it is; the result is proved, and onnxruntime takes it."""
    before = copy(proto)
    result = prune_plain(proto, ratio=0.4, best_effort=True)
    assert proto == before
    assert [group["channels"] for group in result.report["groups"]] == ([12] if groups is None else groups)
    assert result.report["validation"]["twin"]["passed"] and not result.report["validation"]["unproved"]
    assert result.report["achieved"]["params"] > 0.3
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    onnxruntime.InferenceSession(result.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert _signature(result.model) == _signature(proto)
    return result


def _signature(proto: ModelProto) -> tuple[object, ...]:
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value.SerializeToString() for value in proto.graph.input if value.name not in stored]
    outputs = [value.SerializeToString() for value in proto.graph.output]
    imports = [(item.domain, item.version) for item in proto.opset_import]
    return inputs, outputs, imports, proto.ir_version, proto.graph.name, proto.doc_string


# ---- operator sets and IR versions ----------------------------------------------------------------------------------


def _normalised(net: Net, hidden: str) -> str:
    positive = net.constant(np.ones(12), np.float32)
    return net.add("BatchNormalization", hidden, net.weight(12), net.weight(12), net.weight(12), positive)


@pytest.mark.parametrize(
    ("opset", "ir"), [(7, 3), (8, 3), (9, 3), (9, 4), (10, 5), (11, 6), (12, 7), (13, 8), (18, 8), (21, 10), (26, 11)]
)
def test_every_age(opset: int, ir: int) -> None:
    proto = chain(_normalised, opset=opset, ir=ir)
    result = assert_pruned(proto)
    if ir < 4:
        stored = {tensor.name: list(tensor.dims) for tensor in result.model.graph.initializer}
        declared = {v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in result.model.graph.input}
        assert {name: declared[name] for name in stored} == stored


@pytest.mark.parametrize(("opset", "size"), [(18, 4), (20, 4), (21, 12)])
def test_group_normalization(opset: int, size: int) -> None:
    """Of which onnx's checker says that it is deprecated before 21."""
    proto = chain(
        lambda net, h: net.add("GroupNormalization", h, net.weight(size), net.weight(size), num_groups=4), opset=opset
    )
    assert_pruned(proto, groups=[4])


# ---- spellings ------------------------------------------------------------------------------------------------------


def _unshaped(proto: ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.ClearField("shape")


def _written_domain(proto: ModelProto) -> None:
    for node in proto.graph.node:
        node.domain = "ai.onnx"


def _both_domains(proto: ModelProto) -> None:
    _written_domain(proto)
    proto.opset_import[0].domain = "ai.onnx"


def _reversed(proto: ModelProto) -> None:
    nodes = list(copy(proto).graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))


def _nameless(proto: ModelProto) -> None:
    for node in proto.graph.node:
        node.name = ""


def _odd_names(proto: ModelProto) -> None:
    def odd(name: str) -> str:
        return f"α/:{name} [x]%" if name else name

    for node in proto.graph.node:
        node.name = odd(node.name)
        node.input[:], node.output[:] = map(odd, node.input), map(odd, node.output)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = odd(value.name)


def _strings(proto: ModelProto) -> None:
    proto.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [2], [b"cat", b"dog"]))
    proto.graph.node.append(helper.make_node("Identity", ["names"], ["labels"]))
    proto.graph.output.append(helper.make_tensor_value_info("labels", TensorProto.STRING, [2]))


def _input_handed_out(proto: ModelProto) -> None:
    proto.graph.output.append(proto.graph.input[0])


def _noted(name: str, *sizes: int | str) -> Edit:
    return lambda proto: proto.graph.value_info.append(helper.make_tensor_value_info(name, FLOAT, list(sizes)))


def _inputs_stored(proto: ModelProto) -> None:
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, FLOAT, list(tensor.dims)))


def _spelled_as_floats(proto: ModelProto) -> None:
    for tensor in proto.graph.initializer:
        value = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(value.ravel().tolist())


def _constants(proto: ModelProto) -> None:
    """Weights in nodes, vectors as lists of floats."""
    graph = proto.graph
    nodes = list(copy(proto).graph.node)
    del graph.node[:]
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        spelled = {"value_floats": value.tolist()} if value.ndim == 1 else {"value": tensor}
        graph.node.append(helper.make_node("Constant", [], [tensor.name], **spelled))
    graph.node.extend(nodes)
    graph.ClearField("initializer")


EDITS: dict[str, Edit] = {
    "output without a shape": _unshaped,
    "output without a type": lambda proto: proto.graph.output[0].ClearField("type"),
    "ai.onnx on nodes": _written_domain,
    "ai.onnx on nodes and import": _both_domains,
    "ai.onnx in the import": lambda proto: setattr(proto.opset_import[0], "domain", "ai.onnx"),
    "two imports of one domain": lambda proto: proto.opset_import.add(domain="ai.onnx", version=17),
    "unused import": lambda proto: proto.opset_import.add(domain="acme", version=3),
    "nodes in any order": _reversed,
    "nodes without names": _nameless,
    "graph without a name": lambda proto: proto.graph.ClearField("name"),
    "odd names": _odd_names,
    "no producer": lambda proto: proto.ClearField("producer_name"),
    "unused input": lambda proto: proto.graph.input.append(
        helper.make_tensor_value_info("more", TensorProto.INT64, [2])
    ),
    "input as an output": _input_handed_out,
    "an output twice": lambda proto: proto.graph.output.append(proto.graph.output[0]),
    "strings": _strings,
    "initializers as inputs": _inputs_stored,
    "float_data": _spelled_as_floats,
    "constants": _constants,
    "note of nothing": _noted("nowhere", 3),
    "note without a type": lambda proto: proto.graph.value_info.add(name=proto.graph.node[0].output[0]),
    "dead end": lambda proto: proto.graph.node.append(
        helper.make_node("Neg", [proto.graph.node[0].output[0]], ["dead"])
    ),
    "input without a rank": lambda proto: proto.graph.input[0].type.tensor_type.ClearField("shape"),
    "negative size": lambda proto: setattr(proto.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -1),
    "sizes without names": lambda proto: proto.graph.input[0].type.tensor_type.shape.dim[0].Clear(),
    "symbolic channels": lambda proto: setattr(
        proto.graph.input[0].type.tensor_type.shape.dim[1], "dim_param", "channels"
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_odd_files(name: str) -> None:
    proto = chain()
    EDITS[name](proto)
    assert_pruned(proto)


def _bare(net: Net, operator: str, *inputs: str, outputs: list[str]) -> str:
    net.nodes.append(helper.make_node(operator, list(inputs), outputs, name=f"{operator}{len(net.nodes)}"))
    return outputs[0]


MIDDLES: dict[str, tuple[Middle, int]] = {
    "empty output": (lambda net, h: _bare(net, "Dropout", h, outputs=["kept", ""]), 17),
    "empty inputs": (lambda net, h: net.add("Clip", h, "", ""), 17),
    "an empty input between": (lambda net, h: net.add("Clip", h, "", net.constant(6, np.float32)), 17),
    "tensors without elements": (
        lambda net, h: net.add(
            "Resize", h, net.constant(np.zeros(0), np.float32), net.constant([1, 1, 2, 2], np.float32)
        ),
        17,
    ),
    "scalar": (lambda net, h: net.add("Mul", h, net.constant(2.0, np.float32)), 17),
    "one element": (lambda net, h: net.add("Mul", h, net.constant([2.0], np.float32)), 17),
    "value_float": (lambda net, h: net.add("Mul", h, net.add("Constant", value_float=2.0)), 17),
    "value_ints": (lambda net, h: net.add("Reshape", h, net.add("Constant", value_ints=[-1, 12, 8, 8])), 17),
    "the same twice": (lambda net, h: net.add("Add", h, h), 17),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_odd_nodes(name: str) -> None:
    middle, opset = MIDDLES[name]
    assert_pruned(chain(middle, opset=opset))


def test_outputs_that_nobody_reads_need_no_shape() -> None:
    proto = chain(lambda net, h: net.many("BatchNormalization", 5, h, *(net.weight(12) for _ in range(4)))[0], opset=9)
    assert analyse(io.from_proto(proto)).sizes.tolist() == [12]


def test_a_cycle_is_no_network() -> None:
    proto = chain()
    proto.graph.node[0].input[0] = proto.graph.node[1].output[0]
    with pytest.raises(onnxprune.ModelError, match="not a valid ONNX network"):
        prune_plain(proto, ratio=0.4)


# ---- signatures -----------------------------------------------------------------------------------------------------


def test_a_sequence_as_an_input() -> None:
    proto = chain()
    proto.graph.input.append(helper.make_tensor_sequence_value_info("many", FLOAT, None))
    proto.graph.node.append(helper.make_node("SequenceLength", ["many"], ["count"]))
    proto.graph.output.append(helper.make_tensor_value_info("count", TensorProto.INT64, []))
    assert_pruned(proto)


def test_a_sequence_as_an_output() -> None:
    proto = chain()
    proto.graph.node.append(helper.make_node("SequenceConstruct", [proto.graph.output[0].name], ["many"]))
    proto.graph.output.append(helper.make_tensor_sequence_value_info("many", FLOAT, None))
    assert_pruned(proto)


def test_an_optional_input() -> None:
    proto = chain(opset=18)
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    proto.graph.input.append(helper.make_value_info("perhaps", kind))
    proto.graph.node.append(helper.make_node("OptionalHasElement", ["perhaps"], ["there"]))
    proto.graph.output.append(helper.make_tensor_value_info("there", TensorProto.BOOL, []))
    assert_pruned(proto)


def test_a_shape_for_an_input_without_a_rank() -> None:
    """Its sizes may be others at run time: none of them is static."""
    net = Net()
    hidden = net.add("Relu", net.dense(net.input(5, 6, 3), 8, 3))
    proto = net.done(net.dense(hidden, 4, 8))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    shapes = analyse(io.from_proto(proto)).shapes
    assert shapes.inputs == {"x0": (1, 3)}
    model = io.from_proto(proto)
    given = infer_shapes(analyse(model).index, model.skeleton(), {"x0": (5, 6, 3)})
    assert given.inputs == {"x0": (5, 6, 3)} and not any(given.static["x0"][:2])
    result = prune_plain(proto, ratio=0.4, best_effort=True, input_shapes={"x0": (5, 6, 3)})
    assert result.report["groups"][0]["channels"] == 8


def _siamese(*, joined: bool) -> ModelProto:
    net = Net()
    first, second = net.input("n", 3, 4, 4), net.input("n", 3, 4, 4)
    weights = net.weight(12, 3, 1, 1), net.weight(12)
    branches = [net.add("Relu", net.add("Conv", x, *weights)) for x in (first, second)]
    both = net.add("Concat", *branches, axis=1) if joined else net.add("Sub", *branches)
    return net.done(net.conv(net.add("Relu", both), 4, 24 if joined else 12))


@pytest.mark.parametrize("joined", [False, True])
def test_a_weight_that_two_branches_share_stays_shared(joined: bool) -> None:
    proto = _siamese(joined=joined)
    assert_sound(proto, np.random.default_rng(0))
    result = assert_pruned(proto)
    assert len(result.model.graph.initializer) == len(proto.graph.initializer)


# ---- sparse tensors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("node", [False, True])
def test_sparse_weights(share: float, node: bool) -> None:
    """They are sparse again where that is smaller."""
    net = Net()
    hidden = net.add("Relu", net.dense(net.input("n", 64), 48, 64))
    proto = net.done(net.dense(hidden, 10, 48))
    dense = copy(proto)
    value, values, places = sparse(proto.graph.initializer[0], share)
    dense.graph.initializer[0].CopyFrom(numpy_helper.from_array(value, values.name))
    del proto.graph.initializer[0]
    tensor = helper.make_sparse_tensor(values, places, list(value.shape))
    if node:
        values.name = ""
        tensor = helper.make_sparse_tensor(values, places, list(value.shape))
        name = dense.graph.initializer[0].name
        proto.graph.node.insert(0, helper.make_node("Constant", [], [name], sparse_value=tensor))
    else:
        proto.graph.sparse_initializer.append(tensor)
    assert sum(weights_of(proto)) == sum(weights_of(dense))
    first, second = (prune_plain(each, ratio=0.4) for each in (proto, dense))
    assert [g.kept for g in first.plan.groups] == [g.kept for g in second.plan.groups]
    assert first.report["achieved"] == second.report["achieved"]
    written = len(first.model.graph.sparse_initializer) + sum(
        attribute.name == "sparse_value" for item in first.model.graph.node for attribute in item.attribute
    )
    assert written == (share > 0.5)


# ---- element types --------------------------------------------------------------------------------------------------


def _attention() -> ModelProto:
    """A product of activations scaled by 1/√d, where d is counted."""
    net = Net()
    x = net.input("n", 5, 8)
    query, key = net.dense(x, 6, 8), net.dense(x, 6, 8)
    count = net.add("Gather", net.add("Shape", query), net.constant(2))
    root = net.add("Sqrt", net.add("Cast", count, to=FLOAT))
    product = net.add("MatMul", net.add("Div", query, root), net.add("Transpose", key, perm=[0, 2, 1]))
    return net.done(net.add("MatMul", product, net.dense(x, 4, 8)))


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT16])
@pytest.mark.parametrize("make", [chain, _attention])
def test_other_floats(make: Callable[[], ModelProto], kind: int) -> None:
    proto = other_floats(make(), kind)
    result = prune_plain(proto, ratio=0.3, best_effort=True)
    validation = result.report["validation"]
    assert result.report["groups"] and validation["twin"]["passed"]
    floats = {tensor.data_type for tensor in result.model.graph.initializer} - {TensorProto.INT64}
    assert floats == {kind}
    convolved = any(node.op_type == "Conv" for node in proto.graph.node)
    if kind == TensorProto.BFLOAT16 or (kind == TensorProto.DOUBLE and convolved):
        assert validation["widened"] and validation["twin"]["tolerance"] == 1e-5


def test_the_report_says_in_which_type_it_was_proved(command: Command) -> None:
    path = command.put(other_floats(chain(), TensorProto.BFLOAT16))
    ran = command.done(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.4", "--best-effort")
    assert "proved in float32" in " ".join(ran.out.split())


@pytest.mark.parametrize("method", ["l1", "coreset-sampled"])
def test_what_is_rounded_to_a_coarse_type(method: str) -> None:
    """Means over fewer channels, and readers' factors, are as exact as the type of the file."""
    net = Net(18)
    hidden = net.add("Relu", net.conv(net.input(2, 3, 8, 8), 16, 3))
    mean = net.add("ReduceMean", hidden, net.constant([1]), keepdims=1)
    gated = net.add("Mul", net.add("Relu", net.conv(hidden, 12, 16)), mean)
    proto = other_floats(net.done(net.conv(gated, 4, 12)), TensorProto.BFLOAT16)
    result = prune_plain(proto, ratio=0.5, method=method, best_effort=True)
    twin = result.report["validation"]["twin"]
    assert twin["passed"] and twin["tolerance"] == 4e-2


def test_everything_is_widened() -> None:
    proto = other_floats(_attention(), TensorProto.DOUBLE)
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.DOUBLE, None)
    proto.graph.value_info.append(sequence)
    shape = helper.make_node(
        "ConstantOfShape", ["r"], ["z"], value=helper.make_tensor("", TensorProto.DOUBLE, [1], [2])
    )
    inner = helper.make_graph(
        [shape, helper.make_node("Cast", ["z"], ["y"], to=TensorProto.DOUBLE)],
        "inner",
        [],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(np.array([2]), "r")],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    proto.graph.initializer.append(yes)
    proto.graph.node.append(helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner))
    model = io.from_proto(proto)
    shapes = analyse(io.from_proto(other_floats(_attention(), TensorProto.DOUBLE))).shapes
    held = rounded(shapes)
    assert [value.item() for value in held.values()] == pytest.approx([6.0, np.sqrt(6.0)])
    widen(model, None, held)
    assert not has_other_floats(model.proto) and b"\x08\x0b" not in model.proto.graph.value_info[-1].SerializeToString()
    assert "11" not in {str(a.i) for node in model.proto.graph.node for a in node.attribute}
    assert TensorProto.DOUBLE not in widened_shapes(shapes).types.values()
    onnxruntime.InferenceSession(model.materialise().SerializeToString(), providers=["CPUExecutionProvider"])


def test_what_is_finite_stays_so() -> None:
    net = Net()
    big = net.constant([1e300, -1e300, np.inf], np.float64)
    proto = net.done(net.add("Mul", net.input(3, kind=TensorProto.DOUBLE), big))
    model = io.from_proto(proto)
    widen(model)
    (value,) = (numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer)
    limit = np.finfo(np.float32).max
    np.testing.assert_array_equal(value, np.array([limit, -limit, np.inf], np.float32))


# ---- shapes of what subgraphs make ----------------------------------------------------------------------------------


def _looped(*, stored: bool) -> ModelProto:
    """A Loop that carries a picture; its body's weight is its own, or one around it."""
    net = Net()
    hidden = net.add("Relu", net.conv(net.input("n", 3, 4, 4), 12, 3))
    carried = net.add("Relu", net.conv(hidden, 8, 12))
    weight = net.weight(8, 8, 1, 1, name="weight")
    own = numpy_helper.to_array(net.initializers[-1])
    if stored:
        net.initializers.pop()
    nodes = [
        helper.make_node("Conv", ["s", weight], ["turned"]),
        helper.make_node("Add", ["turned", carried], ["next"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    inputs = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("s", FLOAT, None)]
    body = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)],
        [numpy_helper.from_array(own, "weight")] if stored else [],
    )
    looped = net.add("Loop", net.constant(2), net.constant(True, np.bool_), carried, body=body)
    return net.done(net.conv(net.add("Relu", net.conv(looped, 10, 8)), 4, 10))


@pytest.mark.parametrize("stored", [False, True])
def test_a_loop_keeps_what_it_reads_and_nothing_else(stored: bool) -> None:
    result = assert_pruned(_looped(stored=stored), groups=[12, 10])
    assert {item["purpose"] for item in result.report["pinned"]} >= {"read by a subgraph"}
