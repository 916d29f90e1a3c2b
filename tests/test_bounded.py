"""Memory and time stay bounded: pages are given back, weights are read one at a time, the same is computed once."""

import gc
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from doors import PLAIN
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxprune.analysis import analyse
from onnxprune.budget import Axis, Term, make_cost
from onnxprune.coreset import sensitivity
from onnxprune.coreset.sensitivity import sensitivities
from onnxprune.coupling.channels import ChannelReader
from onnxprune.errors import ModelError
from onnxprune.graph import io, staged
from onnxprune.graph.index import Index
from onnxprune.graph.sections import Limits
from onnxprune.options import Options
from onnxprune.pipeline import prune_file
from onnxprune.shapes.evaluate import Evaluator


def mapped() -> int:
    """Bytes of files that are in this process's memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


def stored(proto: ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=4096, location="net.data")
    return path


def mlp(width: int = 64) -> ModelProto:
    net = Net()
    x = net.input("batch", width)
    for _ in range(4):
        x = net.add("Relu", net.dense(x, width, width))
    return net.done(x)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_of_a_weight_leave_memory_with_its_last_view(tmp_path: Path) -> None:
    size = 1 << 25
    net = Net()
    x = net.input(1, 1024)
    net.initializers.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1024, size // 4096]))
    proto = net.done(net.add("MatMul", x, "w"))
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data")
    (tmp_path / "data").write_bytes(bytes(size))
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    model = io.load(tmp_path / "net.onnx")
    before = mapped()
    array = model.array(model.proto.graph.initializer[0])
    view = array.T[5:]
    assert not array.any()
    del array
    assert mapped() - before > size // 2
    del view
    gc.collect()
    assert mapped() - before < size // 4
    assert sum(chunk.nbytes for chunk in model.chunks(model.proto.graph.initializer[0])) == size
    assert mapped() - before < size // 4


def test_weights_on_disk_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    model = io.load(stored(mlp(), tmp_path))
    analysis = analyse(model)
    reads: list[str] = []

    def read(name: str) -> NDArray[np.float32]:
        reads.append(name)
        return model.array(analysis.index.weights[name])

    reader = ChannelReader(analysis.coupling, analysis.index, read)
    group = analysis.coupling.groups[0]
    channels = reader.channels(group)
    checked = len(reads)
    assert checked == 2
    assert reader.channels(group).count == group.size and len(reads) == checked + 1
    assert len(channels.incoming) == len(channels.outgoing) == 1 and channels.incoming
    incoming, outgoing = channels.incoming[0], channels.outgoing[0]
    first, second = (model.array(analysis.index.weights[name]) for name in reads[:checked])
    np.testing.assert_array_equal(incoming, first.T)
    np.testing.assert_array_equal(outgoing[:, :, 0], second)
    assert [array.shape for array in channels.incoming[:1]] == [incoming.shape]


def test_embedded_weights_are_read_once_for_a_group() -> None:
    model = io.from_proto(mlp())
    analysis = analyse(model)
    reads: list[str] = []

    def read(name: str) -> NDArray[np.float32]:
        reads.append(name)
        return model.array(analysis.index.weights[name])

    channels = ChannelReader(analysis.coupling, analysis.index, read).channels(analysis.coupling.groups[0])
    assert channels.incoming[0].shape == channels.outgoing[0].shape[:2]
    assert channels.count == 64 and len(reads) == 2


@pytest.mark.parametrize("external", [True, False])
def test_what_is_not_finite_is_found_far_inside(external: bool, tmp_path: Path) -> None:
    proto = mlp(1024)
    value = numpy_helper.to_array(proto.graph.initializer[1]).copy()
    value[-1, -3] = np.nan
    proto.graph.initializer[1].raw_data = value.tobytes()
    model = io.load(stored(proto, tmp_path)) if external else io.from_proto(proto)
    analysis = analyse(model)
    reader = ChannelReader(analysis.coupling, analysis.index, lambda name: model.array(analysis.index.weights[name]))
    for _ in range(2):
        with pytest.raises(ModelError, match="holds NaN"):
            reader.channels(analysis.coupling.groups[0])
    assert reader.channels(analysis.coupling.groups[2]).count == 1024


def test_sensitivities_in_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((11, 3))
    for shape in ((11, 4), (11, 4, 1), (11, 4, 5), (11, 0), (11, 2, 0)):
        weights = rng.standard_normal(shape)
        whole = sensitivities(points, weights, "Relu")
        sums = np.abs(weights).sum(axis=2) if weights.ndim == 3 else np.abs(weights)
        expected = sums.max(axis=1, initial=0.0) * np.linalg.norm(points, axis=1)
        np.testing.assert_allclose(whole, expected, rtol=1e-12)
        monkeypatch.setattr(sensitivity, "CHUNK", 7)
        np.testing.assert_array_equal(sensitivities(points, weights, "Relu"), whole)
        monkeypatch.undo()


def test_worth_is_what_goes_with_a_whole_group() -> None:
    rng = np.random.default_rng(1)
    terms = []
    for _ in range(30):
        axes = []
        for _ in range(rng.integers(0, 4)):
            groups = tuple(map(int, rng.choice(6, rng.integers(0, 4), replace=False)))
            axes.append(Axis(float(rng.integers(0, 3)), groups, tuple(map(float, rng.integers(1, 4, len(groups))))))
        terms.append(Term(float(rng.integers(1, 5)), tuple(axes)))
    counts = rng.integers(1, 9, 6)
    for some in (terms, terms[:1], []):
        cost = make_cost(some, constant=3.0, groups=6)
        found = cost.worth(counts)
        for group in range(6):
            without = np.where(np.arange(6) == group, 0, counts)
            assert found[group] == pytest.approx(cost.value(counts) - cost.value(without))


def test_a_node_is_evaluated_by_what_it_is_and_reads() -> None:
    net = Net()
    x = net.input(2)
    proto = net.done(net.add("Neg", x))
    evaluator = Evaluator(Index(proto))

    def run(*inputs: NDArray[np.generic] | None, operator: str = "Gather", names: str = "ab", **more: int) -> object:
        node = helper.make_node(operator, list(names), ["y"], name=f"{names}{len(more)}", **more)
        (value,) = evaluator.values(node, inputs)
        assert not value.flags.writeable
        return value.tolist()

    table, last = np.array([[1, 2], [3, 4]]), np.array([1])
    assert run(table, last) == [[3, 4]]
    assert run(table, last, axis=1) == [[2], [4]]
    assert run(table, last, names="cd") == [[3, 4]]
    assert run(table, np.array([0])) == [[1, 2]]
    assert run(table.astype(np.int32), last) == [[3, 4]]
    assert run(table.reshape(4), last) == [2]
    assert run(np.array(["a", "b"], dtype=object), last) == ["b"]
    assert run(np.array(["a", "c"], dtype=object), last) == ["c"]
    assert run(table, table, operator="Add") == [[2, 4], [6, 8]]
    assert evaluator.values(helper.make_node("NoSuchOperator", ["a"], ["y"]), [table]) == []


def test_a_network_of_other_floats_is_proved_in_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = mlp()
    for tensor in proto.graph.initializer:
        narrow = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
        tensor.data_type, tensor.raw_data = TensorProto.BFLOAT16, narrow.tobytes()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    source = stored(proto, tmp_path)
    monkeypatch.setattr(staged, "LIMITS", Limits(weights=20_000, nodes=1 << 20))
    report = prune_file(source, tmp_path / "out.onnx", Options(ratio=0.3, **PLAIN)).report
    assert report["validation"]["twin"]["passed"] and report["validation"]["twin"]["compared"] > 1
