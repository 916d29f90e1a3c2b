"""Cases of normalisations: per channel they are pointwise; over channels they hold what they mix."""

from collections.abc import Callable
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto, helper

from cases.case import Case, chain, row
from onnxprune.ops.trace import Opened

__all__ = ["CASES"]


def _batch(net: Net, x: str) -> str:
    positive = net.constant(net.rng.random(6) + 0.5, np.float32)
    return net.add("BatchNormalization", x, net.weight(6), net.weight(6), net.weight(6), positive)


def _batch_of_rows() -> ModelProto:
    """Over (n, 6), as behind a fully connected layer."""
    net = Net()
    x = net.input("n", 3)
    return net.done(net.gemm(_batch(net, net.gemm(x, 6, 3)), 2, 6))


def _batch_of_input() -> ModelProto:
    """The input's own channels cannot go, and so cannot the parameters that act on them."""
    net = Net()
    x = net.input("n", 6, 4, 4)
    return net.done(net.conv(net.add("Relu", net.conv(_batch(net, x), 5, 6)), 2, 5))


def _batch_per_position(net: Net, x: str) -> str:
    """Parameters for every position, as the oldest form had them."""
    positive = net.constant(net.rng.random((6, 6, 6)) + 0.5, np.float32)
    return net.add("BatchNormalization", x, *(net.weight(6, 6, 6) for _ in range(3)), positive, spatial=0)


def _instance(net: Net, x: str) -> str:
    return net.add("InstanceNormalization", x, net.weight(6), net.weight(6))


def _instance_of_groups(net: Net, x: str) -> str:
    """GroupNorm as PyTorch exports it: two groups of three channels become the channels of an InstanceNormalization."""
    seen = net.add("Reshape", x, net.constant([0, 2, -1]))
    ones, zeros = net.constant(np.ones(2), "f"), net.constant(np.zeros(2), "f")
    normal = net.add("InstanceNormalization", seen, ones, zeros)
    back = net.add("Reshape", normal, net.constant([0, 6, 6, 6]))
    return net.add("Add", net.add("Mul", back, net.weight(6, 1, 1)), net.weight(6, 1, 1))


def _instance_over_features() -> ModelProto:
    """Channels along an axis over which the statistics are taken."""
    net = Net()
    x = net.input("n", 5, 3)
    hidden = net.add("InstanceNormalization", net.dense(x, 6, 3), net.weight(5), net.weight(5))
    return net.done(net.dense(hidden, 2, 6))


def _layer(operator: str, opset: int, inputs: int, *, axis: int = -1, size: int = 6) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 5, 3)
        hidden = net.dense(x, 6, 3)
        shape = (size,) if axis == -1 else (5, size)
        parameters = [net.weight(*shape) for _ in range(inputs)]
        return net.done(net.dense(net.add(operator, hidden, *parameters, axis=axis), 2, 6))

    return make


def _layer_over_positions() -> ModelProto:
    """Normalised over positions, channel by channel."""
    net = Net()
    x = net.input("n", 5, 3)
    turned = net.add("Transpose", net.dense(x, 6, 3), perm=[0, 2, 1])
    normal = net.add("LayerNormalization", turned, net.weight(5), net.weight(5))
    return net.done(net.add("MatMul", net.weight(2, 6), normal))


def _skip_layer() -> ModelProto:
    net = Net()
    x = net.input("n", 5, 3)
    first, second = net.dense(x, 6, 3), net.dense(x, 6, 3)
    made = net.add("SkipLayerNormalization", first, second, net.weight(6), net.weight(6), domain="com.microsoft")
    model = net.done(net.dense(made, 2, 6))
    model.graph.value_info.append(helper.make_tensor_value_info(made, 1, ["n", 5, 6]))
    return model


def _simplified() -> ModelProto:
    net = Net()
    x = net.input("n", 5, 3)
    made = net.add("SimplifiedLayerNormalization", net.dense(x, 6, 3), net.weight(6), axis=-1, epsilon=1e-5)
    model = net.done(net.dense(made, 2, 6))
    model.graph.value_info.append(helper.make_tensor_value_info(made, 1, ["n", 5, 6]))
    return model


