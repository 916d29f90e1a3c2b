"""States that are handed out and back: units behind them go, the signature stays, and a stream of steps runs on."""

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import Command, half, prune_plain, signature
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

import onnxprune
from onnxprune.errors import RefusedError

UNITS, READ, STEPS = 12, 5, 6
STATE = "state:next"


def renamed(proto: ModelProto, names: dict[str, str]) -> ModelProto:
    """Give the network's outputs names of their own."""
    graph = proto.graph
    for values in (*(node.input for node in graph.node), *(node.output for node in graph.node)):
        values[:] = [names.get(name, name) for name in values]
    for value in graph.output:
        value.name = names.get(value.name, value.name)
    return proto


def cell(opset: int = 17, batch: int | str = 2) -> ModelProto:
    """One step of h' = tanh(W x + R h), y = V h', spelled out."""
    net = Net(opset)
    x, state = net.input(batch, READ), net.input(batch, UNITS, name="state")
    sums = net.add("Add", net.gemm(x, UNITS, READ), net.dense(state, UNITS, UNITS))
    made = net.add("Tanh", sums)
    y = net.gemm(made, 3, UNITS)
    return renamed(net.done(y, made), {made: "next", y: "y"})


def layer(operator: str) -> ModelProto:
    """One step of a recurrent layer."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    net = Net()
    names = ["state", "cell"][: 2 if operator == "LSTM" else 1]
    x = net.input(1, 2, READ)
    shapes = (gates * UNITS, READ), (gates * UNITS, UNITS), (2 * gates * UNITS,)
    weights = [net.weight(1, *shape) for shape in shapes]
    states = [net.input(1, 2, UNITS, name=name) for name in names]
    made = net.many(operator, 1 + len(names), x, *weights, "", *states, hidden_size=UNITS)
    y = net.dense(net.add("Relu", made[0]), 3, UNITS)
    proto = net.done(y, *made[1:])
    return renamed(proto, {y: "y", **dict(zip(made[1:], ("next", "next:cell"), strict=False))})


def cached() -> ModelProto:
    """A causal convolution over 8 channels, whose last two positions are handed on."""
    net = Net()
    x, state = net.input(1, 3, 4), net.input(1, 8, 2, name="state")
    inner = net.add("Relu", net.conv(x, 8, 3, kernel=(1,)))
    both = net.add("Concat", state, inner, axis=2)
    y = net.conv(both, 4, 8, kernel=(3,))
    last = net.add("Slice", both, net.constant([-2]), net.constant([1 << 30]), net.constant([2]))
    return renamed(net.done(y, last), {y: "y", last: "next"})


def run(proto: ModelProto, feeds: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def weights(proto: ModelProto) -> dict[tuple[int, ...], NDArray[np.float64]]:
    found = map(numpy_helper.to_array, proto.graph.initializer)
    return {array.shape: array.astype(np.float64) for array in found}


@pytest.mark.parametrize("opset", [8, 17])
@pytest.mark.parametrize("batch", [2, "n"])
def test_a_stream_is_that_of_the_smaller_cell(opset: int, batch: int | str) -> None:
    """Step by step with its states handed back, the pruned network is the cell of the kept units, written by hand."""
    proto = cell(opset, batch)
    result = prune_plain(proto, ratio=0.4, best_effort=True, state=STATE)
    pruned, old = result.model, weights(proto)
    assert signature(pruned) == signature(proto)
    (group,) = result.plan.groups
    kept = np.array(group.kept)
    assert 0 < len(kept) < UNITS
    biases = [array for tensor in proto.graph.initializer if (array := numpy_helper.to_array(tensor)).ndim == 1]
    state, inner = np.zeros((2, UNITS), np.float32), np.zeros((2, len(kept)))
    for step in range(STEPS):
        x = np.random.default_rng(step).standard_normal((2, READ)).astype(np.float32)
        found = run(pruned, {"x0": x, "state": state})
        sums = x @ old[READ, UNITS][:, kept] + biases[0][kept] + inner @ old[UNITS, UNITS][np.ix_(kept, kept)]
        inner, state = np.tanh(sums), found["next"]
        np.testing.assert_allclose(found["y"], inner @ old[UNITS, 3][kept] + biases[1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(state[:, kept], inner, rtol=1e-4, atol=1e-4)
        assert not np.delete(state, kept, axis=1).any()


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(operator: str) -> None:
    proto = layer(operator)
    states = [STATE, "cell:next:cell"][: len(proto.graph.input) - 1]
    result = prune_plain(proto, ratio=0.4, best_effort=True, state=states)
    assert signature(result.model) == signature(proto)
    assert result.report["validation"]["twin"]["passed"]
    kept = np.array(result.plan.groups[0].kept)
    feeds = {
        value.name: np.random.default_rng(0)
        .standard_normal([dim.dim_value for dim in value.type.tensor_type.shape.dim])
        .astype(np.float32)
        for value in proto.graph.input
    }
    found = run(result.model, feeds)
    changed = {name: np.where(np.isin(np.arange(UNITS), kept), feed, 7) for name, feed in feeds.items() if name != "x0"}
    again = run(result.model, {**feeds, **{name: feed.astype(np.float32) for name, feed in changed.items()}})
    for name in found:
        np.testing.assert_array_equal(found[name], again[name])
        assert name == "y" or not np.delete(found[name], kept, axis=2).any()


def test_what_a_convolution_remembers() -> None:
    proto = cached()
    result = prune_plain(proto, ratio=0.4, best_effort=True, state=STATE)
    assert signature(result.model) == signature(proto)
    assert [(group["channels"], group["kept"] < 8) for group in result.report["groups"]] == [(8, True)]


def test_types_are_kept() -> None:
    proto = half(cell())
    result = prune_plain(proto, ratio=0.4, best_effort=True, state=STATE)
    onnx.checker.check_model(result.model, full_check=True)
    assert signature(result.model) == signature(proto)


@pytest.mark.parametrize("named", ["", "state:y", "x0:next", "x0:y"])
def test_what_is_no_state_stays(named: str) -> None:
    """What does not come in where it went out pins as ever."""
    facts = onnxprune.inspect(cell(), state=[named] if named else [])
    assert not facts["groups"]
    assert {item["purpose"] for item in facts["pinned"]} <= {"graph input", "graph output"}


def test_a_state_that_a_subgraph_reads_stays() -> None:
    proto = cell()
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["state"], ["inside"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("inside", TensorProto.FLOAT, [2, UNITS])],
    )
    flag = onnx.helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    proto.graph.input.append(flag)
    proto.graph.node.append(onnx.helper.make_node("If", ["flag"], ["shown"], then_branch=inner, else_branch=inner))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("shown", TensorProto.FLOAT, [2, UNITS]))
    assert not onnxprune.inspect(proto, state=STATE)["groups"]


def test_a_plan_is_carried_out_again() -> None:
    first = prune_plain(cell(), ratio=0.4, best_effort=True, state=STATE)
    again = onnxprune.prune(cell(), replay=first.plan, state=STATE)
    assert again.model == first.model


def test_with_data() -> None:
    result = onnxprune.prune(cell(), ratio=0.4, best_effort=True, state=STATE, synthetic=32)
    assert result.report["validation"]["twin"]["passed"] and result.report["refit"]


def test_the_command(command: Command) -> None:
    path = command.put(cell())
    words = ("'h'", "IN:OUT", "x0, state", "y, next")
    command.refused(path, command.folder / "out.onnx", "--ratio", "0.4", "--state", "h", words=words)
    ran = command.done("inspect", path, "--state", STATE)
    assert "1 group" in ran.out


def test_a_state_is_named_once() -> None:
    with pytest.raises(RefusedError, match="named twice"):
        prune_plain(cell(), ratio=0.4, best_effort=True, state=[STATE, "state:y"])
