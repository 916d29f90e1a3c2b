"""Cases of operators on integers that stand for (q − zero) · scale."""

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto

from cases.case import Case, chain, row
from onnxprune.shapes.standins import QONNX

__all__ = ["CASES"]

_MICROSOFT = "com.microsoft"
_RANGES: dict[Any, tuple[int, int]] = {
    np.int8: (-128, 127),
    np.uint8: (0, 255),
    np.int16: (-(1 << 15), (1 << 15) - 1),
    np.uint16: (0, (1 << 16) - 1),
    ml_dtypes.int4: (-8, 7),
    ml_dtypes.uint4: (0, 15),
}


# ---- between floating numbers and integers ---------------------------------------------------------------------------


def _integers(net: Net, shape: Sequence[int], kind: Any) -> NDArray[Any]:
    """Random integers of a type; of floats of eight bits, small numbers."""
    if kind not in _RANGES:
        return net.rng.standard_normal(shape).astype(kind)
    low, high = _RANGES[kind]
    return net.rng.integers(low, high + 1, shape).astype(kind)


def _zeros(net: Net, shape: Sequence[int], kind: Any) -> NDArray[Any]:
    if kind not in _RANGES:
        return np.zeros(shape, dtype=kind)
    low, high = _RANGES[kind]
    middle, spread = (low + high + 1) // 2, max(1, (high - low) // 8)
    return (middle + net.rng.integers(-spread, spread + 1, shape)).astype(kind)


def _scales(net: Net, shape: Sequence[int], kind: Any) -> NDArray[Any]:
    """Scales that spread a type's range over about (−2, 2), no two the same."""
    low, high = _RANGES.get(kind, (-2, 2))
    return ((0.5 + net.rng.random(shape)) * 4 / (high - low)).astype(np.float32)


def _parameters(net: Net, shape: Sequence[int], kind: Any, *, zero: bool = True) -> list[str]:
    scale = net.constant(_scales(net, shape, kind), np.float32)
    return [scale, net.constant(_zeros(net, shape, kind), kind)] if zero else [scale]


def _dequantised(
    net: Net, shape: Sequence[int], scales: Sequence[int] = (), kind: Any = np.int8, domain: str = "", **more: Any
) -> str:
    """A weight stored as integers."""
    stored = net.constant(_integers(net, shape, kind), kind)
    return net.add("DequantizeLinear", stored, *_parameters(net, scales, kind), domain=domain, **more)


def _bias(net: Net, size: int, *, listed: bool, **more: Any) -> str:
    """A bias stored as integers of 32 bits."""
    scales = (size,) if listed else ()
    values = net.constant(net.rng.integers(-200, 200, size), np.int32)
    scale = net.constant(0.005 * (0.5 + net.rng.random(scales)), np.float32)
    return net.add("DequantizeLinear", values, scale, net.constant(np.zeros(scales), np.int32), **more)


def _pair(net: Net, x: str, scales: Sequence[int] = (), kind: Any = np.uint8, domain: str = "", **more: Any) -> str:
    """An activation that is quantised and dequantised."""
    parameters = _parameters(net, scales, kind)
    integers = net.add("QuantizeLinear", x, *parameters, domain=domain, **more)
    return net.add("DequantizeLinear", integers, *parameters, domain=domain, **more)


def _paired(
    scales: Sequence[int] = (), kind: Any = np.uint8, opset: int = 13, domain: str = "", **more: Any
) -> Callable[[], ModelProto]:
    return chain(lambda net, x: _pair(net, x, scales, kind, domain, **more), opset=opset)


def _in_blocks_once(scales: Sequence[int], axis: int, block: int) -> Callable[[], ModelProto]:
    """Scales of as many dimensions as the activation, of a batch of one."""

    def make() -> ModelProto:
        net = Net(21)
        hidden = net.conv(net.input(1, 3, 6, 6), 6, 3)
        return net.done(net.conv(_pair(net, hidden, scales, axis=axis, block_size=block), 4, 6))

    return make


def _without_zero(net: Net, x: str) -> str:
    scale = net.constant(0.02, np.float32)
    return net.add("DequantizeLinear", net.add("QuantizeLinear", x, scale), scale)


