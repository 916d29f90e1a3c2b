"""Derivatives of operators that work element by element.

One argument: x̄ = f′(x) · ȳ, f′ written by x and y. Several: the same for each, summed over what it was repeated along.

    Relu [x > 0]            Sigmoid y(1 − y)          Tanh 1 − y²              Softplus σ(x)
    Elu x > 0: 1, y + α     Gelu Φ(x) + xφ(x)         Swish s + αx·s(1 − s), s = σ(αx)
    Mish t + x(1 − t²)σ(x), t = tanh softplus x       Clip [x = y]
    a·b: b, a               a/b: 1/b, −y/b            aᵉ: e·aᵉ⁻¹, y·ln a       Max, Min: shared by all that are it
"""

import math
from collections.abc import Callable

from onnx import TensorProto

from onnxprune.gradient.builder import Builder
from onnxprune.gradient.rule import FLOATS, Gradients, Op, Rule, nothing

__all__ = ["RULES"]

_One = Callable[[Op, Builder, str, str], str]
"""Derivative of a function of one argument, by that and by the result."""


def _chained(derivative: _One) -> Rule:
    """Rule of a function of its first input."""

    def rule(op: Op, made: Gradients) -> Gradients:
        assert made[0] is not None
        return [op.b.mul(made[0], derivative(op, op.b, op.x, op.y))]

    return rule


def _gate(op: Op, b: Builder, truth: str) -> str:
    """One where something is true, in the type of the first input."""
    return b.cast(truth, b.types[op.x])


def _step(op: Op, b: Builder, x: str, low: float = 0.0) -> str:
    return _gate(op, b, b.compare("Greater", x, low))


def _leaky(op: Op, b: Builder, x: str, _: str) -> str:
    slope = op.attribute("alpha", 0.01)
    return b.add(b.mul(_step(op, b, x), 1.0 - slope), slope)


def _elu(op: Op, b: Builder, x: str, y: str) -> str:
    return b.where(b.compare("Greater", x, 0.0), 1.0, b.add(y, op.attribute("alpha", 1.0)))


def _selu(op: Op, b: Builder, x: str, y: str) -> str:
    alpha, gamma = op.attribute("alpha", 1.6732632423543772), op.attribute("gamma", 1.0507009873554805)
    return b.where(b.compare("Greater", x, 0.0), gamma, b.add(y, alpha * gamma))


def _celu(op: Op, b: Builder, x: str, y: str) -> str:
    falling = b.add(b.div(y, op.attribute("alpha", 1.0)), 1.0)
    return b.where(b.compare("Greater", x, 0.0), 1.0, falling)


def _sigmoid(op: Op, b: Builder, x: str, y: str) -> str:
    return b.mul(y, b.sub(1.0, y))


def _hard_sigmoid(op: Op, b: Builder, x: str, y: str) -> str:
    inside = b.op("And", b.compare("Greater", y, 0.0), b.compare("Less", y, 1.0), kind=TensorProto.BOOL)
    return b.mul(_gate(op, b, inside), op.attribute("alpha", 0.2))


def _hard_swish(op: Op, b: Builder, x: str, _: str) -> str:
    middle = b.add(b.mul(x, 1.0 / 3.0), 0.5)
    above, below = b.compare("GreaterOrEqual", x, 3.0), b.compare("LessOrEqual", x, -3.0)
    return b.where(above, 1.0, b.where(below, 0.0, middle))


def _mish(op: Op, b: Builder, x: str, _: str) -> str:
    bent = b.op("Tanh", b.op("Softplus", x))
    return b.add(bent, b.mul(x, b.sub(1.0, b.square(bent)), b.op("Sigmoid", x)))


def _gelu_exact(b: Builder, x: str) -> str:
    phi = b.mul(b.add(b.op("Erf", b.mul(x, math.sqrt(0.5))), 1.0), 0.5)
    bell = b.mul(b.op("Exp", b.mul(b.square(x), -0.5)), 1.0 / math.sqrt(2.0 * math.pi))
    return b.add(phi, b.mul(x, bell))


def _gelu_tanh(b: Builder, x: str) -> str:
    root, cube, square = math.sqrt(2.0 / math.pi), 0.044715, b.square(x)
    bent = b.op("Tanh", b.mul(x, b.add(b.mul(square, root * cube), root)))
    slope = b.add(b.mul(square, 3.0 * root * cube), root)
    half = b.mul(b.add(bent, 1.0), 0.5)
    return b.add(half, b.mul(x, b.sub(1.0, b.square(bent)), slope, 0.5))


