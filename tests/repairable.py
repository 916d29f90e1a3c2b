"""Networks whose every second channel repeats the one before it: solved anew, readers lose nothing without it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from onnxprune.analysis import analyse
from onnxprune.graph import io
from onnxprune.rewrite import GroupPlan, Plan

__all__ = ["NETWORKS", "halved"]


class _Pairs(Net):
    """Weights come in pairs along the axis of what they make, other than those of outputs of the network."""

    def pairs(self, *shape: int, axis: int = 0) -> str:
        value = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape) / shape[axis])
        return self.constant(np.repeat(np.take(value, range(0, shape[axis], 2), axis), 2, axis), np.float32)

    def own(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape), np.float32)

    def convolution(self, x: str, made: int, read: int, kernel: Sequence[int], last: bool = False, **more: Any) -> str:
        shape = (made, read // more.get("group", 1), *kernel)
        weight = self.own if last else self.pairs
        return self.add("Conv", x, weight(*shape), weight(made), kernel_shape=list(kernel), **more)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def normalised(self, x: str, width: int) -> str:
        positive = np.repeat(self.rng.uniform(0.5, 2.0, (2, width // 2)), 2, axis=1)
        scale, variance = (self.constant(value, np.float32) for value in positive)
        return self.add("BatchNormalization", x, scale, self.pairs(width), self.pairs(width), variance)


def _gemm() -> ModelProto:
    net = _Pairs()
    x = net.relu(net.add("Gemm", net.input("n", 6), net.pairs(6, 8, axis=1), net.pairs(8)))
    x = net.relu(net.add("Gemm", x, net.pairs(8, 8), net.pairs(8), transB=1))
    return net.done(net.add("Gemm", x, net.own(8, 3), net.own(3)))


def _matmul() -> ModelProto:
    """One followed by Add, one that gets an Add, and one that is an output."""
    net = _Pairs()
    x = net.relu(net.add("MatMul", net.input("n", 5, 6), net.pairs(6, 8, axis=1)))
    x = net.relu(net.add("Add", net.pairs(8), net.add("MatMul", x, net.pairs(8, 8, axis=1))))
    x = net.relu(net.add("MatMul", x, net.pairs(8, 8, axis=1)))
    return net.done(net.add("MatMul", x, net.own(8, 3)))


def _conv() -> ModelProto:
    net = _Pairs()
    x = net.relu(net.convolution(net.input("n", 3, 9, 8), 8, 3, (3, 3), pads=[1, 1, 1, 1]))
    x = net.relu(net.convolution(x, 8, 8, (3, 2), strides=[2, 1], dilations=[1, 2], pads=[1, 0, 0, 1]))
    return net.done(net.convolution(x, 3, 8, (2, 2), last=True, auto_pad="SAME_LOWER"))


def _grouped() -> ModelProto:
    net = _Pairs()
    x = net.relu(net.convolution(net.input("n", 3, 7, 7), 8, 3, (3, 3)))
    x = net.relu(net.convolution(x, 8, 8, (3, 3), group=2))
    return net.done(net.convolution(x, 3, 8, (1, 1), last=True))


def _transposed() -> ModelProto:
    net = _Pairs()
    x = net.relu(net.convolution(net.input("n", 3, 5, 5), 8, 3, (3, 3)))
    x = net.relu(net.add("ConvTranspose", x, net.pairs(8, 8, 3, 3, axis=1), strides=[2, 2], pads=[1, 1, 0, 0]))
    return net.done(net.add("ConvTranspose", x, net.own(8, 2, 2, 2), net.own(2)))


def _flattened() -> ModelProto:
    net = _Pairs()
    x = net.relu(net.convolution(net.input("n", 3, 5, 4), 8, 3, (3, 3)))
    return net.done(net.add("Gemm", net.add("Flatten", x), net.own(48, 3), net.own(3)))


def _joined() -> ModelProto:
    net = _Pairs()
    start = net.input("n", 3, 6, 6)
    one, two = (net.relu(net.convolution(start, width, 3, (3, 3))) for width in (4, 6))
    return net.done(net.convolution(net.add("Concat", one, two, axis=1), 3, 10, (2, 2), last=True))


def _residual() -> ModelProto:
    """A stream that two blocks are added to, the second behind a BatchNormalization that stays."""
    net = _Pairs()
    stream = net.convolution(net.input("n", 3, 6, 6), 8, 3, (3, 3), pads=[1, 1, 1, 1])
    for number in range(2):
        inner = net.relu(net.normalised(net.convolution(net.relu(stream), 6, 8, (3, 3), pads=[1] * 4), 6))
        made = net.convolution(inner, 8, 6, (1, 1))
        stream = net.add("Add", stream, net.normalised(made, 8) if number else made)
    pooled = net.add("Flatten", net.add("GlobalAveragePool", net.relu(stream)))
    return net.done(net.add("Gemm", pooled, net.own(8, 3), net.own(3)))


def _branches() -> ModelProto:
    """Two branches that are read together, from one group that both read, and a third one that is deeper."""
    net = _Pairs()
    x = net.relu(net.convolution(net.input("n", 3, 7, 7), 8, 3, (3, 3)))
    one, two = (net.relu(net.convolution(x, 8, 8, kernel)) for kernel in ((1, 1), (3, 3)))
    three = net.relu(net.convolution(two, 8, 8, (1, 1)))
    parts = [net.convolution(one, 8, 8, (3, 3)), *(net.convolution(branch, 8, 8, (1, 1)) for branch in (two, three))]
    x = net.relu(net.add("Add", net.add("Add", *parts[:2]), parts[2]))
    return net.done(net.convolution(x, 3, 8, (1, 1), last=True))


NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "gemm": _gemm,
    "matmul": _matmul,
    "conv": _conv,
    "grouped": _grouped,
    "transposed": _transposed,
    "flattened": _flattened,
    "joined": _joined,
    "residual": _residual,
    "branches": _branches,
}


def halved(proto: ModelProto, method: str = "auto") -> Plan:
    """The plan that keeps the first of every two channels."""
    groups = analyse(io.from_proto(proto)).coupling.groups
    return Plan("", tuple(GroupPlan(g.name, g.size, tuple(range(0, g.size, 2))) for g in groups), {"method": method})
