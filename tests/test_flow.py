"""The flow of a network: the laws that it is named for, at every hidden unit, whatever the network is made of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto
from repairable import NETWORKS

from onnxprune import ModelError, UsageError, prune
from onnxprune.analysis import Analysis, analyse
from onnxprune.graph import io
from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct.views import Workpiece
from onnxprune.salience import Edges, flow_of


def opened(proto: ModelProto) -> tuple[Analysis, Workpiece]:
    analysis = analyse(io.from_proto(proto))
    return analysis, Workpiece(analysis.model.proto, analysis.index, analysis.shapes, analysis.coupling, ())


def ones(proto: ModelProto) -> dict[str, NDArray[np.float32]]:
    return {
        value.name: np.ones([dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim], np.float32)
        for value in proto.graph.input
    }


def flowing(proto: ModelProto, **more: NDArray[Any]) -> tuple[float, list[NDArray[np.float64]]]:
    """R, over the outputs' power of two, and what flows through the channels of each group."""
    analysis, work = opened(proto)
    edges, total = Edges(work, (CPU,), flowing=True), []

    def seeds(outputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        total.append(sum(float(value.sum(dtype=float)) for value in outputs.values()))
        return {name: np.ones_like(value) for name, value in outputs.items()}

    found = edges.changes({**ones(proto), **more}, 1, np.zeros(edges.units, dtype=bool), seeds)[0]
    return total[0], [found[group.units] for group in analysis.coupling.groups]


def chain(depth: int, *, scale: float = 1.0) -> ModelProto:
    """A deep network of one width, all activations different."""
    net = Net(seed=4)
    x = net.gemm(net.input(1, 6), 8, 6)
    for number in range(depth):
        x = net.add(("Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu")[number % 5], x)
        x = net.add("MatMul", x, net.constant(net.rng.standard_normal((8, 8)) * scale, np.float32))
    return net.done(x)


def gated() -> ModelProto:
    """Squeeze and excitation: half of what leaves a product has come by each of its factors."""
    net = Net(seed=5)
    x = net.add("Relu", net.conv(net.input(1, 3, 6, 6), 8, 3, kernel=(3, 3)))
    gate = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), 4, 8))
    x = net.add("Mul", x, net.add("Sigmoid", net.conv(gate, 8, 4)))
    return net.done(net.conv(x, 5, 8))


def normalised(operator: str, count: int) -> Callable[[], ModelProto]:
    def build() -> ModelProto:
        net = Net(seed=6)
        x = net.conv(net.input(1, 3, 6, 6), 8, 3, kernel=(3, 3))
        scales = [net.weight(8) for _ in range(count - 1)] + [net.constant(net.rng.random(8) + 0.5, np.float32)]
        more = {"num_groups": 4} if operator == "GroupNormalization" else {}
        x = net.add("Relu", net.add(operator, x, *scales, **more))
        return net.done(net.conv(net.add("MaxPool", x, kernel_shape=[2, 2]), 5, 8))

    return build


def shifted() -> ModelProto:
    """Constants of every sign and size that are added, or divided by; one that is laid over what flows."""
    net = Net(seed=7)
    x = net.add("Sub", net.input(1, 6), net.weight(1, 6))
    x = net.add("Div", net.gemm(x, 8, 6), net.constant(-np.arange(1.0, 9.0), np.float32))
    x = net.add("Clip", x, net.constant(-6.0, np.float32), net.constant(6.0, np.float32))
    x = net.add("Where", net.constant([True], bool), x, net.constant(-np.inf, np.float32))
    x = net.add("Add", x, net.weight(3, 8))
    return net.done(net.add("Concat", net.dense(x, 4, 8), net.weight(3, 2), axis=1))


CHAINS: dict[str, Callable[[], ModelProto]] = {
    **{name: NETWORKS[name] for name in ("gemm", "matmul", "conv", "grouped", "flattened")},
    "deep": lambda: chain(20),
    "batch": normalised("BatchNormalization", 4),
    "instance": normalised("InstanceNormalization", 2),
    "shifted": shifted,
}


@pytest.mark.parametrize("name", CHAINS)
def test_as_much_flows_through_every_layer(name: str) -> None:
    total, found = flowing(CHAINS[name]())
    assert found and total > 0
    for group in found:
        assert group.sum() == pytest.approx(total, rel=1e-5)
        assert (group >= 0).all()


