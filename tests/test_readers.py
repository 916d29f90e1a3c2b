"""Which nodes can be solved anew, the biases they get for it, and stages that compute what one session does."""

from collections.abc import Callable

import numpy as np
import pytest
from net import Net
from onnx import ModelProto
from repairable import NETWORKS

from onnxprune.analysis import Analysis, analyse
from onnxprune.calibrate.feeds import Feeds
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct import stages as module
from onnxprune.reconstruct.readers import Reader, find_readers, give_biases
from onnxprune.reconstruct.stages import Stages, in_order


def analysed(proto: ModelProto) -> Analysis:
    return analyse(io.from_proto(proto))


def readers(proto: ModelProto) -> list[Reader]:
    found = analysed(proto)
    return find_readers(found.index, found.shapes, found.coupling)


def sites(proto: ModelProto) -> list[str]:
    return [reader.site.split()[0] for reader in readers(proto)]


def feeds(proto: ModelProto, count: int = 3, seed: int = 0) -> Feeds:
    rng = np.random.default_rng(seed)
    stored = {tensor.name for tensor in proto.graph.initializer}
    found = {}
    for value in proto.graph.input:
        if value.name not in stored:
            sizes = [dim.dim_value or count for dim in value.type.tensor_type.shape.dim]
            found[value.name] = rng.standard_normal(sizes).astype(np.float32)
    return found


# --- what is found, and what is left


def _shared_weight() -> ModelProto:
    net = Net()
    x, weight = net.add("Relu", net.gemm(net.input("n", 6), 6, 6)), net.weight(6, 6)
    y = net.add("Relu", net.add("Gemm", x, weight))
    return net.done(net.gemm(net.add("Gemm", y, weight), 3, 6))


def _computed_weight() -> ModelProto:
    net = Net()
    x = net.add("Relu", net.gemm(net.input("n", 6), 6, 6))
    return net.done(net.add("Gemm", x, net.add("Neg", net.weight(6, 3))), net.add("Gemm", x, net.weight(6, 2)))


def _scaled() -> ModelProto:
    net = Net()
    x = net.add("Relu", net.gemm(net.input("n", 6), 6, 6))
    return net.done(net.add("Gemm", x, net.weight(6, 3), alpha=0.5), net.gemm(x, 2, 6))


def _depthwise() -> ModelProto:
    net = Net()
    x = net.conv(net.input("n", 3, 6, 6), 8, 3)
    x = net.conv(x, 8, 8, kernel=(3, 3), group=8)
    return net.done(net.conv(net.add("Relu", x), 2, 8))


def _matrix_bias() -> ModelProto:
    net = Net()
    x = net.add("Relu", net.gemm(net.input(4, 6), 6, 6))
    return net.done(net.add("Gemm", x, net.weight(6, 3), net.weight(4, 3)), net.gemm(x, 2, 6))


@pytest.mark.parametrize(("build", "found"), [
    (_shared_weight, ["gemm0", "gemm2", "gemm4", "gemm5"]),
    (_computed_weight, ["gemm0", "gemm4"]),
    (_scaled, ["gemm0", "gemm3"]),
    (_depthwise, ["conv0", "conv3"]),
    (_matrix_bias, ["gemm0", "gemm3"]),
])  # fmt: skip
def test_what_can_be_solved_anew_is_found(build: Callable[[], ModelProto], found: list[str]) -> None:
    proto = build()
    assert sites(proto) == found


def test_columns_know_their_units() -> None:
    net = Net()
    one = net.add("Relu", net.conv(net.input("n", 3, 4, 4), 4, 3, kernel=(3, 3)))
    proto = net.done(net.gemm(net.add("Flatten", one), 2, 16))
    first, last = readers(proto)
    assert (first.units == -1).all() and first.units.shape == (1, 27)
    assert last.units.tolist() == [np.repeat(last.units[0, ::4], 4).tolist()] and len(set(last.units[0])) == 4
    assert (first.width, last.width) == (4, 2)


def test_a_grouped_convolution_is_as_many_products() -> None:
    reader = readers(NETWORKS["grouped"]())[1]
    assert reader.units.shape == (2, 36) and reader.width == 4
    assert not set(reader.units[0]) & set(reader.units[1])


# --- biases


def _shared_bias() -> ModelProto:
    net = Net()
    bias = net.weight(6)
    x = net.add("Gemm", net.input("n", 6), net.weight(6, 6), bias)
    x = net.add("Add", net.add("MatMul", net.add("Relu", x), net.weight(6, 6)), bias)
    return net.done(net.add("Gemm", net.add("Relu", x), net.weight(6, 6), bias))


