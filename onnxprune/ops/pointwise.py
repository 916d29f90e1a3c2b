"""Operators that work element by element: y = f(x), and those of several inputs laid over one another.

The label of a position does not change; positions that meet by broadcasting are tied.
"""

from onnxprune.ops.labels import Labels
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = [
    "ACTIVATIONS",
    "RULES",
    "broadcast",
    "broadcast_by_axis",
    "dropout",
    "prelu_by_channel",
    "scalar_parameters",
    "unary",
]

_ACTIVE = """Relu LeakyRelu PRelu Elu Selu Celu Gelu HardSigmoid HardSwish Mish Sigmoid Softplus Softsign Tanh
    ThresholdedRelu Clip Swish"""
ACTIVATIONS = frozenset(_ACTIVE.split())
"""Pointwise operators that serve as a layer's activation."""

_SINGLE = """Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Cast Ceil Cos Cosh Erf Exp Floor Identity IsInf
    IsNaN Log Neg Not Reciprocal Round Shrink Sign Sin Sinh Sqrt Tan"""
_UNARY = sorted((ACTIVATIONS - {"PRelu", "Clip"}) | set(_SINGLE.split()))

_SEVERAL = """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"""
_BROADCAST = _SEVERAL.split()

_BY_AXIS = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")


def unary(op: Op) -> Answer:
    """y[i] = f(x[i])."""
    return op.same()


def scalar_parameters(op: Op) -> Answer:
    """y[i] = f(x[i]; a, b) with scalar inputs a, b: Clip, CastLike."""
    return op.same()


def broadcast(op: Op) -> Answer:
    """y = f(x₁, x₂, …) over broadcast positions."""
    return op.broadcast(op.inputs)


def broadcast_by_axis(op: Op) -> Answer:
    """Before opset 7: y = f(a, b), b aligned at attribute `axis` of a where `broadcast` is set."""
    if not op.attribute("broadcast", 0):
        return op.broadcast(op.inputs)
    rank, inner = len(op.shape(0)), len(op.shape(1))
    start = op.attribute("axis", rank - inner)
    return op.merge([(0, {k: k for k in range(rank)}), (1, {k: k + start for k in range(inner)})], op.out_shape())


def prelu_by_channel(op: Op) -> Answer:
    """Before opset 7: y = x where x > 0, else s · x, with one slope for all or one per channel."""
    if op.shape(1) in ((), (1,)):
        return op.same()
    op.tie_axes((0, min(1, len(op.shape(0)) - 1)), (1, 0))
    return op.same()


def dropout(op: Op) -> Answer:
    """y = x at inference; the mask has the same positions."""
    labels: Labels = op.same()
    return [labels] * len(op.node.output)


RULES: tuple[Rule, ...] = (
    *(Rule(name, unary) for name in _UNARY),
    *(Rule(name, broadcast, since=7 if name in (*_BY_AXIS, "PRelu") else 1) for name in _BROADCAST),
    *(Rule(name, broadcast_by_axis) for name in _BY_AXIS),
    Rule("PRelu", prelu_by_channel),
    Rule("Clip", scalar_parameters),
    Rule("CastLike", scalar_parameters),
    Rule("Dropout", dropout),
)