def _gelu(op: Op, b: Builder, x: str, _: str) -> str:
    return _gelu_tanh(b, x) if op.attribute("approximate", "none") == "tanh" else _gelu_exact(b, x)


def _swish(op: Op, b: Builder, x: str, _: str) -> str:
    alpha = op.attribute("alpha", 1.702 if op.node.op_type == "QuickGelu" else 1.0)
    gate = b.op("Sigmoid", b.mul(x, alpha))
    return b.add(gate, b.mul(x, gate, b.sub(1.0, gate), alpha))


def _root(sign: float, offset: float, b: Builder, x: str) -> str:
    """1/√(offset + sign·x²)."""
    return b.op("Reciprocal", b.op("Sqrt", b.add(b.mul(b.square(x), sign), offset)))


_ONES: dict[str, _One] = {
    "Abs": lambda op, b, x, y: b.op("Sign", x),
    "Acos": lambda op, b, x, y: b.op("Neg", _root(-1.0, 1.0, b, x)),
    "Acosh": lambda op, b, x, y: _root(1.0, -1.0, b, x),
    "Asin": lambda op, b, x, y: _root(-1.0, 1.0, b, x),
    "Asinh": lambda op, b, x, y: _root(1.0, 1.0, b, x),
    "Atan": lambda op, b, x, y: b.op("Reciprocal", b.add(b.square(x), 1.0)),
    "Atanh": lambda op, b, x, y: b.op("Reciprocal", b.sub(1.0, b.square(x))),
    "Celu": _celu,
    "Cos": lambda op, b, x, y: b.op("Neg", b.op("Sin", x)),
    "Cosh": lambda op, b, x, y: b.op("Sinh", x),
    "Elu": _elu,
    "Erf": lambda op, b, x, y: b.mul(b.op("Exp", b.op("Neg", b.square(x))), 2.0 / math.sqrt(math.pi)),
    "Exp": lambda op, b, x, y: y,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Log": lambda op, b, x, y: b.op("Reciprocal", x),
    "Mish": _mish,
    "Reciprocal": lambda op, b, x, y: b.op("Neg", b.square(y)),
    "Relu": lambda op, b, x, y: _step(op, b, x),
    "Selu": _selu,
    "Shrink": lambda op, b, x, y: _step(op, b, b.op("Abs", x), op.attribute("lambd", 0.5)),
    "Sigmoid": _sigmoid,
    "Sin": lambda op, b, x, y: b.op("Cos", x),
    "Sinh": lambda op, b, x, y: b.op("Cosh", x),
    "Softplus": lambda op, b, x, y: b.op("Sigmoid", x),
    "Softsign": lambda op, b, x, y: b.op("Reciprocal", b.square(b.add(b.op("Abs", x), 1.0))),
    "Sqrt": lambda op, b, x, y: b.div(0.5, y),
    "Swish": _swish,
    "Tan": lambda op, b, x, y: b.add(b.square(y), 1.0),
    "Tanh": lambda op, b, x, y: b.sub(1.0, b.square(y)),
    "ThresholdedRelu": lambda op, b, x, y: _step(op, b, x, op.attribute("alpha", 1.0)),
}


def _identity(op: Op, made: Gradients) -> Gradients:
    return [made[0]]


