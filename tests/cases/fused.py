"""Cases of operators that onnxruntime contributes: what its optimizer fuses several nodes into."""

from collections.abc import Callable
from typing import Any

import numpy as np
from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]

_DOMAIN = "com.microsoft"


def _row(operator: str) -> tuple[str, str, int]:
    return row(operator, domain=_DOMAIN)


def _plain(operator: str, **attributes: Any) -> Callable[[Net, str], str]:
    return lambda net, x: net.add(operator, x, domain=_DOMAIN, **attributes)


def _dense(
    middle: Callable[[Net, str], str], *, made: int = 6, read: int = 6, opset: int = 17
) -> Callable[[], ModelProto]:
    """A layer on sequences, some operators, and a layer that reads them."""

    def make() -> ModelProto:
        net = Net(opset)
        hidden = net.dense(net.input("n", 5, 3), made, 3)
        return net.done(net.dense(middle(net, hidden), 2, read))

    return make


def _with(operator: str, *shape: int, also: bool = False) -> Callable[[Net, str], str]:
    """With a bias, and perhaps with what another layer writes."""

    def middle(net: Net, x: str) -> str:
        more = [net.dense(x, 6, 6)] if also else []
        return net.add(operator, x, net.weight(*shape), *more, domain=_DOMAIN)

    return middle


def _gated(net: Net, x: str) -> str:
    return net.add("GatedAdd", x, net.dense(x, 6, 6), net.dense(x, 1, 6), domain=_DOMAIN)


def _convolved(*, bias: bool = True, added: str = "", group: int = 1) -> Callable[[], ModelProto]:
    """A convolution with its activation, and a shortcut that is added before it."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 3, 4, 4) if added != "input" else net.input("n", 8, 4, 4)
        hidden = net.add("Relu", net.conv(x, 8, 3 if added != "input" else 8))
        more = [net.weight(8) if bias else ""]
        if added:
            more.append(x if added == "input" else hidden)
        made = net.add(
            "FusedConv",
            hidden,
            net.weight(8, 8 // group, 3, 3),
            *more,
            domain=_DOMAIN,
            activation="LeakyRelu",
            activation_params=[0.1],
            pads=[1] * 4,
            kernel_shape=[3, 3],
            group=group,
        )
        return net.done(net.conv(made, 4, 8))

    return make


def _gemm(*, trans_b: int = 0) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net()
        hidden = net.gemm(net.input("n", 3), 6, 3)
        weight = net.weight(5, 6) if trans_b else net.weight(6, 5)
        made = net.add("FusedGemm", hidden, weight, net.weight(5), domain=_DOMAIN, activation="Relu", transB=trans_b)
        return net.done(net.gemm(made, 2, 5))

    return make


def _multiplied(operator: str = "FusedMatMul", *, trans: int = 0, bias: bool = False, **more: Any) -> Any:
    """A layer's product with a weight."""

    def middle(net: Net, x: str) -> str:
        weight = net.weight(7, 6) if trans else net.weight(6, 7)
        biases = [net.weight(7)] if bias else []
        named = {"alpha": 0.5, "transB": 1} if trans else {}
        return net.add(operator, x, weight, *biases, domain=_DOMAIN, **named, **more)

    return _dense(middle, read=7)


def _scores(*, batch: int = 0) -> Callable[[], ModelProto]:
    """Queries times transposed keys, with the heads in front or behind the positions; then times values."""

    def make() -> ModelProto:
        net = Net()
        x = net.input("n", 5, 7)
        query, key, value = (net.add("Reshape", net.dense(x, 12, 7), net.constant([0, 0, 4, 3])) for _ in range(3))
        first = [net.add("Transpose", part, perm=[1, 0, 2, 3] if batch else [0, 2, 1, 3]) for part in (query, key)]
        value = net.add("Transpose", value, perm=[0, 2, 1, 3])
        flags = {"transBatchA": 1, "transBatchB": 1} if batch else {}
        found = net.add("FusedMatMul", *first, domain=_DOMAIN, transB=1, alpha=0.6, **flags)
        mixed = net.add("FusedMatMul", net.add("Softmax", found, axis=-1), value, domain=_DOMAIN)
        merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant([0, 0, 12]))
        return net.done(net.dense(merged, 7, 12))

    return make


