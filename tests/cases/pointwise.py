"""Cases of the operators that work element by element."""

from collections.abc import Callable

import numpy as np
from net import Net
from onnx import ModelProto, TensorProto

from cases.case import Case, chain, row

__all__ = ["CASES"]


def _plain(operator: str) -> Callable[[Net, str], str]:
    return lambda net, x: net.add(operator, x)


def _of_unit(operator: str) -> Callable[[Net, str], str]:
    """For operators that want numbers between zero and one."""
    return lambda net, x: net.add(operator, net.add("Sigmoid", x))


def _above_one(operator: str) -> Callable[[Net, str], str]:
    return lambda net, x: net.add(operator, net.add("Exp", net.add("Relu", x)))


def _of_whole(operator: str) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        whole = net.add("Cast", x, to=TensorProto.INT32)
        return net.add("Cast", net.add(operator, whole), to=TensorProto.FLOAT)

    return middle


def _number(net: Net, x: str) -> str:
    return net.add("Cast", x, to=TensorProto.FLOAT)


def _is_nan(net: Net, x: str) -> str:
    return _number(net, net.add("IsNaN", net.add("Log", x)))


def _is_inf(net: Net, x: str) -> str:
    return _number(net, net.add("IsInf", net.add("Reciprocal", net.add("Relu", x))))


def _without_sign(net: Net, x: str) -> str:
    bits = net.add("BitwiseAnd", net.add("BitCast", x, to=TensorProto.INT32), net.constant(2**31 - 1, np.int32))
    return net.add("BitCast", bits, to=TensorProto.FLOAT)


def _not(net: Net, x: str) -> str:
    return _number(net, net.add("Not", net.add("Greater", x, net.weight(6, 1, 1))))


_NAMES = """Abs Atan Ceil Cos Elu Erf Exp Floor HardSigmoid Identity LeakyRelu Neg Relu Round Selu Sigmoid Sign Sin
    Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Asinh Sinh Cosh Shrink"""
_PLAIN = _NAMES.split()
_UNIT = ("Acos", "Asin", "Atanh", "Log", "Reciprocal")
_LATER = {"Celu": 12, "HardSwish": 14, "Mish": 18, "Gelu": 20, "Swish": 24}

_UNARY = (
    *(Case(row(name), "plain", chain(_of_unit("Sqrt") if name == "Sqrt" else _plain(name)), (6,)) for name in _PLAIN),
    *(Case(row(name), "of the unit interval", chain(_of_unit(name)), (6,)) for name in _UNIT),
    *(Case(row(name), "plain", chain(_plain(name), opset=opset), (6,)) for name, opset in _LATER.items()),
    Case(row("Acosh"), "above one", chain(_above_one("Acosh")), (6,)),
    Case(row("BitwiseNot"), "whole numbers", chain(_of_whole("BitwiseNot"), opset=18), (6,)),
    Case(row("BitCast"), "sign taken away", chain(_without_sign, opset=26), (6,)),
    Case(row("Cast"), "to double and back", chain(lambda n, x: _number(n, n.add("Cast", x, to=11))), (6,)),
    Case(row("IsNaN"), "of a logarithm", chain(_is_nan), (6,)),
    Case(row("IsInf"), "of a reciprocal", chain(_is_inf), (6,)),
    Case(row("Not"), "of a comparison", chain(_not), (6,)),
    Case(row("Clip"), "inputs", chain(lambda n, x: n.add("Clip", x, n.constant(-1, "f"), n.constant(1, "f"))), (6,)),
    Case(row("Clip"), "attributes", chain(lambda n, x: n.add("Clip", x, min=-1.0, max=1.0), opset=10), (6,)),
    Case(row("Clip"), "upper bound only", chain(lambda n, x: n.add("Clip", x, "", n.constant(1, "f"))), (6,)),
    Case(row("CastLike"), "same type", chain(lambda n, x: n.add("CastLike", x, n.constant(0, "f"))), (6,)),
    Case(row("Dropout"), "attribute", chain(lambda n, x: n.add("Dropout", x, ratio=0.5), opset=10), (6,)),
    Case(row("Dropout"), "inputs", chain(lambda n, x: n.add("Dropout", x, n.constant(0.5, "f"))), (6,)),
)


def _dropout_mask(net: Net, x: str) -> str:
    value, mask = net.many("Dropout", 2, x)
    return net.add("Mul", value, _number(net, mask))


def _with_weight(operator: str, *shape: int) -> Callable[[Net, str], str]:
    return lambda net, x: net.add(operator, x, net.weight(*shape))


def _two_branches(operator: str, opset: int = 17) -> Callable[[], ModelProto]:
    """Two layers of six channels meet."""

    def make() -> ModelProto:
        net = Net(opset)
        x = net.input("n", 3, 4, 4)
        first = net.add("Sigmoid", net.conv(x, 6, 3))
        second = net.add("Sigmoid", net.conv(x, 6, 3))
        return net.done(net.conv(net.add(operator, first, second), 4, 6))

    return make