def _group(count: int) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        return net.add("GroupNormalization", x, net.weight(6), net.weight(6), num_groups=count)

    return chain(middle, opset=21)


def _along(operator: str, opset: int = 17, **attributes: Any) -> Callable[[], ModelProto]:
    """The channels lie along the last of three axes."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 5, 3)
        return net.done(net.dense(net.add(operator, net.dense(x, 6, 3), **attributes), 2, 6))

    return make


def _mean(net: Net, x: str, axes: list[int]) -> str:
    return net.add("ReduceMean", x, net.constant(axes)) if net.opset >= 18 else net.add("ReduceMean", x, axes=axes)


def _spelled_layer(opset: int, axes: list[int], *, centred: bool = True) -> Callable[[], ModelProto]:
    """LayerNormalization, or the root mean square alone, as exporters wrote them before there was an operator."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 5, 3)
        hidden = net.dense(x, 6, 3)
        middle = net.add("Sub", hidden, _mean(net, hidden, axes)) if centred else hidden
        spread = _mean(net, net.add("Pow", middle, net.constant(2.0, "f")), axes)
        root = net.add("Sqrt", net.add("Add", spread, net.constant(1e-6, "f")))
        normal = net.add("Div", middle, root) if centred else net.add("Mul", middle, net.add("Reciprocal", root))
        return net.done(net.dense(net.add("Add", net.add("Mul", normal, net.weight(6)), net.weight(6)), 2, 6))

    return make


def _one_group_of_positions(net: Net, x: str) -> str:
    """GroupNormalization of one group as exporters write it: channels and positions become one axis."""
    seen = net.add("Reshape", x, net.constant([0, 1, -1]))
    normal = net.add("InstanceNormalization", seen, net.constant(np.ones(1), "f"), net.constant(np.zeros(1), "f"))
    back = net.add("Reshape", normal, net.constant([0, 6, 6, 6]))
    return net.add("Add", net.add("Mul", back, net.weight(6, 1, 1)), net.weight(6, 1, 1))


def _in_stream() -> ModelProto:
    """A residual stream under two normalisations, as in transformers before a head."""
    net = Net()
    x = net.input("n", 5, 3)
    stream = net.dense(x, 8, 3)
    normal = net.add("LayerNormalization", stream, net.weight(8), net.weight(8), axis=-1)
    wide = net.add("Relu", net.dense(normal, 6, 8))
    stream = net.add("Add", stream, net.dense(wide, 8, 6))
    return net.done(net.dense(net.add("LayerNormalization", stream, net.weight(8), net.weight(8), axis=-1), 2, 8))


_OPENED = Opened(normalized=True)
_HELD = (("NORMALIZED", 6),)
_MIXED = (("MIXED", 6),)