def _moved(net: Net, x: str) -> str:
    """Integers are pooled, shuffled and joined."""
    integers = net.add("QuantizeLinear", x, *_parameters(net, (), np.uint8))
    pooled = net.add("MaxPool", integers, kernel_shape=[2, 2])
    turned = net.add("Transpose", net.add("Reshape", pooled, net.constant([0, 2, 3, 25])), perm=[0, 2, 1, 3])
    joined = net.add("Concat", net.add("Reshape", turned, net.constant([0, 6, 5, 5])), pooled, axis=1)
    return net.add("DequantizeLinear", joined, *_parameters(net, (), np.uint8))


def _conv_weight(
    scales: Sequence[int] = (), kind: Any = np.int8, opset: int = 13, domain: str = "", **more: Any
) -> Callable[[], ModelProto]:
    """A convolution of six channels into eight by a weight stored as integers."""

    def middle(net: Net, x: str) -> str:
        weight = _dequantised(net, (8, 6, 1, 1), scales, kind, domain, **more)
        return net.add("Relu", net.add("Conv", x, weight, net.weight(8)))

    return chain(middle, opset=opset, read=8)


def _grouped_weight(
    operator: str, shape: Sequence[int], scales: Sequence[int], *, made: int, group: int, **more: Any
) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        weight = _dequantised(net, shape, scales, **more)
        return net.add("Relu", net.add(operator, x, weight, group=group))

    return chain(middle, read=made)


def _everywhere() -> ModelProto:
    """Weights, biases and activations of a residual block, as quantisers write them."""
    net = Net(13)
    hidden = _pair(net, net.conv(net.input("n", 3, 6, 6), 6, 3))
    weight = _dequantised(net, (8, 6, 3, 3), (8,), axis=0)
    inner = net.add("Conv", hidden, weight, _bias(net, 8, listed=True, axis=0), pads=[1, 1, 1, 1])
    weight = _dequantised(net, (6, 8, 1, 1), (6,), axis=0)
    outer = net.add("Conv", _pair(net, net.add("Relu", inner)), weight, _bias(net, 6, listed=True, axis=0))
    total = _pair(net, net.add("Add", _pair(net, outer), hidden))
    return net.done(net.add("Conv", total, _dequantised(net, (4, 6, 1, 1)), _bias(net, 4, listed=False)))


def _dense(weight: Callable[[Net], str], *, opset: int = 13, size: int = 6, made: int = 8) -> Callable[[], ModelProto]:
    """A MatMul of `size` features into `made` by a weight that `weight` makes."""

    def make() -> ModelProto:
        net = Net(opset)
        hidden = net.add("Relu", net.dense(net.input("n", 5, 3), size, 3))
        hidden = net.add("Sigmoid", net.add("MatMul", hidden, weight(net)))
        return net.done(net.dense(hidden, 2, made))

    return make


def _blocks(
    shape: tuple[int, int], scales: tuple[int, int], axis: int, block: int, kind: Any = ml_dtypes.int4
) -> Callable[[], ModelProto]:
    def weight(net: Net) -> str:
        return _dequantised(net, shape, scales, kind, axis=axis, block_size=block)

    return _dense(weight, opset=21, size=shape[0], made=shape[1])


def _turned(net: Net) -> str:
    return net.add("Transpose", _dequantised(net, (8, 6), (8,), axis=0), perm=[1, 0])


def _reshaped(net: Net) -> str:
    return net.add("Reshape", _dequantised(net, (6, 2, 4), (6,), axis=0), net.constant([6, 8]))


def _requantised(net: Net) -> str:
    """A floating weight that is rounded in the network, as in training for quantisation."""
    return _pair(net, net.weight(6, 8), (8,), np.int8, axis=-1)


def _gemm_weight(net: Net, x: str) -> str:
    flat = net.add("Flatten", net.add("GlobalAveragePool", x))
    weight = _dequantised(net, (8, 6), (8,), axis=-2)
    dense = net.add("Gemm", flat, weight, _bias(net, 8, listed=True, axis=0), transB=1)
    return net.add("Reshape", dense, net.constant([0, 8, 1, 1]))


