"""Operators that draw random numbers.

What is drawn for one position depends on how many are drawn in all, so that the shape that is asked for stays.
"""

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule

__all__ = ["RULES", "drawn", "drawn_like"]


def drawn(op: Op) -> Answer:
    """Numbers of a shape given as attribute."""
    return op.nothing()


def drawn_like(op: Op) -> Answer:
    """Numbers of the shape of x, or chosen by what it holds."""
    op.hold(0, range(len(op.shape(0))), Purpose.RUNTIME)
    return op.nothing()


RULES: tuple[Rule, ...] = (
    Rule("RandomNormal", drawn),
    Rule("RandomUniform", drawn),
    *(Rule(name, drawn_like) for name in ("RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")),
)