def _compared(operator: str) -> Callable[[Net, str], str]:
    """A comparison with a threshold per channel; equality is that of rounded numbers."""

    def middle(net: Net, x: str) -> str:
        rounded = net.add("Round", x)
        threshold = net.add("Round", net.weight(6, 1, 1))
        return _number(net, net.add(operator, rounded, threshold))

    return middle


def _logical(operator: str) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        zero = net.constant(0, np.float32)
        other = net.add("Greater", net.conv(x, 6, 6), zero)
        return _number(net, net.add(operator, net.add("Greater", x, zero), other))

    return middle


def _bitwise(operator: str, **attributes: str) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        kind = TensorProto.UINT8 if operator == "BitShift" else TensorProto.INT32
        parts = [net.add("Mul", net.add("Sigmoid", part), net.constant(5, "f")) for part in (x, net.conv(x, 6, 6))]
        first, second = (net.add("Cast", part, to=kind) for part in parts)
        return _number(net, net.add(operator, first, second, **attributes))

    return middle


def _where(net: Net, x: str) -> str:
    condition = net.add("Greater", x, net.constant(0, np.float32))
    return net.add("Where", condition, x, net.weight(6, 1, 1))


def _outer_product(net: Net, x: str) -> str:
    """(n, 6, 1, 1) times (n, 1, h, w): only the channels of the one are labelled."""
    squeezed = net.add("GlobalAveragePool", x)
    plane = net.conv(x, 1, 6)
    return net.add("Mul", squeezed, plane)


def _mod(net: Net, x: str) -> str:
    return net.add("Mod", x, net.constant(0.7, np.float32), fmod=1)


def _by_axis(operator: str) -> Case:
    def middle(net: Net, x: str) -> str:
        if operator in ("And", "Or", "Xor"):
            x = net.add("Not", x)
        return net.add(operator, x, net.weight(6), broadcast=1, axis=1)

    return Case(row(operator), "broadcast along an axis", chain(middle, opset=6), (6,), runs=False)


_BROADCAST = (
    *(
        Case(row(name, since), "two layers", _two_branches(name), (6,))
        for since, names in ((7, ("Add", "Sub", "Mul", "Div", "Pow", "PRelu")), (1, ("Max", "Min", "Mean", "Sum")))
        for name in names
    ),
    *(
        Case(row(name, 7), "a weight per channel", chain(_with_weight(name, 6, 1, 1)), (6,))
        for name in ("Add", "Sub", "Mul", "Div")
    ),
    Case(row("Add", 7), "a weight of rank four", chain(_with_weight("Add", 1, 6, 1, 1)), (6,)),
    Case(row("Add", 7), "a weight per position", chain(_with_weight("Add", 6, 6)), (6,)),
    Case(row("Add", 7), "a scalar", chain(_with_weight("Add")), (6,)),
    Case(row("Add", 7), "a weight on the left", chain(lambda n, x: n.add("Add", n.weight(6, 1, 1), x)), (6,)),
    Case(row("Mul", 7), "outer product", chain(_outer_product), (6,)),
    Case(row("PRelu", 7), "slope per channel", chain(_with_weight("PRelu", 6, 1, 1)), (6,)),
    Case(row("PRelu", 7), "one slope", chain(_with_weight("PRelu", 1)), (6,)),
    Case(row("PRelu"), "slope per channel", chain(_with_weight("PRelu", 6), opset=6), (6,), runs=False),
    *(Case(row(name, 7), "thresholds", chain(_compared(name)), (6,)) for name in ("Equal", "Greater", "Less")),
    *(Case(row(name), "thresholds", chain(_compared(name)), (6,)) for name in ("GreaterOrEqual", "LessOrEqual")),
    *(Case(row(name, 7), "two layers", chain(_logical(name)), (6,)) for name in ("And", "Or", "Xor")),
    *(
        Case(row(name), "two layers", chain(_bitwise(name), opset=18), (6,))
        for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    ),
    Case(row("BitShift"), "two layers", chain(_bitwise("BitShift", direction="LEFT")), (6,)),
    Case(row("Mod"), "floating", chain(_mod), (6,)),
    Case(row("Where"), "weight per channel", chain(_where), (6,)),
    Case(row("Dropout"), "mask", chain(_dropout_mask), (6,)),
    Case(row("Dropout"), "mask that nobody reads", chain(lambda n, x: n.many("Dropout", 2, x)[0], opset=7), (6,)),
    *(_by_axis(name) for name in ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")),
)

CASES: tuple[Case, ...] = (*_UNARY, *_BROADCAST)