def _some_bits(operator: str, domain: str, scales: Sequence[int], **more: Any) -> Callable[[], ModelProto]:
    """Weights and activations of QONNX, rounded to three bits."""

    def rounded(net: Net, x: str, sizes: Sequence[int]) -> str:
        bits = [net.constant(0, np.float32), net.constant(3, np.float32)] if operator == "Quant" else []
        scale = net.constant(0.3 + net.rng.random(sizes), np.float32)
        return net.add(operator, x, scale, *bits, domain=domain, **more)

    def middle(net: Net, x: str) -> str:
        hidden = rounded(net, net.add("BatchNormalization", x, *(net.weight(6) for _ in range(3)), _ones(net, 6)), ())
        return net.add("Conv", hidden, rounded(net, net.weight(8, 6, 1, 1), scales), net.weight(8))

    return chain(middle, opset=13, read=8)


def _ones(net: Net, size: int) -> str:
    return net.constant(np.ones(size), np.float32)


def _looked_up() -> ModelProto:
    """A table of integers."""
    net = Net(13)
    table = net.constant(_integers(net, (10, 6), np.int8), np.int8)
    rows = net.add("Gather", table, net.input("n", 4, kind=7))
    hidden = net.add("DequantizeLinear", rows, *_parameters(net, (6,), np.int8), axis=-1)
    return net.done(net.dense(hidden, 3, 6))


def _to_output() -> ModelProto:
    """Integers that the network gives away."""
    net = Net(13)
    hidden = net.conv(net.conv(net.input("n", 3, 4, 4), 6, 3), 4, 6)
    return net.done(net.add("QuantizeLinear", hidden, *_parameters(net, (4,), np.uint8), axis=1))


def _of_input() -> ModelProto:
    """Integers that the network is given."""
    net = Net(13)
    x = net.add("DequantizeLinear", net.input("n", 3, 4, 4, kind=2), *_parameters(net, (3,), np.uint8), axis=1)
    return net.done(net.conv(net.conv(x, 6, 3), 4, 6))


# ---- layers of integers ----------------------------------------------------------------------------------------------


def _quantised(net: Net, x: str, kind: Any = np.uint8) -> list[str]:
    """Integers, their scale and their zero point."""
    parameters = _parameters(net, (), kind)
    return [net.add("QuantizeLinear", x, *parameters), *parameters]


def _linear_conv(
    net: Net, x: Sequence[str], shape: Sequence[int], scales: Sequence[int] = (), *, bias: int = 0, **more: Any
) -> list[str]:
    """Convolution of integers; returns integers, scale and zero point."""
    weight = [net.constant(_integers(net, shape, np.int8), np.int8), *_parameters(net, scales, np.int8)]
    result = [net.constant(0.1, np.float32), net.constant(120, np.uint8)]
    biases = [net.constant(net.rng.integers(-900, 900, bias), np.int32)] if bias else []
    return [net.add("QLinearConv", *x, *weight, *result, *biases, **more), *result]


def _linear_convs(
    shape: Sequence[int], scales: Sequence[int] = (), *, made: int = 8, bias: int = 0, opset: int = 10, **more: Any
) -> Callable[[], ModelProto]:
    """A convolution of integers between two others."""

    def make() -> ModelProto:
        net = Net(opset)
        first = _linear_conv(net, _quantised(net, net.input("n", 3, 6, 6)), (6, 3, 3, 3), (6,), bias=6)
        second = _linear_conv(net, first, shape, scales, bias=bias, **more)
        return net.done(net.add("DequantizeLinear", *_linear_conv(net, second, (4, made, 1, 1))))

    return make


def _computed_kernel() -> ModelProto:
    """The weight of a convolution of integers is computed from the input."""
    net = Net(10)
    x = net.input(1, 3, 4, 4)
    hidden = _linear_conv(net, _quantised(net, x), (6, 3, 1, 1), (6,))
    pooled = net.add("Flatten", net.add("GlobalAveragePool", x))
    kernel = _quantised(net, net.add("Reshape", net.gemm(pooled, 30, 3), net.constant([5, 6, 1, 1])), np.int8)
    result = [net.constant(0.1, np.float32), net.constant(120, np.uint8)]
    y = net.add("QLinearConv", *hidden, *kernel, *result)
    return net.done(net.add("DequantizeLinear", y, *result))