def _columns(net: Net, x: str) -> str:
    """The channels are rows of the first factor, which is transposed: (n, 5, 6)' (n, 5, 4) → (n, 6, 4)."""
    other = net.dense(x, 4, 6)
    made = net.add("FusedMatMul", x, other, domain=_DOMAIN, transA=1)
    return net.add("Transpose", made, perm=[0, 2, 1])


def _vector(net: Net, x: str) -> str:
    """A vector that is not to be transposed."""
    made = net.add("FusedMatMul", x, net.weight(6), domain=_DOMAIN)
    return net.add("Mul", x, net.add("Unsqueeze", made, net.constant([-1])))


def _packed_four(*, k: int = 64) -> Callable[[], ModelProto]:
    """Four-bit numbers of a table, in blocks of sixteen."""

    def middle(net: Net, x: str) -> str:
        weight = net.constant(net.rng.integers(0, 256, (6 * k + 1) // 2), np.uint8)
        scales = net.weight(-(-6 * k // 16))
        return net.add("MatMulBnb4", x, weight, scales, domain=_DOMAIN, N=6, K=k, block_size=16, quant_type=1)

    return _dense(middle, made=k)


def _halves(net: Net, x: str) -> str:
    return net.add("BiasSplitGelu", x, net.weight(12), domain=_DOMAIN)


def _normalized(operator: str, *shape: int, skip: bool = False, **attributes: Any) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        more = [net.dense(x, 6, 6)] if skip else []
        return net.add(operator, x, *more, *([net.weight(*shape)] if shape else []), domain=_DOMAIN, **attributes)

    return middle


def _normalized_gate(net: Net, x: str) -> str:
    return net.add("GatedRMSNorm", x, net.weight(6), net.dense(x, 6, 6), domain=_DOMAIN)


def _grouped(operator: str) -> Callable[[], ModelProto]:
    """Pictures with channels last, normalised by groups."""

    def middle(net: Net, x: str) -> str:
        last = net.add("Transpose", x, perm=[0, 2, 3, 1])
        more = [last] if operator == "SkipGroupNorm" else []
        made = net.add(operator, last, net.weight(6), net.weight(6), *more, domain=_DOMAIN, groups=2, activation=1)
        return net.add("Transpose", made, perm=[0, 3, 1, 2])

    return chain(middle)


def _embedded() -> ModelProto:
    """Words, their positions and segments are looked up, added and normalised."""
    net = Net()
    words, segments = net.input("n", 5, kind=6), net.input("n", 5, kind=6)
    tables = [net.weight(9, 6), net.weight(7, 6), net.weight(2, 6), net.weight(6), net.weight(6)]
    made = net.many("EmbedLayerNormalization", 2, words, segments, *tables, domain=_DOMAIN)[0]
    return net.done(net.dense(net.add("Relu", net.dense(made, 5, 6)), 2, 5))


def _widened(net: Net, x: str) -> str:
    wide = net.add("ExpandDims", x, net.constant(-2, np.int32), domain=_DOMAIN)
    return net.add("Squeeze", wide, net.constant([2]))


def _windows(net: Net, x: str) -> str:
    """Maxima of windows of three positions."""
    seen = net.add("UnfoldTensor", x, domain=_DOMAIN, dim=1, size=3, step=1)
    return net.add("ReduceMax", seen, axes=[3], keepdims=0)


def _channel_windows(net: Net, x: str) -> str:
    seen = net.add("UnfoldTensor", x, domain=_DOMAIN, dim=-1, size=3, step=1)
    return net.add("ReduceMax", seen, axes=[3], keepdims=0)


def _padded(net: Net, x: str) -> str:
    return net.add("Pad", x, net.constant([0, 2, 0, 1, 0, 3, 0, 1]), net.constant(0.5, "f"), domain=_DOMAIN)


def _numbered(net: Net, x: str) -> str:
    """A table as wide as the picture, made of numbers."""
    numbers = net.add("Range", net.constant(0, "f"), net.constant(6, "f"), net.constant(1, "f"), domain=_DOMAIN)
    return net.add("Mul", x, net.add("Reshape", numbers, net.constant([6])))


_HELD = (("NORMALIZED", 6),)
_FUSED = _row("FusedMatMul")

CASES: tuple[Case, ...] = (
    *(Case(_row(name), "contributed", chain(_plain(name)), (6,)) for name in ("Gelu", "QuickGelu", "SampleOp")),
    Case(_row("FastGelu"), "without bias", chain(_plain("FastGelu")), (6,)),
    Case(_row("FastGelu"), "with bias", _dense(_with("FastGelu", 6)), (6,)),
    Case(_row("BiasGelu"), "with bias", _dense(_with("BiasGelu", 6)), (6,)),
    Case(_row("ScaledSiLU"), "plain", chain(_plain("ScaledSiLU", alpha=1.5)), (6,), runs=False),
    Case(_row("BiasAdd"), "a shortcut", _dense(_with("BiasAdd", 6, also=True)), (6,), runs=False),
    Case(_row("GatedAdd"), "a shortcut", _dense(_gated), (6,), runs=False),
    Case(_row("FusedConv"), "activation", _convolved(), (8, 8)),
    Case(_row("FusedConv"), "without bias", _convolved(bias=False), (8, 8)),
    Case(_row("FusedConv"), "shortcut", _convolved(added="layer"), (8,)),
    Case(_row("FusedConv"), "shortcut from the input", _convolved(added="input"), (8,), (("GRAPH_INPUT", 8),)),
    Case(_row("FusedConv"), "grouped", _convolved(group=2), (8, 8)),
    Case(_row("FusedGemm"), "activation", _gemm(), (5, 6)),
    Case(_row("FusedGemm"), "transposed weight", _gemm(trans_b=1), (5, 6)),
    Case(_FUSED, "by a weight", _multiplied(), (6, 7)),
    Case(_FUSED, "by a transposed weight", _multiplied(trans=1), (6, 7)),
    Case(_FUSED, "heads", _scores(), (4,), scaled=False),
    Case(_FUSED, "heads behind positions", _scores(batch=1), (4,), scaled=False),
    Case(_FUSED, "channels as rows", _dense(_columns, read=6), (6,)),
    Case(_FUSED, "by a vector", _dense(_vector), (6,)),
    Case(_row("TransposeMatMul"), "by a transposed weight", _multiplied("TransposeMatMul", trans=1), (6, 7)),
    Case(
        _row("FusedMatMulActivation"),
        "by a weight",
        _multiplied("FusedMatMulActivation", activation="Relu"),
        (6, 7),
        runs=False,
    ),
    Case(_row("GemmFastGelu"), "with bias", _multiplied("GemmFastGelu", bias=True), (6, 7), runs=False),
    Case(_row("MatMulBnb4"), "whole blocks in a row", _packed_four(), (4, 6), scaled=False),
    Case(_row("MatMulBnb4"), "blocks across rows", _packed_four(k=40), (), (("POSITION", 40),)),
    Case(_row("BiasSplitGelu"), "gate", _dense(_halves, made=12), (6,), runs=False),
    Case(_row("GroupNorm"), "channels last", _grouped("GroupNorm"), (), _HELD, runs=False),
    Case(_row("SkipGroupNorm"), "channels last", _grouped("SkipGroupNorm"), (), _HELD, runs=False),
    Case(
        _row("SkipSimplifiedLayerNormalization"),
        "of a layer",
        _dense(_normalized("SkipSimplifiedLayerNormalization", 6, skip=True)),
        (),
        _HELD * 2,
    ),
    Case(_row("EmbedLayerNormalization"), "words", _embedded, (5,)),
    Case(_row("GatedRMSNorm"), "of a layer", _dense(_normalized_gate), (), _HELD * 2, runs=False),
    Case(_row("BranchwiseRMSNorm"), "of a layer", _dense(_normalized("BranchwiseRMSNorm", 6)), (), _HELD, runs=False),
    Case(_row("ExpandDims"), "and back", _dense(_widened), (6,)),
    Case(_row("UnfoldTensor"), "positions", _dense(_windows), (6,)),
    Case(_row("UnfoldTensor"), "channels", _dense(_channel_windows, read=4), (), (("POSITION", 6),)),
    Case(_row("Pad"), "channels and positions", chain(_padded, read=11), (2, 3, 6)),
    Case(_row("Range"), "over positions", chain(_numbered), (6,)),
)
