"""Operators on matrices, the last two axes of x: what they do there depends on every position."""

from onnxprune.ops.labels import Purpose
from onnxprune.ops.op import Op
from onnxprune.ops.rule import Answer, Rule
from onnxprune.ops.trace import Role

__all__ = ["RULES", "distances", "eye", "matrix"]


def matrix(op: Op) -> Answer:
    """Trilu, Inverse, Det: the axes before the last two stay."""
    rank = len(op.shape(0))
    op.hold(0, [rank - 2, rank - 1], Purpose.MIXED)
    return op.carry(0, {axis: axis for axis in range(rank - 2)})


def eye(op: Op) -> Answer:
    """EyeLike: ones on a diagonal, in the shape of x."""
    op.hold(0, (0, 1))
    return op.nothing()


def distances(op: Op) -> Answer:
    """CDist of com.microsoft: y[m, n] = Σ_k (a[m, k] − b[n, k])², or its root: what both lack adds nothing."""
    if op.attribute("metric", b"sqeuclidean") in (b"sqeuclidean", b"euclidean"):
        op.tie_axes((0, 1), (1, 1))
        for place in (0, 1):
            op.read(place, 1)
    for place in (0, 1):
        op.hold(place, [1], Purpose.MIXED)
        if op.is_constant(place):
            op.role(op.axis(place, 0), Role.WRITES)
    return op.merge([(0, {0: 0}), (1, {0: 1})], op.out_shape())


RULES: tuple[Rule, ...] = (
    Rule("Trilu", matrix),
    Rule("Trilu", matrix, domain="com.microsoft"),
    Rule("Det", matrix),
    Rule("Inverse", matrix, domain="com.microsoft"),
    Rule("EyeLike", eye),
    Rule("CDist", distances, domain="com.microsoft"),
)