def _conv_integer(*, zeros: bool, listed: bool = False) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        integers, scale, zero = _quantised(net, x)
        weight = net.constant(_integers(net, (8, 6, 1, 1), np.uint8), np.uint8)
        own = net.constant(_zeros(net, (8,) if listed else (), np.uint8), np.uint8)
        if not zeros:
            integers = net.add("QuantizeLinear", x, scale)
        sums = net.add("ConvInteger", integers, weight, *([zero, own] if zeros else []))
        return net.add("Mul", net.add("Cast", sums, to=1), net.constant(0.001, np.float32))

    return chain(middle, opset=13, read=8)


def _linear_matmul(scales: Sequence[int] = (), *, shape: Sequence[int] = (6, 8)) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(10)
        hidden = _quantised(net, net.add("Relu", net.dense(net.input("n", 5, 3), 6, 3)))
        weight = [net.constant(_integers(net, shape, np.int8), np.int8), *_parameters(net, scales, np.int8)]
        result = [net.constant(0.1, np.float32), net.constant(120, np.uint8)]
        y = net.add("DequantizeLinear", net.add("QLinearMatMul", *hidden, *weight, *result), *result)
        return net.done(net.dense(y, 3, 8))

    return make


def _two_activations() -> ModelProto:
    """A product of two activations."""
    net = Net(10)
    x = net.input("n", 5, 3)
    first, second = (_quantised(net, net.dense(x, 6, 3)) for _ in range(2))
    turned = [net.add("Transpose", second[0], perm=[0, 2, 1]), *second[1:]]
    result = [net.constant(0.1, np.float32), net.constant(120, np.uint8)]
    y = net.add("QLinearMatMul", *first, *turned, *result)
    return net.done(net.add("DequantizeLinear", y, *result))


def _dynamic(net: Net, x: str) -> list[str]:
    """Integers, scale and zero point found at run time."""
    return net.many("DynamicQuantizeLinear", 3, x)


def _matmul_integer(zeros: int | None) -> Callable[[], ModelProto]:
    """What a dynamic quantiser writes: of zero points, none, one, or as many as columns."""

    def make() -> ModelProto:
        net = Net(11)
        integers, scale, zero = _dynamic(net, net.add("Relu", net.dense(net.input("n", 5, 3), 6, 3)))
        weight = net.constant(_integers(net, (6, 8), np.int8), np.int8)
        shape = () if zeros == 1 else (8,)
        own = [] if zeros is None else [zero, net.constant(_zeros(net, shape, np.int8), np.int8)]
        sums = net.add("Cast", net.add("MatMulInteger", integers, weight, *own), to=1)
        scales = net.add("Mul", scale, net.constant(_scales(net, shape, np.int8), np.float32))
        return net.done(net.dense(net.add("Mul", sums, scales), 3, 8))

    return make


def _to_float(scales: Sequence[int], *, bias: bool) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(13)
        integers, scale, zero = _dynamic(net, net.add("Relu", net.dense(net.input("n", 5, 3), 6, 3)))
        weight = net.constant(_integers(net, (6, 8), np.int8), np.int8)
        own, zeros = _parameters(net, scales, np.int8)
        more = [net.weight(8)] if bias else []
        y = net.add("MatMulIntegerToFloat", integers, weight, scale, own, zero, zeros, *more, domain=_MICROSOFT)
        return net.done(net.dense(y, 3, 8))

    return make


def _dynamic_matmul(scales: Sequence[int], *, bias: bool) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(13)
        hidden = net.add("Relu", net.dense(net.input("n", 5, 3), 6, 3))
        weight = net.constant(_integers(net, (6, 8), np.int8), np.int8)
        more = [net.weight(8)] if bias else []
        own = _parameters(net, scales, np.int8)
        y = net.add("DynamicQuantizeMatMul", hidden, weight, *own, *more, domain=_MICROSOFT)
        return net.done(net.dense(y, 3, 8))

    return make


