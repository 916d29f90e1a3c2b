"""Layers that are gone through forward or backward: each is ranked without what went before, against numpy by hand."""

from dataclasses import replace

import numpy as np
import pytest
from cases import transformers
from doors import FLAGS, Command, convolutional, dense, half, prune_plain, weights
from numpy.typing import NDArray
from onnx import ModelProto

import onnxprune
from onnxprune.analysis import analyse
from onnxprune.graph.io import from_proto
from onnxprune.methods import METHODS, Channels
from onnxprune.rewrite import GroupPlan, Plan
from onnxprune.score import channel_reader

Array = NDArray[np.float64]
ORDERS = ("together", "forward", "backward")
ATTENTION = next(case for case in transformers.CASES if case.identifier == "attention, MatMul and Add")


def chain() -> tuple[ModelProto, list[Array], list[Array]]:
    """Two hidden layers, of 30 and of 24 neurons, with the weights and biases of all three layers."""
    proto = dense(sizes=(6, 30, 24, 4), seed=3)
    stored = [value.astype(np.float64) for value in weights(proto).values()]
    return proto, stored[::2], stored[1::2]


def pruned(proto: ModelProto, method: str, order: str, **options: object) -> list[GroupPlan]:
    found = prune_plain(proto, ratio=0.6, method=method, layer_order=order, best_effort=True, **options)
    assert found.report["validation"]["twin"]["passed"]
    assert found.plan.request["layer_order"] == found.report["request"]["layer_order"] == order
    return list(found.plan.groups)


def best(rows: Array, bias: Array, readers: Array, count: int) -> list[int]:
    """The first of the coreset: rows (n, d), readers (n, k)."""
    scores = np.abs(readers).max(axis=1) * np.linalg.norm(np.column_stack([rows, bias]), axis=1)
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())


def test_forward_rows_have_lost_what_went_before() -> None:
    proto, (first, second, third), biases = chain()
    groups = pruned(proto, "coreset", "forward")
    counts = [len(group.kept) for group in groups]
    one = best(first.T, biases[0], second, counts[0])
    two = best(second[one].T, biases[1], third, counts[1])
    assert [list(group.kept) for group in groups] == [one, two]
    assert two != best(second.T, biases[1], third, counts[1]), "or this network shows nothing"


def test_backward_readers_have_lost_what_went_behind() -> None:
    proto, (first, second, third), biases = chain()
    groups = pruned(proto, "coreset", "backward")
    counts = [len(group.kept) for group in groups]
    two = best(second.T, biases[1], third, counts[1])
    one = best(first.T, biases[0], second[:, two], counts[0])
    assert [list(group.kept) for group in groups] == [one, two]
    assert one != best(first.T, biases[0], second, counts[0]), "or this network shows nothing"


def test_counts_are_those_of_the_weights_as_they_are() -> None:
    proto, _, _ = chain()
    for method in ("coreset", "l1", "l2", "lowner"):
        counts = {tuple(len(group.kept) for group in pruned(proto, method, order)) for order in ORDERS}
        assert len(counts) == 1


@pytest.mark.parametrize("method", ["coreset-distinct", "coreset-sampled", "coreset-split"])
def test_forward_rows_have_the_factors_of_what_went_before(method: str) -> None:
    proto, (first, second, third), biases = chain()
    groups = pruned(proto, method, "forward")
    written = np.where(second[list(groups[0].kept)] < 0, *groups[0].by_sign[::-1, :, None])
    thinner = second[list(groups[0].kept)] * written
    layers = ((first.T, second), (thinner.T, third))
    for number, ((rows, readers), group) in enumerate(zip(layers, groups, strict=True)):
        channels = Channels((rows.astype(np.float32),), biases[number], (readers[:, :, None],), "Relu")
        sample = METHODS[method](channels, np.random.default_rng([0, number])).sample
        assert sample is not None
        assert any(
            np.array_equal(found.kept, group.kept) and np.allclose(np.stack([found.factors]), group.factors, rtol=1e-4)
            for found in map(sample, range(1, len(rows) + 1))
        )


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("method", ["coreset", "coreset-sampled", "coreset-split", "l2", "lowner"])
@pytest.mark.parametrize("make", [convolutional, ATTENTION.make], ids=["streams, groups", "heads"])
def test_streams_groups_and_heads_are_sound(make: object, method: str, order: str) -> None:
    assert callable(make)
    groups = pruned(make(), method, order)
    assert any(len(group.kept) < group.channels for group in groups)


def test_what_is_gone_is_gone_from_the_arrays() -> None:
    """Of a residual block: what the reader of weights hands over is what a network with the weights by hand has."""
    proto = convolutional()
    analysis = analyse(from_proto(proto))
    stream, inner = analysis.coupling.groups[:2]
    gone = [3, 4, 11]
    kept = tuple(np.delete(np.arange(stream.size), gone).tolist())
    planned = GroupPlan(stream.name, stream.size, kept, (2.0,) * len(kept), (), 0, (3.0,) * len(kept))
    found = channel_reader(analysis).channels(inner, Plan("", (planned,)).scales(analysis.coupling))
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    into, out = (weights(proto)[node.input[1]].astype(np.float64) for node in convolutions[1:3])
    into = np.where(into < 0, 3.0, 2.0) * into
    into[:, gone], out[gone] = 0.0, 0.0
    np.testing.assert_allclose(found.incoming[0], into.reshape(inner.size, -1), rtol=1e-6)
    np.testing.assert_allclose(
        found.outgoing[0], np.moveaxis(out, 1, 0).reshape(inner.size, stream.size, -1), rtol=1e-6
    )


def test_the_promise_is_about_what_was_drawn() -> None:
    """A plan that is carried out again has the certificates that it had; together, others."""
    proto, _, _ = chain()
    for method in ("coreset-sampled", "coreset-split"):
        result = prune_plain(proto, ratio=0.6, method=method, layer_order="backward", best_effort=True)
        found = [group["certificate"] for group in result.report["groups"]]
        assert all(entry["promise"] is not None for entry in found)
        again = prune_plain(proto, replay=onnxprune.Plan.from_json(result.plan.to_json()))
        assert [group["certificate"] for group in again.report["groups"]] == found
        wrong = replace(result.plan, request={**result.plan.request, "layer_order": "together"})
        other = prune_plain(proto, replay=wrong).report["groups"]
        assert other[0]["certificate"]["promise"] != found[0]["promise"]
        odd = replace(result.plan, request={**result.plan.request, "layer_order": 3})
        assert prune_plain(proto, replay=odd).report["groups"][0]["certificate"]["promise"] is None


def test_half_floats() -> None:
    proto = half(chain()[0])
    for order in ORDERS:
        pruned(proto, "coreset-split", order)


def test_what_is_refused(command: Command) -> None:
    proto, _, _ = chain()
    with pytest.raises(onnxprune.UsageError, match="--layer-order sideways: choose from together, forward, backward"):
        onnxprune.prune(proto, ratio=0.5, method="coreset", layer_order="sideways")
    for method in ("auto", "submodular", "submodular-seq", "submodular-layer"):
        with pytest.raises(onnxprune.UsageError, match=f"--layer-order forward: --method {method} looks at .* coreset"):
            onnxprune.prune(proto, ratio=0.5, method=method, layer_order="forward")
    path, out = command.put(proto), command.folder / "out.onnx"
    ran = command(path, out, "--ratio", "0.5", "--layer-order", "backward")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "looks at the network" in ran.err and not out.exists()
    assert command(path, out, *FLAGS, "--ratio", "0.5", "--layer-order", "backward").code == 0