def _none() -> ModelProto:
    net = Net(ir=3)
    x = net.conv(net.input("n", 3, 4, 4), 4, 3, bias=False)
    flat = net.add("Flatten", net.add("Relu", x))
    return net.done(net.add("Relu", net.dense(flat, 5, 64)), net.dense(flat, 2, 64))


def _output_inside() -> ModelProto:
    net = Net()
    x = net.dense(net.input("n", 6), 5, 6)
    return net.done(x, net.dense(net.add("Relu", x), 2, 5))


@pytest.mark.parametrize("build", [_shared_bias, _none, _output_inside, *NETWORKS.values()])
def test_biases_change_nothing_and_are_each_reader_s_own(build: Callable[[], ModelProto]) -> None:
    proto = build()
    given = feeds(proto)
    before = Session(proto.SerializeToString(), (CPU,)).run(given)
    found = analysed(proto)
    proto = found.model.proto
    give_biases(proto, found.index, found.shapes)
    after = Session(proto.SerializeToString(), (CPU,)).run(given)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-5)
    own = [reader.bias for reader in readers(proto) if reader.bias]
    assert len(own) == len(set(own))
    outputs = {value.name for value in proto.graph.output}
    assert all(reader.bias for reader in readers(proto) if reader.result not in outputs)
    # Once is enough.
    again = analysed(proto)
    give_biases(again.model.proto, again.index, again.shapes)
    assert again.model.proto == proto


def test_only_those_wanted_get_biases() -> None:
    found = analysed(_none())
    give_biases(found.model.proto, found.index, found.shapes, [found.index.nodes[0].output[0]])
    assert [bool(reader.bias) for reader in readers(found.model.proto)] == [True, False, False]


# --- stages


def _sized() -> ModelProto:
    """Sizes are computed from an input, two inputs, and a tensor that is read long after it is made."""
    net = Net()
    x, y = net.input("n", 6), net.input("n", 4)
    first = net.gemm(x, 8, 6)
    size = net.add("Shape", first)
    second = net.add("Add", net.add("Relu", first), net.gemm(y, 8, 4))
    third = net.gemm(net.add("Relu", second), 8, 8)
    return net.done(net.gemm(net.add("Add", net.add("Reshape", third, size), first), 2, 8), size)


@pytest.mark.parametrize("memory", [1 << 31, 0], ids=["memory", "disk"])
@pytest.mark.parametrize("build", [_sized, NETWORKS["residual"], NETWORKS["joined"], _none])
def test_stages_compute_what_one_session_does(
    build: Callable[[], ModelProto], memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY", memory)
    proto = build()
    ends = [node.output[0] for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    made = {name for node in proto.graph.node for name in node.output}
    batches = [feeds(proto, count, count) for count in (3, 1, 4)]
    whole = ModelProto()
    whole.CopyFrom(proto)
    declared = {value.name for value in whole.graph.output}
    whole.graph.output.extend(type(value)(name=name) for value in proto.graph.input[:1] for name in made - declared)
    session = Session(whole.SerializeToString(), (CPU,))
    wanted = [{**batch, **session.run(batch)} for batch in batches]
    order = in_order(proto, ends)
    assert sorted(order.nodes) == list(range(len(proto.graph.node)))
    assert sorted(name for names in order.readers for name in names) == sorted(ends)
    sources = {node.output[0]: node.input[0] for node in proto.graph.node}
    for cuts, inputs in ((order.before, True), (order.after, False)):
        run = Stages(proto, order, cuts, batches, (CPU,))
        for names in order.readers:
            looked = [sources[name] for name in names] if inputs else list(names)
            for values, whole_values in zip(run.advance(looked), wanted, strict=True):
                for name in looked:
                    np.testing.assert_allclose(values[name], whole_values[name], atol=1e-5)


def test_a_weight_changed_between_stages_is_what_later_ones_use() -> None:
    proto = NETWORKS["gemm"]()
    names = [node.output[0] for node in proto.graph.node if node.op_type == "Gemm"]
    order = in_order(proto, names)
    batch = feeds(proto)
    run = Stages(proto, order, order.before, [batch], (CPU,))
    list(run.advance(["x0"]))
    stored = run.stored(proto.graph.node[0].input[1])
    stored.raw_data = b"\0" * len(stored.raw_data)
    found = next(iter(run.advance([proto.graph.node[2].input[0]])))[proto.graph.node[2].input[0]]
    assert (found == found[:1]).all()
    assert Index(proto).weights[proto.graph.node[0].input[1]].raw_data.strip(b"\0")