def _linear_gemm(
    scales: Sequence[int] = (), *, bias: bool = True, floating: bool = False, **more: Any
) -> Callable[[], ModelProto]:
    def make() -> ModelProto:
        net = Net(13)
        hidden = _quantised(net, net.add("Relu", net.gemm(net.input("n", 3), 6, 3)))
        shape = (8, 6) if more.get("transB") else (6, 8)
        weight = [net.constant(_integers(net, shape, np.int8), np.int8), *_parameters(net, scales, np.int8)]
        added = net.constant(net.rng.integers(-900, 900, 8), np.int32) if bias else ""
        result = [] if floating else [net.constant(0.1, np.float32), net.constant(120, np.uint8)]
        y = net.add("QGemm", *hidden, *weight, added, *result, domain=_MICROSOFT, **more)
        return net.done(net.gemm(y if floating else net.add("DequantizeLinear", y, *result), 3, 8))

    return make


# ---- other operators of integers -------------------------------------------------------------------------------------


def _linear(operator: str, *, branches: int = 1, shape: Sequence[int] = (), **more: Any) -> Callable[[], ModelProto]:
    """An operator of one or two branches of integers; the second has a shape of its own where it is a constant."""

    def middle(net: Net, x: str) -> str:
        parts = [_quantised(net, x)]
        if branches > 1 and shape:
            parts.append([net.constant(_integers(net, shape, np.uint8), np.uint8), *_parameters(net, (), np.uint8)])
        elif branches > 1:
            parts.append(_quantised(net, net.conv("x0", 6, 3)))
        if operator == "QLinearWhere":
            parts.insert(0, [net.add("Greater", net.conv("x0", 6, 3), net.constant(0, np.float32))])
        result = [net.constant(0.03, np.float32), net.constant(120, np.uint8)]
        inputs = [name for part in parts for name in part]
        if operator == "QLinearConcat":
            inputs = [*result, *inputs]
        else:
            inputs += result
        return net.add("DequantizeLinear", net.add(operator, *inputs, domain=_MICROSOFT, **more), *result)

    return chain(middle, opset=13, read=6 * branches if operator == "QLinearConcat" else 6)


def _channels_last(operator: str, **more: Any) -> Callable[[], ModelProto]:
    def middle(net: Net, x: str) -> str:
        integers = _quantised(net, net.add("Transpose", x, perm=[0, 2, 3, 1]))
        result = [net.constant(0.03, np.float32), net.constant(120, np.uint8)]
        y = net.add(operator, *integers, *result, domain=_MICROSOFT, channels_last=1, **more)
        return net.add("Transpose", net.add("DequantizeLinear", y, *result), perm=[0, 3, 1, 2])

    return chain(middle, opset=13)


# ---- weights of a few bits -------------------------------------------------------------------------------------------