CASES: tuple[Case, ...] = (
    Case(row("BatchNormalization"), "pictures", chain(_batch), (6,)),
    Case(row("BatchNormalization"), "pictures, opset 9", chain(_batch, opset=9), (6,)),
    Case(row("BatchNormalization"), "per position, opset 7", chain(_batch_per_position, opset=7), (6,)),
    Case(row("BatchNormalization"), "rows", _batch_of_rows, (6,)),
    Case(row("BatchNormalization"), "of the input", _batch_of_input, (5,)),
    Case(row("InstanceNormalization"), "pictures", chain(_instance), (6,)),
    Case(row("InstanceNormalization"), "groups of channels", chain(_instance_of_groups), (2,)),
    Case(row("InstanceNormalization"), "one group", chain(_one_group_of_positions), (), _HELD),
    Case(row("InstanceNormalization"), "one group, opened", chain(_one_group_of_positions), (6,), opened=_OPENED),
    Case(row("InstanceNormalization"), "groups, opened", chain(_instance_of_groups), (2,), opened=_OPENED),
    Case(row("InstanceNormalization"), "over features, opened", _instance_over_features, (6,), opened=_OPENED),
    Case(row("InstanceNormalization"), "over features", _instance_over_features, (), _HELD),
    Case(row("LayerNormalization"), "over channels", _layer("LayerNormalization", 17, 2), (), _HELD),
    Case(row("LayerNormalization"), "without bias", _layer("LayerNormalization", 17, 1), (), _HELD),
    Case(row("LayerNormalization"), "over all axes", _layer("LayerNormalization", 17, 2, axis=1), (), _HELD),
    Case(row("LayerNormalization"), "over positions", _layer_over_positions, (6,)),
    Case(row("LayerNormalization"), "opened", _layer("LayerNormalization", 17, 2), (6,), opened=_OPENED),
    Case(row("LayerNormalization"), "all, opened", _layer("LayerNormalization", 17, 2, axis=1), (6,), opened=_OPENED),
    Case(row("LayerNormalization"), "without bias, opened", _layer("LayerNormalization", 18, 1), (6,), opened=_OPENED),
    Case(row("LayerNormalization"), "stream", _in_stream, (6,), (("NORMALIZED", 8),)),
    Case(row("LayerNormalization"), "stream, opened", _in_stream, (6, 8), opened=_OPENED),
    *(
        case
        for opset in (11, 18)
        for centred in (True, False)
        for make in (_spelled_layer(opset, [-1], centred=centred),)
        for name in (f"{'standard' if centred else 'root mean square'}, {opset}",)
        for case in (
            Case(row("ReduceMean"), name, make, (), _HELD),
            Case(row("ReduceMean"), f"{name}, opened", make, (6,), scaled=False, opened=_OPENED),
        )
    ),
    Case(row("ReduceMean"), "both axes, opened", _spelled_layer(17, [1, 2]), (6,), scaled=False, opened=_OPENED),
    Case(row("RMSNormalization"), "opened", _layer("RMSNormalization", 23, 1), (6,), opened=_OPENED),
    Case(row("SimplifiedLayerNormalization"), "opened", _simplified, (6,), opened=_OPENED),
    Case(row("RMSNormalization"), "over channels", _layer("RMSNormalization", 23, 1), (), _HELD),
    Case(row("SimplifiedLayerNormalization"), "over channels", _simplified, (), _HELD),
    Case(row("SkipLayerNormalization", domain="com.microsoft"), "over channels", _skip_layer, (), _HELD * 2),
    Case(row("GroupNormalization"), "two groups", _group(2), (2,)),
    Case(row("GroupNormalization"), "three groups", _group(3), (3,)),
    Case(row("GroupNormalization"), "a group per channel", _group(6), (6,)),
    Case(row("GroupNormalization"), "one group", _group(1), (), _HELD),
    Case(row("GroupNormalization"), "one group, opened", _group(1), (6,), opened=_OPENED),
    *(
        case
        for name in ("Softmax", "LogSoftmax", "Hardmax")
        for case in (
            Case(row(name), "last axis", _along(name), (), _MIXED),
            Case(row(name), "positions", _along(name, axis=-2), (6,)),
            Case(row(name), "opset 11, from axis 1 on", _along(name, 11), (), _MIXED),
            Case(row(name), "opset 11, last axis", _along(name, 11, axis=2), (), _MIXED),
        )
    ),
    Case(row("LRN"), "over neighbours", chain(lambda n, x: n.add("LRN", x, size=3)), (), _MIXED),
    Case(
        row("MeanVarianceNormalization"),
        "per channel",
        chain(lambda n, x: n.add("MeanVarianceNormalization", x, axes=[2, 3])),
        (6,),
    ),
    Case(
        row("MeanVarianceNormalization"),
        "over channels",
        chain(lambda n, x: n.add("MeanVarianceNormalization", x, axes=[1, 2, 3])),
        (),
        _HELD,
    ),
    Case(row("LpNormalization"), "over channels", _along("LpNormalization"), (6,), scaled=False),
    Case(row("LpNormalization"), "over channels, absolute", _along("LpNormalization", p=1), (6,), scaled=False),
    Case(row("LpNormalization"), "over positions", _along("LpNormalization", axis=1), (6,)),
)