def _negative(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    return [op.b.op("Neg", made[0])]


def _cast(op: Op, made: Gradients) -> Gradients:
    kind = op.b.types.get(op.x)
    assert made[0] is not None
    return [op.b.cast(made[0], kind) if kind in FLOATS else None]


def _clip(op: Op, made: Gradients) -> Gradients:
    b, gradient = op.b, made[0]
    assert gradient is not None
    found = Gradients([b.mul(gradient, _gate(op, b, b.compare("Equal", op.x, op.y))), None, None])
    for place, operator in ((1, "Less"), (2, "Greater")):
        if op.wants(place):
            found[place] = b.total(b.where(b.compare(operator, op.x, op.reads(place)), gradient, 0.0))
    return found


def _biased(derivative: Callable[[Builder, str], str]) -> Rule:
    """Rule of a function of the sum of an input and a bias, which may be left out."""

    def rule(op: Op, made: Gradients) -> Gradients:
        assert made[0] is not None
        at = op.b.add(op.x, op.reads(1)) if op.reads(1) else op.x
        gradient = op.b.mul(made[0], derivative(op.b, at))
        return [gradient, *([op.sum_to(gradient, op.y, op.reads(1))] if op.wants(1) else [])]

    return rule


def _several(each: Callable[[Op, str, int], str]) -> Rule:
    """Rule of a function of several inputs, which may be repeated, by the gradient before sums."""

    def rule(op: Op, made: Gradients) -> Gradients:
        gradient, found = made[0], Gradients()
        assert gradient is not None
        for place, name in enumerate(op.node.input):
            found.append(op.sum_to(each(op, gradient, place), op.y, name) if op.wants(place) else None)
        return found

    return rule


def _product(op: Op, gradient: str, place: int) -> str:
    return op.b.mul(gradient, op.reads(1 - place))


def _quotient(op: Op, gradient: str, place: int) -> str:
    share = op.b.div(gradient, op.reads(1))
    return op.b.op("Neg", op.b.mul(share, op.y)) if place else share


def _power(op: Op, gradient: str, place: int) -> str:
    b, base, kind = op.b, op.x, op.b.types[op.x]
    if place:
        return b.cast(b.mul(gradient, op.y, b.op("Log", base)), op.b.types[op.reads(1)])
    exponent = b.cast(op.reads(1), kind)
    return b.mul(gradient, exponent, b.op("Pow", base, b.sub(exponent, 1.0)))


def _extreme(op: Op, gradient: str, place: int) -> str:
    """What is the largest or smallest; where several are, each gets its share."""
    kind = op.b.types[op.x]
    truths = [op.b.cast(op.b.compare("Equal", name, op.y), kind) for name in op.node.input]
    return op.b.mul(gradient, op.b.div(truths[place], op.b.add(*truths)))


def _mean(op: Op, gradient: str, _: int) -> str:
    return op.b.div(gradient, float(len(op.node.input)))


def _modulo(op: Op, gradient: str, place: int) -> str:
    if not place:
        return gradient
    times = op.b.div(op.b.sub(op.x, op.y), op.reads(1))  # a whole number, however it was rounded
    return op.b.op("Neg", op.b.mul(gradient, times))


def _where(op: Op, made: Gradients) -> Gradients:
    found = Gradients([None])
    assert made[0] is not None
    for place in (1, 2):
        chosen = op.b.where(op.x, *((made[0], 0.0) if place == 1 else (0.0, made[0])))
        found.append(op.sum_to(chosen, op.y, op.reads(place)) if op.wants(place) else None)
    return found


def _prelu(op: Op, made: Gradients) -> Gradients:
    b, below = op.b, op.b.compare("Less", op.x, 0.0)
    assert made[0] is not None
    own = b.where(below, b.mul(made[0], op.reads(1)), made[0])
    slope = b.where(below, b.mul(made[0], op.x), 0.0) if op.wants(1) else None
    return [own, None if slope is None else op.sum_to(slope, op.y, op.reads(1))]


_STEPS = """And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Constant ConstantOfShape Equal
    EyeLike Floor Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual NonMaxSuppression NonZero Not Or Round
    Shape Sign Size Xor"""

RULES: dict[tuple[str, str], Rule] = {
    **{("", name): _chained(derivative) for name, derivative in _ONES.items()},
    **{("", name): nothing for name in _STEPS.split()},
    ("", "Identity"): _identity,
    ("", "Dropout"): _identity,
    ("", "Neg"): _negative,
    ("", "Cast"): _cast,
    ("", "CastLike"): _cast,
    ("", "Clip"): _clip,
    ("", "Add"): _several(lambda op, gradient, place: gradient),
    ("", "Sum"): _several(lambda op, gradient, place: gradient),
    ("", "Sub"): _several(lambda op, gradient, place: op.b.op("Neg", gradient) if place else gradient),
    ("", "Mul"): _several(_product),
    ("", "Div"): _several(_quotient),
    ("", "Pow"): _several(_power),
    ("", "Mod"): _several(_modulo),
    ("", "Mean"): _several(_mean),
    ("", "Max"): _several(_extreme),
    ("", "Min"): _several(_extreme),
    ("", "Where"): _where,
    ("", "PRelu"): _prelu,
    ("com.microsoft", "Gelu"): _chained(lambda op, b, x, y: _gelu_exact(b, x)),
    ("com.microsoft", "QuickGelu"): _chained(_swish),
    ("com.microsoft", "FastGelu"): _biased(_gelu_tanh),
    ("com.microsoft", "BiasGelu"): _biased(_gelu_exact),
}
