"""Accuracy of a network of which one group is thinned, against what is left once it is really pruned."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cases.recurrent import Layer
from doors import MODELS, convolutional, dense, prune_plain
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnxprune.calibrate.calibration import Batch
from onnxprune.coupling import Group
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import CPU, Session
from onnxprune.options import Options
from onnxprune.reconstruct import thinned
from onnxprune.reconstruct.evidence import Data, readers_of
from onnxprune.reconstruct.thinned import Thinned
from onnxprune.reconstruct.views import Workpiece
from onnxprune.refine import Refiner
from onnxprune.rewrite import GroupPlan, Plan
from onnxprune.validate import find_scores, set_exam

SAMPLES, CLASSES = 60, 10


def recurrent() -> ModelProto:
    """A unit's states are read by its own stored weights, and by a product that can be solved anew."""
    net = Net(seed=2)
    x = net.add("Transpose", net.input("n", 6, 5), perm=[1, 0, 2])
    states = Layer("GRU", read=5, made=12).apply(net, x)[0]
    last = net.add("Gather", net.add("Squeeze", states, net.constant([1])), net.constant(5), axis=0)
    return net.done(net.gemm(last, CLASSES, 12))


def normalised() -> ModelProto:
    """A stream that statistics are taken over, and a reader of it whose weight is made by two nodes."""
    net = Net(seed=3)
    x = net.gemm(net.input("n", 8), 16, 8)
    y = net.add("LayerNormalization", x, net.weight(16), net.weight(16))
    return net.done(net.gemm(net.add("Add", x, net.add("Relu", net.gemm(y, 16, 16))), CLASSES, 16))


def weightless() -> ModelProto:
    """Queries and keys are read by one another alone; the group of a second branch does not matter to the classes."""
    net = Net(seed=4)
    x = net.input("n", 5, 8)
    queries, keys = (net.dense(x, 12, 8) for _ in range(2))
    scores = net.add("Softmax", net.add("MatMul", queries, net.add("Transpose", keys, perm=[0, 2, 1])), axis=-1)
    pooled = net.add("ReduceMean", net.add("MatMul", scores, x), axes=[1], keepdims=0)
    other = net.dense(net.add("Relu", net.dense(x, 9, 8)), 3, 9)
    return net.done(net.gemm(pooled, CLASSES, 8), other)


def listed() -> ModelProto:
    """A list is made before the first reader and taken apart behind it: nothing can be handed on there."""
    net = Net(seed=6)
    x = net.input("n", 8)
    pair = net.add("SequenceConstruct", net.add("Relu", net.gemm(x, 14, 8)), net.gemm(x, 6, 8))
    y = net.gemm(net.add("Relu", net.gemm(x, 12, 8)), 6, 12)
    z = net.add("Add", y, net.add("SequenceAt", pair, net.constant(1)))
    return net.done(net.gemm(net.add("Relu", z), CLASSES, 6))


def trained() -> ModelProto:
    """The repository's own."""
    return onnx.load(MODELS / "resnet8-mnist.onnx")


def old() -> ModelProto:
    """Initializers are inputs, too, and one weight is the value of a Constant node."""
    net = Net(9, ir=3, seed=5)
    x = net.add("Relu", net.gemm(net.input("n", 8), 14, 8))
    kernel = net.constant_node(net.rng.standard_normal((14, 12)).astype(np.float32))
    x = net.add("Relu", net.add("MatMul", x, kernel))
    return net.done(net.gemm(x, CLASSES, 12))


def given(proto: ModelProto, count: int = SAMPLES) -> NDArray[np.float32]:
    """Samples for the first input."""
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(1).standard_normal((count, *sizes)).astype(np.float32)


def answers(proto: ModelProto, samples: NDArray[Any]) -> NDArray[np.int64]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(None, {proto.graph.input[0].name: samples})[0])
    return np.asarray(found.argmax(axis=1), dtype=np.int64)


