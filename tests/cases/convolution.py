"""Cases of Conv and ConvTranspose."""

from collections.abc import Callable
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]


def _spatial(rank: int, operator: str, **more: Any) -> Callable[[], ModelProto]:
    """Two layers over `rank` spatial axes."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3, *[5] * rank)
        shape = (6, 3) if operator == "Conv" else (3, 6)
        kernel = [3, 2, 2][:rank]
        hidden = net.add("Relu", net.add(operator, x, net.weight(*shape, *kernel), net.weight(6), **more))
        shape = (4, 6) if operator == "Conv" else (6, 4)
        return net.done(net.add(operator, hidden, net.weight(*shape, *kernel), net.weight(4), **more))

    return make


def _between(
    operator: str, shape: tuple[int, ...], *, made: int = 6, bias: int = 0, **more: Any
) -> Callable[[], ModelProto]:
    """Writer of six channels, the operator with a weight of this shape, reader of `made`."""

    def middle(net: Net, x: str) -> str:
        parameters = [net.weight(*shape)] + ([net.weight(bias)] if bias else [])
        return net.add("Relu", net.add(operator, net.add("Sigmoid", x), *parameters, **more))

    return chain(middle, read=made)


def _depthwise_of_input() -> ModelProto:
    """The channels of the network's input are no channels that can go, nor is what a depthwise layer makes of them."""
    net = Net()
    x = net.input("n", 6, 4, 4)
    hidden = net.add("Conv", x, net.weight(12, 1, 3, 3), net.weight(12), group=6)
    return net.done(net.conv(hidden, 4, 12))


def _grouped_of_input() -> ModelProto:
    net = Net()
    x = net.input("n", 6, 4, 4)
    hidden = net.add("Conv", x, net.weight(8, 3, 3, 3), net.weight(8), group=2)
    return net.done(net.conv(hidden, 4, 8))


def _grouped_to_output() -> ModelProto:
    net = Net()
    x = net.input("n", 3, 4, 4)
    return net.done(net.conv(net.conv(x, 6, 3), 4, 6, group=2))


def _computed_weight(operator: str, shape: tuple[int, ...], *, made: int, **more: Any) -> Callable[[], ModelProto]:
    """The weight comes through a Cast."""

    def middle(net: Net, x: str) -> str:
        weight = net.add("Cast", net.constant(net.rng.standard_normal(shape), np.float64), to=1)
        return net.add(operator, x, weight, net.weight(made), **more)

    return chain(middle, read=made)


def _dynamic_weight() -> ModelProto:
    """The weight is computed from the input, per sample."""
    net = Net()
    x = net.input(1, 3, 4, 4)
    hidden = net.add("Relu", net.conv(x, 6, 3))
    pooled = net.add("Flatten", net.add("GlobalAveragePool", x))
    weight = net.add("Reshape", net.gemm(pooled, 30, 3), net.constant([5, 6, 1, 1]))
    return net.done(net.add("Conv", hidden, weight))


def _two_grouped(first: int, second: int) -> Callable[[], ModelProto]:
    """Two grouped convolutions in a row: equal counts in the groups of both."""

    def middle(net: Net, x: str) -> str:
        hidden = net.conv(x, 12, 12, group=first)
        return net.conv(net.add("Relu", hidden), 12, 12, group=second)

    return chain(middle, made=12)


_CONV = row("Conv")
_TRANSPOSE = row("ConvTranspose")


def _over_tokens() -> ModelProto:
    """Tokens are the channels of a convolution whose window of one goes over the features: these stay apart."""
    net = Net()
    x = net.input("n", 5, 3)
    mixed = net.add("Conv", net.dense(x, 6, 3), net.weight(2, 5, 1), net.weight(2), kernel_shape=[1])
    return net.done(net.dense(mixed, 4, 6))


CASES: tuple[Case, ...] = (
    Case(row("Conv"), "over tokens", _over_tokens, (6,)),
    *(Case(_CONV, f"{rank}-d", _spatial(rank, "Conv"), (6,)) for rank in (1, 2, 3)),
    Case(
        _CONV,
        "strides, pads, dilations",
        _spatial(2, "Conv", strides=[2, 1], pads=[1, 2, 1, 2], dilations=[1, 2]),
        (6,),
    ),
    Case(_CONV, "without bias", _between("Conv", (8, 6, 1, 1), made=8), (6, 8)),
    Case(_CONV, "grouped", _between("Conv", (8, 3, 3, 3), made=8, bias=8, group=2), (6, 8)),
    Case(_CONV, "grouped by three, without bias", _between("Conv", (9, 2, 1, 1), made=9, group=3), (6, 9)),
    Case(
        _CONV,
        "grouped, as many made as read by a group",
        _between("Conv", (2, 3, 1, 1), made=2, group=2),
        (6,),
        (("SINGLE", 2),),
    ),
    Case(_CONV, "grouped of the input", _grouped_of_input, (8,)),
    Case(_CONV, "grouped to the output", _grouped_to_output, (6,)),
    Case(_CONV, "grouped twice alike", _two_grouped(3, 3), (12, 12, 12)),
    Case(_CONV, "grouped twice, nested", _two_grouped(2, 4), (12, 12, 12)),
    Case(_CONV, "depthwise", _between("Conv", (6, 1, 3, 3), bias=6, group=6), (6,)),
    Case(_CONV, "depthwise without bias", _between("Conv", (6, 1, 3, 3), group=6), (6,)),
    Case(_CONV, "depthwise, two of each", _between("Conv", (12, 1, 3, 3), made=12, bias=12, group=6), (6,)),
    Case(_CONV, "depthwise of the input", _depthwise_of_input, (), (("GRAPH_INPUT", 12),)),
    Case(_CONV, "weight through a Cast", _computed_weight("Conv", (8, 6, 1, 1), made=8), (6, 8)),
    Case(_CONV, "depthwise weight through a Cast", _computed_weight("Conv", (6, 1, 3, 3), made=6, group=6), (6,)),
    Case(_CONV, "grouped weight through a Cast", _computed_weight("Conv", (8, 3, 1, 1), made=8, group=2), (6, 8)),
    Case(_CONV, "weight computed from the input", _dynamic_weight, (6,), scaled=False),
    *(Case(_TRANSPOSE, f"{rank}-d", _spatial(rank, "ConvTranspose"), (6,)) for rank in (1, 2, 3)),
    Case(
        _TRANSPOSE,
        "strides and output padding",
        _spatial(2, "ConvTranspose", strides=[2, 2], output_padding=[1, 1]),
        (6,),
    ),
    Case(_TRANSPOSE, "without bias", _between("ConvTranspose", (6, 8, 2, 2), made=8), (6, 8)),
    Case(_TRANSPOSE, "grouped", _between("ConvTranspose", (6, 4, 2, 2), made=8, bias=8, group=2), (6, 8)),
    Case(_TRANSPOSE, "depthwise", _between("ConvTranspose", (6, 1, 2, 2), bias=6, group=6, strides=[2, 2]), (6,)),
    Case(
        _TRANSPOSE, "depthwise, two of each", _between("ConvTranspose", (6, 2, 2, 2), made=12, bias=12, group=6), (6,)
    ),
    Case(_TRANSPOSE, "weight through a Cast", _computed_weight("ConvTranspose", (6, 8, 1, 1), made=8), (6, 8)),
    Case(
        _TRANSPOSE,
        "grouped weight through a Cast",
        _computed_weight("ConvTranspose", (6, 4, 1, 1), made=8, group=2),
        (6, 8),
    ),
)
