"""Readers of one weight are solved together, where none of them depends on another."""

from typing import Any

import numpy as np
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.numpy_helper import to_array

from onnxprune import prune
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct.stages import in_order, reached_together

SIDES = 3


def siamese(*, deep: bool, bias: bool = True) -> ModelProto:
    """Two pictures through the same layers, the second after one more where it is `deep`; channels vary in few ways."""
    net, rng = Net(17), np.random.default_rng(1)
    mixed = rng.standard_normal((32, 5)) @ rng.standard_normal((5, 3 * 9)) / 6
    first = net.constant(mixed.reshape(32, 3, 3, 3), np.float32), net.constant(np.full(32, 0.5), np.float32)
    second = [net.constant(rng.standard_normal((6, 32, 1, 1)) / 4, np.float32)]
    second += [net.constant(rng.standard_normal(6), np.float32)] if bias else []
    made = []
    for number in range(2):
        x = net.input("n", 3, 6, 6)
        if deep and number:
            x = net.add("Add", x, net.conv(net.add("Tanh", net.conv(x, 4, 3)), 3, 4))
        made.append(net.add("Conv", net.add("Relu", net.add("Conv", x, *first)), *second))
    return net.done(net.add("Concat", *(net.add("Flatten", x) for x in made), axis=1))


def drawn(count: int, seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng([7, seed])
    return {f"x{k}": rng.standard_normal((count, 3, 6, 6)).astype(np.float32) for k in range(2)}


def lost(proto: ModelProto, result: Any) -> float:
    names = [value.name for value in proto.graph.input]
    feeds = dict(zip(names, drawn(64, 1).values(), strict=True))
    after, before = (
        next(iter(Session(each.SerializeToString(), (CPU,)).run(feeds).values())) for each in (result.model, proto)
    )
    return float(np.square(after - before).sum() / np.square(before - before.mean(axis=0)).sum())


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_readers_of_one_weight_are_solved_together(deep: bool, bias: bool) -> None:
    proto = siamese(deep=deep, bias=bias)
    names = [value.name for value in proto.graph.input]
    calib = dict(zip(names, drawn(64, 0).values(), strict=True))
    sizes = {"ratio": 0.4, "measure": "channels", "calib": calib, "best_effort": True}
    solved, plain = prune(proto, **sizes), prune(proto, **sizes, refit="off")
    assert solved.report["validation"]["twin"]["passed"]
    assert lost(proto, solved) < 0.3 * lost(proto, plain)
    assert len(solved.model.graph.node) <= len(proto.graph.node) + 2  # biases at most
    shapes = [tuple(tensor.dims) for tensor in solved.model.graph.initializer if len(tensor.dims) == 4]
    assert sum(shape[0] == 6 and shape[2:] == (1, 1) for shape in shapes) == 1  # one weight still


def test_one_solution_is_taken_where_a_rectifier_reads_one_of_the_results() -> None:
    """Solved once more behind the first alone, the weight is that of both, and so is the bias."""
    net, rng = Net(17), np.random.default_rng(3)
    first = net.constant(rng.standard_normal((24, 6)), np.float32), net.constant(np.ones(24), np.float32)
    second = net.constant(rng.standard_normal((5, 24)), np.float32), net.constant(np.zeros(5), np.float32)
    made = [
        net.add("Gemm", net.add("Relu", net.add("Gemm", net.input("n", 6), *first, transB=1)), *second, transB=1)
        for _ in range(2)
    ]
    proto = net.done(net.add("Relu", made[0]), made[1])
    calib = {f"x{k}": rng.standard_normal((300, 6)).astype(np.float32) for k in range(2)}
    names = [value.name for value in proto.graph.input]
    given = dict(zip(names, calib.values(), strict=True))
    result = prune(proto, ratio=0.5, calib=given, distill="off", best_effort=True)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in result.model.graph.initializer}
    biases = [n for n in result.model.graph.node if n.op_type == "Gemm" and shapes[n.input[1]][0] == 5]
    one, two = (Index(result.model).weights[node.input[2]] for node in biases)
    assert len({node.input[1] for node in biases}) == 1 and np.array_equal(to_array(one), to_array(two))
    solved = list(result.report["refit"].values())
    assert len(solved) == 2 and solved[0]["missed"] == solved[1]["missed"]


def test_a_weight_that_is_read_twice_in_a_row_stays() -> None:
    """Layers repeated with one weight depend on one another: no stage has them both."""
    net, rng = Net(17), np.random.default_rng(2)
    x = net.add("Relu", net.gemm(net.input("n", 6), 24, 6))
    into, out = (net.constant(rng.standard_normal(shape) / 4, np.float32) for shape in ((24, 48), (48, 24)))
    for _ in range(3):
        x = net.add("Add", x, net.add("MatMul", net.add("Relu", net.add("MatMul", x, into)), out))
    proto = net.done(net.gemm(x, 4, 24))
    calib = rng.standard_normal((200, 6)).astype(np.float32)
    result = prune(proto, ratio=0.3, calib={"x0": calib})
    assert result.report["validation"]["twin"]["passed"]
    assert all("MatMul" not in site for site in result.report["refit"])


def test_stages_that_wait_for_one_another() -> None:
    net = Net(17)
    x = net.input("n", 4)
    early, late = net.gemm(x, 4, 4), net.gemm(net.add("Relu", net.gemm(x, 4, 4)), 4, 4)
    proto = net.done(net.gemm(net.add("Relu", early), 4, 4), late)
    readers = [node.output[0] for node in proto.graph.node if node.op_type == "Gemm"]
    assert [len(names) for names in in_order(proto, readers).readers] == [2, 2]
    together = [[early, late]]
    assert reached_together(proto, readers, together) == together
    order = in_order(proto, readers, together)
    assert [set(names) for names in order.readers][1] == {early, late} and len(order.readers) == SIDES
    assert reached_together(proto, readers, [[early, readers[-1]]]) == []