def opened(proto: ModelProto, samples: NDArray[Any]) -> Thinned:
    """The network with two batches that are not alike; the labels are what it answers."""
    name = proto.graph.input[0].name
    parts = np.split(np.arange(len(samples)), [len(samples) * 2 // 3])
    batches = [Batch({name: samples[part]}, part) for part in parts]
    labels, model = answers(proto, samples), io.from_proto(proto)
    options = Options(ratio=0.5, prune_normalized=True)
    work = Refiner(model, options, Data([], 0, (CPU,))).work
    scores = find_scores(model.copy(), batches[0], labels, (CPU,))
    return Thinned(work, set_exam(model.copy(), scores, batches, labels, (CPU,)))


def some(group: Group, share: float, seed: int = 0) -> NDArray[np.int64]:
    """Channels of a group, equally many of every row."""
    rows = np.zeros(group.size, np.int64) if group.rows is None else group.rows
    rng = np.random.default_rng([seed, group.size])
    own = [np.flatnonzero(rows == row) for row in np.unique(rows)]
    return np.sort(np.concatenate([rng.permutation(each)[: max(1, round(share * each.size))] for each in own]))


def changed(work: Workpiece, group: Group, kept: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Other weights and biases for the readers of a group, those of channels that go, too."""
    rng = np.random.default_rng(len(kept))
    readers = readers_of(work.coupling, work.readers).get(group.name, [])
    stored = {name: work.stored(name) for reader in readers for name in (reader.weight, reader.bias) if name}
    return {name: value + 0.1 * rng.standard_normal(value.shape) for name, value in stored.items()}


def really(work: Workpiece, group: Group, kept: NDArray[np.int64], new: dict[str, NDArray[Any]]) -> ModelProto:
    """A network with these weights that has lost the other channels."""
    made = ModelProto.FromString(work.proto.SerializeToString())
    stored = Index(made).weights
    for name, value in new.items():
        stored[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    plan = Plan("", (GroupPlan(group.name, group.size, tuple(map(int, kept))),))
    return prune_plain(made, method="l2", replay=plan, prune_normalized=True).model


@pytest.mark.parametrize("make", [recurrent, normalised, weightless, listed, old, trained, convolutional, dense])
def test_accuracy_is_that_of_the_network_that_is_really_pruned(make: Callable[[], ModelProto]) -> None:
    proto = make()
    samples = given(proto)
    found = opened(proto, samples)
    work, labels, lost = found.work, answers(proto, samples), []
    for number, group in enumerate(work.coupling.groups):
        kept = [some(group, share) for share in (0.25, 0.5, 0.8)]
        for solved in (None, partial(changed, work, group)):
            right = found.right(number, kept, solved)
            for each, share in zip(kept, right, strict=True):
                made = really(work, group, each, {} if solved is None else solved(each))
                assert share == (answers(made, samples) == labels).mean()
                lost.append(1 - share)
    assert max(lost) > 0.1


def test_weights_that_are_many_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = dense()
    found = opened(proto, given(proto))
    group = found.work.coupling.groups[0]
    kept = [some(group, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    right = found.right(0, kept, partial(changed, found.work, group))
    for size in (0.0, 2.5 * 4 * (60 * 40 + 40)):
        monkeypatch.setattr(thinned, "_WEIGHTS", size)
        assert (found.right(0, kept, partial(changed, found.work, group)) == right).all()


def test_what_is_behind_the_first_reader_alone_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four layers the last two for the second group, and all before it once per batch."""
    proto, runs = dense(), list[tuple[bool, int]]()
    found = opened(proto, given(proto))
    plain = Session.run

    def counted(self: Session, feeds: Any, outputs: Any = None) -> Any:
        runs.append(("x0" in self.inputs, len(feeds["x0"])))
        return plain(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", counted)
    group = found.work.coupling.groups[1]
    found.right(1, [some(group, share) for share in (0.25, 0.5, 0.75)])
    heads = [size for is_head, size in runs if is_head]
    # The first and the last batch are looked at beforehand.
    assert heads == [40, 20, 40, 20] and len(runs) - len(heads) == 2 * 3