def test_as_much_leaves_a_unit_as_enters_it() -> None:
    """Σ over a unit's incoming weights of θ · ∂R/∂θ is that over its outgoing ones (theorem 1)."""
    rng = np.random.default_rng(8)
    first, second, third = (rng.standard_normal(shape) for shape in ((6, 8), (8, 7), (7, 3)))
    net = Net()
    x = net.input(1, 6)
    for weight in (first, second, third):
        x = net.add("Relu", net.add("MatMul", x, net.constant(weight, np.float32)))
    total, (hidden, deeper) = flowing(net.done(x))
    a, b, c = map(np.abs, (first, second, third))
    whole = np.ones(6) @ a @ b @ c @ np.ones(3)
    entering = (np.ones(6) @ a) * (b @ c @ np.ones(3))
    assert hidden / total == pytest.approx(entering / whole, rel=1e-5)
    assert deeper / total == pytest.approx((np.ones(6) @ a @ b) * (c @ np.ones(3)) / whole, rel=1e-5)


def test_a_gate_takes_half() -> None:
    analysis, _ = opened(gated())
    total, found = flowing(gated())
    by_size = {group.size: value.sum() / total for group, value in zip(analysis.coupling.groups, found, strict=True)}
    assert by_size[4] == pytest.approx(0.5, rel=1e-5)
    # Channels are read by the last layer, and on the gate's way, which half of that takes.
    assert by_size[8] == pytest.approx(1.0 + 0.5, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_depth_overflows(scale: float) -> None:
    total, found = flowing(chain(120, scale=scale))
    assert all(np.isfinite(group).all() and group.sum() == pytest.approx(total, rel=1e-4) for group in found)


def test_scores_are_those_of_the_plain_formula() -> None:
    """A residual stream and branches that are joined, against float64."""
    rng = np.random.default_rng(9)
    first, inner, back, last = (rng.standard_normal(shape) for shape in ((6, 8), (8, 5), (5, 8), (8, 3)))
    net = Net()
    x = net.add("MatMul", net.input(1, 6), net.constant(first, np.float32))
    branch = net.add("Relu", net.add("MatMul", x, net.constant(inner, np.float32)))
    x = net.add("Add", x, net.add("MatMul", branch, net.constant(back, np.float32)))
    total, found = flowing(net.done(net.add("MatMul", x, net.constant(last, np.float32))))
    a, b, c, d = map(np.abs, (first, inner, back, last))
    enter, leave = np.ones(6) @ a, d @ np.ones(3)
    whole = (enter + enter @ b @ c) @ leave
    through = {8: enter * (b @ c @ leave) + (enter + enter @ b @ c) * leave, 5: (enter @ b) * (c @ leave)}
    for group in found:
        assert group / total == pytest.approx(through[group.size] / whole, rel=1e-5)


def test_tables_flow_alike_whatever_is_looked_up() -> None:
    net = Net(seed=3)
    tokens = net.input(1, 4, kind=7)
    x = net.dense(net.add("Gather", net.weight(11, 6), tokens), 8, 6)
    proto = net.done(net.dense(net.add("Relu", x), 3, 8))
    totals = [flowing(proto, x0=np.full((1, 4), number))[0] for number in (0, 7)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6) and totals[0] > 0


def test_a_decision_ends_the_flow() -> None:
    net = Net(seed=3)
    x = net.add("Relu", net.gemm(net.input(1, 6), 8, 6))
    total, found = flowing(net.done(net.add("ArgMax", net.gemm(x, 4, 8), axis=1)))
    assert found[0].sum() == pytest.approx(total, rel=1e-5)


def test_the_flow_keeps_names() -> None:
    proto = NETWORKS["conv"]()
    flow = flow_of(proto, [value.name for value in proto.graph.input], {})
    made = {name for node in flow.proto.graph.node for name in node.output}
    assert {name for node in proto.graph.node for name in node.output} <= made
    Session(flow.proto.SerializeToString(), (CPU,)).run(ones(proto))


def test_several_sides_without_a_formula_are_refused_by_name() -> None:
    net = Net()
    x = net.input(3, 1, 6)
    hidden = net.many(
        "LSTM", 2, x, net.weight(1, 16, 6), net.weight(1, 16, 4), "", "", net.input(1, 1, 4), hidden_size=4
    )
    y = net.add("Relu", net.dense(net.add("Squeeze", hidden[0], net.constant([1])), 8, 4))
    with pytest.raises(ModelError, match=r"LSTM.*several sides"):
        prune(net.done(net.dense(y, 3, 8)), ratio=0.2, method="synflow", refit="off")


def test_without_data_the_same_comes_again_and_no_group_dies() -> None:
    proto = chain(6)
    results = [prune(proto, ratio=0.9, method="synflow", refit="off", best_effort=True) for _ in range(2)]
    assert results[0].plan == results[1].plan
    assert all(group.kept for group in results[0].plan.groups)
    assert results[0].report["data"] is None
    for refit in ("on", "auto"):
        assert prune(proto, ratio=0.5, method="synflow", refit=refit).report["refit"]
    with pytest.raises(UsageError, match="as a whole"):
        prune(proto, ratio=0.5, method="synflow", layer_order="forward")