def _in_blocks(
    *,
    read: int,
    made: int = 8,
    block: int = 16,
    bits: int = 4,
    zeros: bool = True,
    bias: bool = False,
    flat: bool = False,
) -> Callable[[], ModelProto]:
    """A product with a weight that is stored block by block, several integers to a byte."""

    def make() -> ModelProto:
        net = Net(17)
        blocks = -(-read // block)
        hidden = net.add("Relu", net.dense(net.input("n", 5, 3), read, 3))
        stored = net.rng.integers(0, 256, (made, blocks, block * bits // 8))
        scales = 0.02 + 0.1 * net.rng.random((made, blocks))
        inputs = [hidden, net.constant(stored, np.uint8), net.constant(scales.ravel() if flat else scales, np.float32)]
        points = net.rng.integers(0, 256, (made, -(-blocks * bits // 8)))
        inputs.append(net.constant(points.ravel() if flat else points, np.uint8) if zeros else "")
        inputs += ["", net.weight(made)] if bias else []
        y = net.add("MatMulNBits", *inputs, domain=_MICROSOFT, K=read, N=made, bits=bits, block_size=block)
        return net.done(net.dense(net.add("Sigmoid", y), 3, made))

    return make


_QUANTIZE = row("QuantizeLinear", 10)
_DEQUANTIZE = row("DequantizeLinear", 10)
_CONV = row("QLinearConv", 10)
_CONV_INTEGER = row("ConvInteger", 10)
_MATMUL = row("QLinearMatMul", 10)
_MATMUL_INTEGER = row("MatMulInteger", 10)


def _own(operator: str) -> tuple[str, str, int]:
    return row(operator, domain=_MICROSOFT)


def _case(where: tuple[str, str, int], name: str, make: Callable[[], ModelProto], *groups: int, **more: Any) -> Case:
    """A case of an operator whose integers take no factors."""
    return Case(where, name, make, groups, scaled=False, **more)


CASES: tuple[Case, ...] = (
    *(_case(_QUANTIZE, f"opset {opset}", _paired(opset=opset), 6) for opset in (10, 13, 19, 21, 23)),
    _case(_QUANTIZE, "int8", _paired(kind=np.int8), 6),
    _case(_QUANTIZE, "int16", _paired(kind=np.int16, opset=21), 6),
    _case(_QUANTIZE, "uint16, per channel", _paired((6,), np.uint16, opset=21, axis=1), 6),
    _case(_QUANTIZE, "float of eight bits", _paired(kind=ml_dtypes.float8_e4m3fn, opset=19), 6),
    _case(_QUANTIZE, "per channel", _paired((6,), axis=1), 6),
    _case(_QUANTIZE, "per channel, default axis", _paired((6,)), 6),
    _case(_QUANTIZE, "per channel, negative axis", _paired((6,), axis=-3), 6),
    _case(_QUANTIZE, "a scale as a list of one", _paired((1,), axis=1), 6),
    _case(_QUANTIZE, "per column", _paired((6,), axis=3), 6),
    _case(_QUANTIZE, "in blocks of channels", _in_blocks_once((1, 3, 6, 6), 1, 2), 3),
    _case(_QUANTIZE, "in blocks of columns", _in_blocks_once((1, 6, 6, 2), 3, 3), 6),
    _case(_QUANTIZE, "one block", _in_blocks_once((1, 1, 6, 6), -3, 8), 6),
    _case(_QUANTIZE, "without a zero point", chain(_without_zero), 6),
    _case(_QUANTIZE, "pooled, shuffled and joined", chain(_moved, opset=13, read=12), 3),
    _case(_QUANTIZE, "of a weight", _dense(_requantised), 6, 8),
    _case(_QUANTIZE, "to the output", _to_output, 6),
    *(
        _case(row(operator, domain=domain), f"{name}, {domain}", _some_bits(operator, domain, scales, **more), 6, 8)
        for domain in QONNX
        for operator in ("Quant", "BipolarQuant")
        for name, scales, more in (
            ("per tensor", (), {"narrow": 1, "signed": 1} if operator == "Quant" else {}),
            ("per channel", (8, 1, 1, 1), {"signed": 0} if operator == "Quant" else {}),
        )
    ),
    _case(_DEQUANTIZE, "of the input", _of_input, 6),
    _case(_DEQUANTIZE, "opset 10", _conv_weight(opset=10), 6, 8),
    _case(_DEQUANTIZE, "per channel", _conv_weight((8,), axis=0), 6, 8),
    _case(_DEQUANTIZE, "per channel, negative axis", _conv_weight((8,), axis=-4), 6, 8),
    _case(_DEQUANTIZE, "per channel that is read", _conv_weight((6,)), 6, 8),
    *(
        _case(_DEQUANTIZE, f"{np.dtype(kind)}, opset {opset}", _conv_weight((8,), kind, opset, axis=0), 6, 8)
        for kind, opset in (
            (np.uint8, 19),
            (np.int16, 21),
            (np.uint16, 21),
            (ml_dtypes.int4, 21),
            (ml_dtypes.uint4, 21),
            (ml_dtypes.float8_e4m3fn, 19),
            (ml_dtypes.float8_e5m2, 21),
            (np.int8, 23),
        )
    ),
    _case(_DEQUANTIZE, "everywhere", _everywhere, 6, 8),
    _case(_DEQUANTIZE, "through a Transpose", _dense(_turned), 6, 8),
    _case(_DEQUANTIZE, "through a Reshape", _dense(_reshaped), 4, 6),
    _case(_DEQUANTIZE, "Gemm with a bias", chain(_gemm_weight, opset=13, read=8), 6, 8),
    _case(_DEQUANTIZE, "a table", _looked_up, 6),
    _case(_DEQUANTIZE, "depthwise", _grouped_weight("Conv", (6, 1, 3, 3), (6,), made=6, group=6, axis=0), 6),
    _case(_DEQUANTIZE, "grouped", _grouped_weight("Conv", (8, 3, 3, 3), (8,), made=8, group=2, axis=0), 6, 8),
    _case(_DEQUANTIZE, "grouped, per tensor", _grouped_weight("Conv", (9, 2, 1, 1), (), made=9, group=3), 6, 9),
    _case(
        _DEQUANTIZE,
        "grouped, per channel that is read",
        _grouped_weight("Conv", (8, 3, 1, 1), (3,), made=8, group=2, axis=1),
        3,
        8,
    ),
    _case(
        _DEQUANTIZE, "grouped, transposed", _grouped_weight("ConvTranspose", (6, 4, 2, 2), (), made=8, group=2), 6, 8
    ),
    _case(
        _DEQUANTIZE,
        "transposed convolution",
        _grouped_weight("ConvTranspose", (6, 8, 2, 2), (8,), made=8, group=1, axis=1),
        6,
        8,
    ),
    _case(_DEQUANTIZE, "blocks that are read", _blocks((6, 8), (3, 8), 0, 2), 3, 8),
    _case(
        _DEQUANTIZE,
        "blocks that are read, the last one shorter",
        _blocks((7, 8), (4, 8), 0, 2),
        3,
        8,
        pins=(("SINGLE", 1),),
    ),
    _case(_DEQUANTIZE, "blocks that are made", _blocks((6, 9), (6, 3), -1, 3), 3, 6),
    _case(_DEQUANTIZE, "blocks of int8", _blocks((6, 8), (2, 8), -2, 3, np.int8), 2, 8),
    _case(_DEQUANTIZE, "one block", _blocks((5, 7), (1, 7), 0, 16, ml_dtypes.uint4), 5, 7),
    _case(_own("QuantizeLinear"), "per tensor", _paired(domain=_MICROSOFT), 6),
    _case(_own("QuantizeLinear"), "per channel", _paired((6,), domain=_MICROSOFT, axis=1), 6),
    _case(_own("QuantizeLinear"), "int16", _paired(kind=np.int16, domain=_MICROSOFT), 6),
    _case(_own("DequantizeLinear"), "per channel", _conv_weight((8,), domain=_MICROSOFT, axis=0), 6, 8),
    _case(_own("DequantizeLinear"), "int4", _conv_weight((8,), ml_dtypes.int4, 17, _MICROSOFT, axis=0), 6, 8),
    _case(_CONV, "per tensor", _linear_convs((8, 6, 1, 1)), 6, 8),
    _case(_CONV, "per channel", _linear_convs((8, 6, 3, 3), (8,), bias=8, pads=[1, 1, 1, 1], opset=13), 6, 8),
    _case(_CONV, "grouped", _linear_convs((8, 3, 1, 1), (8,), bias=8, group=2), 6, 8),
    _case(_CONV, "depthwise", _linear_convs((6, 1, 3, 3), (6,), bias=6, group=6, made=6), 6),
    _case(_CONV, "weight computed from the input", _computed_kernel, 6),
    _case(_CONV_INTEGER, "zero points", _conv_integer(zeros=True), 6, 8),
    _case(_CONV_INTEGER, "a zero point per channel", _conv_integer(zeros=True, listed=True), 6, 8, runs=False),
    _case(_CONV_INTEGER, "without zero points", _conv_integer(zeros=False), 6, 8),
    _case(_MATMUL, "per tensor", _linear_matmul(), 6, 8),
    _case(_MATMUL, "per column", _linear_matmul((8,)), 6, 8),
    _case(_MATMUL, "per column, as a table", _linear_matmul((1, 8)), 6, 8),
    _case(_MATMUL, "two activations", _two_activations, 6),
    _case(_MATMUL_INTEGER, "zero points", _matmul_integer(1), 6, 8),
    _case(_MATMUL_INTEGER, "a zero point per column", _matmul_integer(8), 6, 8),
    _case(row("DynamicQuantizeLinear", 11), "read by a layer", _matmul_integer(1), 6, 8),
    _case(_own("MatMulIntegerToFloat"), "per tensor", _to_float((), bias=False), 6, 8),
    _case(_own("MatMulIntegerToFloat"), "per column, with a bias", _to_float((8,), bias=True), 6, 8),
    _case(_own("DynamicQuantizeMatMul"), "per tensor", _dynamic_matmul((), bias=False), 6, 8),
    _case(_own("DynamicQuantizeMatMul"), "per column, with a bias", _dynamic_matmul((8,), bias=True), 6, 8),
    _case(_own("QGemm"), "per tensor", _linear_gemm(), 6, 8),
    _case(_own("QGemm"), "per column, transposed", _linear_gemm((8,), transB=1), 6, 8),
    _case(_own("QGemm"), "without a bias, alpha", _linear_gemm((8,), bias=False, alpha=0.5), 6, 8),
    _case(_own("QGemm"), "floating result", _linear_gemm((8,), floating=True), 6, 8),
    _case(_own("QLinearAdd"), "two branches", _linear("QLinearAdd", branches=2), 6),
    _case(_own("QLinearAdd"), "a constant", _linear("QLinearAdd", branches=2, shape=(6, 1, 1)), 6),
    _case(_own("QLinearMul"), "two branches", _linear("QLinearMul", branches=2), 6),
    _case(_own("QLinearMul"), "a constant", _linear("QLinearMul", branches=2, shape=(1, 6, 1, 1)), 6),
    _case(_own("QLinearWhere"), "two branches", _linear("QLinearWhere", branches=2), 6),
    _case(_own("QLinearConcat"), "two branches", _linear("QLinearConcat", branches=2, axis=1), 6, 6),
    _case(_own("QLinearAveragePool"), "2 by 2", _linear("QLinearAveragePool", kernel_shape=[2, 2], strides=[2, 2]), 6),
    _case(_own("QLinearAveragePool"), "channels last", _channels_last("QLinearAveragePool", kernel_shape=[3, 3]), 6),
    _case(_own("QLinearGlobalAveragePool"), "channels second", _linear("QLinearGlobalAveragePool"), 6),
    _case(_own("QLinearGlobalAveragePool"), "channels last", _channels_last("QLinearGlobalAveragePool"), 6),
    _case(_own("QLinearLeakyRelu"), "default", _linear("QLinearLeakyRelu", alpha=0.1), 6),
    _case(_own("QLinearSigmoid"), "default", _linear("QLinearSigmoid"), 6),
    _case(_own("QLinearSoftmax"), "over columns", _linear("QLinearSoftmax", axis=-1, opset=13), 6),
    _case(_own("QLinearSoftmax"), "over channels", _linear("QLinearSoftmax", axis=1, opset=12), pins=(("MIXED", 6),)),
    _case(_own("QLinearReduceMean"), "over positions", _linear("QLinearReduceMean", axes=[2, 3]), 6, runs=False),
    _case(
        _own("QLinearReduceMean"),
        "over channels",
        _linear("QLinearReduceMean", axes=[1]),
        pins=(("MIXED", 6),),
        runs=False,
    ),
    _case(_own("MatMulNBits"), "four bits", _in_blocks(read=64, zeros=False), 4, 8),
    _case(_own("MatMulNBits"), "the last block shorter", _in_blocks(read=60, zeros=False), 3, 8, pins=(("SINGLE", 1),)),
    _case(_own("MatMulNBits"), "eight bits", _in_blocks(read=64, bits=8, bias=True), 4, 8),
    _case(_own("MatMulNBits"), "zero points in bytes of two", _in_blocks(read=64), 2, 8),
    _case(_own("MatMulNBits"), "tables as lists", _in_blocks(read=64, flat=True), 2, 8),
    _case(_own("MatMulNBits"), "one block", _in_blocks(read=16), 8, pins=(("POSITION", 16),)),
    _case(_own("MatMulNBits"), "half a byte", _in_blocks(read=48), 8, pins=(("SINGLE", 1), ("SINGLE", 1))),
)
