"""A network that runs in sections gives what it gives as a whole, whatever crosses a cut."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from doors import PLAIN
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnxprune.errors import ModelError
from onnxprune.graph import io, staged
from onnxprune.graph.runtime import CPU, Session
from onnxprune.graph.sections import Limits, Sections
from onnxprune.graph.staged import StagedSession, open_session
from onnxprune.graph.tensors import is_external, payload_bytes
from onnxprune.options import Options
from onnxprune.pipeline import prune_file

WIDTH = 40
LAYER = 4 * WIDTH * WIDTH
ANY = 1 << 40
Feeds = dict[str, NDArray[np.generic]]


def chain(width: int = WIDTH) -> ModelProto:
    """Layers one after the other."""
    net = Net()
    x = net.input("batch", width)
    for _ in range(4):
        x = net.add("Relu", net.dense(x, width, width))
    return net.done(x)


def skips() -> ModelProto:
    """Tensors that are read several sections after they were made, and again in between."""
    net = Net()
    early = x = net.add("Relu", net.dense(net.input(2, WIDTH), WIDTH, WIDTH))
    for _ in range(4):
        x = net.add("Add", net.dense(x, WIDTH, WIDTH), early)
    return net.done(net.add("Concat", x, early, axis=1))


def several_outputs() -> ModelProto:
    """Outputs from every section; one is read on, one comes from stored tensors alone, one is the input itself."""
    net = Net()
    given = x = net.input(2, WIDTH)
    made = []
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
        made.append(x)
    fixed = net.add("Neg", net.weight(WIDTH))
    proto = net.done(made[0], made[2], fixed, made[1])
    proto.graph.output.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, [2, WIDTH]))
    return proto


def shared_weight() -> ModelProto:
    """One weight read in the first section as it is, and in the last one transposed."""
    net = Net()
    ids = net.input(1, 5, kind=TensorProto.INT64)
    table = net.weight(64, WIDTH)
    turned = net.add("Transpose", table, perm=[1, 0])
    x = net.add("Gather", table, ids)
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
    return net.done(net.add("MatMul", x, turned))


def optional_inputs() -> ModelProto:
    """An operator whose optional input is left out, with the one after it made sections before."""
    net = Net()
    x = net.input(2, WIDTH)
    top = net.add("ReduceMax", x, keepdims=0)
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
    return net.done(net.add("Clip", x, "", top))


def captures() -> ModelProto:
    """Branches that read an activation of another section, a stored weight, and what follows from one."""
    net = Net()
    x = net.input(2, WIDTH)
    early = net.add("Relu", x)
    large, turned = net.weight(WIDTH, WIDTH), net.add("Transpose", net.weight(WIDTH, WIDTH))
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
    flag = net.add("Greater", net.add("ReduceSum", x, keepdims=0), net.constant(0.0, np.float32))
    branches = []
    for name, weight in (("then", large), ("else", turned)):
        inner = [helper.make_node("MatMul", [early, weight], [f"{name}_out"])]
        shown = [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)]
        branches.append(helper.make_graph(inner, name, [], shown))
    y = net.add("If", flag, then_branch=branches[0], else_branch=branches[1])
    return net.done(net.add("Add", x, y))


def sequences() -> ModelProto:
    """A sequence of tensors, which stays where it is made and read."""
    net = Net()
    x = net.input(2, WIDTH)
    parts = net.add("SplitToSequence", x, axis=1)
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
    part = net.add("SequenceAt", parts, net.constant(np.int64(3)))
    return net.done(net.add("Mul", net.dense(x, WIDTH, WIDTH), part))


def sizes() -> ModelProto:
    """Shape arithmetic across cuts."""
    net = Net()
    x = net.input("batch", 3, WIDTH)
    batch = net.add("Gather", net.add("Shape", x), net.constant([0]))
    shape = net.add("Concat", batch, net.constant([-1]), axis=0)
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
    return net.done(net.dense(net.add("Reshape", x, shape), 4, 3 * WIDTH))


def unequal_layers() -> ModelProto:
    """A node whose weight alone exceeds the limit, between small ones, and nodes without any at both ends."""
    net = Net()
    x = net.add("Abs", net.input(2, WIDTH))
    x = net.dense(net.dense(net.dense(x, 4 * WIDTH, WIDTH), 4 * WIDTH, 4 * WIDTH), 2, 4 * WIDTH)
    return net.done(net.add("Neg", net.add("Relu", x)))


def old() -> ModelProto:
    """An IR whose initializers are inputs too."""
    net = Net(8, ir=3)
    x = net.input(2, WIDTH)
    for _ in range(3):
        x = net.dense(x, WIDTH, WIDTH)
    return net.done(x)


NETWORKS = (
    chain,
    skips,
    several_outputs,
    shared_weight,
    optional_inputs,
    captures,
    sequences,
    sizes,
    unequal_layers,
    old,
)


def stored(proto: ModelProto, folder: Path) -> ModelProto:
    """The network as it is read from a file with all weights in external data."""
    path = folder / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=4096, location="net.data")
    return io.load(path).proto


def feeds(proto: ModelProto, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in proto.graph.initializer}
    given: Feeds = {}
    for value in proto.graph.input:
        shape = [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == TensorProto.INT64:
            given[value.name] = rng.integers(0, 16, shape)
        elif value.name not in weights:
            given[value.name] = rng.standard_normal(shape, dtype=np.float32)
    return given


@pytest.mark.parametrize(
    "limits", [Limits(1, ANY), Limits(LAYER, ANY), Limits(2 * LAYER, ANY), Limits(ANY, 1)], ids=str
)
@pytest.mark.parametrize("make", NETWORKS)
def test_sections_give_what_the_whole_gives(make: Callable[[], ModelProto], limits: Limits, tmp_path: Path) -> None:
    proto = stored(make(), tmp_path)
    whole = Session(proto.SerializeToString(), (CPU,), tmp_path)
    parts = StagedSession(proto, (CPU,), tmp_path, limits=limits)
    assert len(Sections(proto, limits)) > 1
    assert parts.outputs == whole.outputs and parts.provider == whole.provider
    requests = [(feeds(proto, 0), whole.outputs), (feeds(proto, 1), whole.outputs[-1:]), (feeds(proto, 2), ())]
    found = list(parts.run_each(requests))
    for (given, names), values in zip(requests, found, strict=True):
        expected = whole.run(given, names)
        assert expected.keys() == values.keys() == set(names)
        for name, value in expected.items():
            np.testing.assert_allclose(values[name], value, rtol=1e-6, atol=1e-6)
    again = parts.run(requests[0][0])
    assert again.keys() == found[0].keys()
    assert all(np.array_equal(again[name], found[0][name]) for name in again)


@pytest.mark.parametrize("make", NETWORKS)
def test_sections_stay_below_the_limit(make: Callable[[], ModelProto], tmp_path: Path) -> None:
    proto = stored(make(), tmp_path)
    sizes = {tensor.name: payload_bytes(tensor) * is_external(tensor) for tensor in proto.graph.initializer}
    largest = max(sizes.values())
    for limit in (largest, 2 * largest, sum(sizes.values())):
        sections = Sections(proto, Limits(limit, ANY))
        kept = [section.stored for section in map(sections.__getitem__, range(len(sections)))]
        # The branches of an If are one node; a stored output goes with the last section.
        allowed = max(limit, 2 * LAYER) if make in (captures, several_outputs) else limit
        assert all(sum(sizes[name] for name in names) <= allowed for names in kept)
        assert set().union(*kept) == set(sizes)
    assert len(sections) == 1


def test_detached_weights_are_found(tmp_path: Path) -> None:
    net = Net()
    x = net.input(2, 64)
    for _ in range(3):
        x = net.dense(x, 64, 64)
    model = io.from_proto(net.done(x))
    whole = Session(model.proto.SerializeToString(), (CPU,))
    weights = model.detach()
    parts = StagedSession(model.proto, (CPU,), None, weights, limits=Limits(1, ANY))
    given = {"x0": np.random.default_rng(0).standard_normal((2, 64), dtype=np.float32)}
    np.testing.assert_allclose(parts.run(given)[x], whole.run(given)[x], rtol=1e-6)


def test_what_a_section_cannot_run_is_said(tmp_path: Path) -> None:
    proto = stored(sizes(), tmp_path)
    parts = StagedSession(proto, (CPU,), tmp_path, limits=Limits(1, ANY))
    with pytest.raises(ModelError, match="cannot run the network"):
        parts.run({"x0": np.zeros((2, 5, WIDTH), np.float32)})


def test_big_networks_are_proved_in_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(chain(64), tmp_path)
    source, target = tmp_path / "net.onnx", tmp_path / "out.onnx"
    opened: list[type] = []

    def watched(*arguments: object) -> Session | StagedSession:
        opened.append(type(session := open_session(*arguments)))  # type: ignore[arg-type]
        return session

    monkeypatch.setattr("onnxprune.validate.prove.open_session", watched)
    reports = []
    for limits in (Limits(ANY, ANY), Limits(10000, ANY)):
        monkeypatch.setattr(staged, "LIMITS", limits)
        reports.append(prune_file(source, target, Options(ratio=0.3, **PLAIN)).report["validation"])
    assert opened == [Session, Session, StagedSession, StagedSession]
    whole, parts = reports
    assert whole["twin"]["passed"] and parts["twin"]["passed"]
    assert whole["inputs"] == parts["inputs"] and whole["unproved"] == parts["unproved"]
    assert parts["fidelity"].keys() == whole["fidelity"].keys()
    for name, numbers in whole["fidelity"].items():
        assert parts["fidelity"][name] == pytest.approx(numbers, rel=1e-5)
