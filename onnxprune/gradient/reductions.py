"""Derivatives of reductions: ȳ goes back to all places, weighted by what each was worth.

Sum 1    Mean 1/n    L1 sign x    L2 x/y    SumSquare 2x    LogSum e⁻ʸ    LogSumExp eˣ⁻ʸ    Prod y/x
Max, Min: shared by all that are it
"""

from collections.abc import Callable

from onnxprune.gradient.rule import Gradients, Op, Rule

__all__ = ["RULES"]


def _axes(op: Op) -> list[int]:
    given = op.attribute("axes")
    if given is None and op.reads(1):
        value = op.value(1)
        if value is None:
            raise op.refusal("its axes are computed", "store them")
        given = [int(axis) for axis in value.ravel()]
    rank = op.rank(op.x)
    if not given:
        return [] if op.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in given)


def _reduction(worth: Callable[[Op, str, list[int]], str | None]) -> Rule:
    """Rule of a reduction by what a place is worth, None for one; its result comes with the axes kept."""

    def rule(op: Op, made: Gradients) -> Gradients:
        b, axes = op.b, _axes(op)
        gradient, result = made[0], op.y
        assert gradient is not None
        if not op.attribute("keepdims", 1):
            gradient, result = b.unsqueeze(gradient, axes), b.unsqueeze(result, axes)
        factor = worth(op, result, axes)
        own = b.expand(gradient, op.x) if factor is None else b.mul(gradient, factor)
        return [own]

    return rule


def _share(op: Op, result: str, axes: list[int]) -> str:
    """One over the number of places."""
    b, kind = op.b, op.b.types[op.x]
    counts = [b.cast(b.product(b.shape(name)), kind) for name in (result, op.x)]
    return b.mul(b.add(b.zeros(op.x), 1.0), b.div(*counts))


def _extreme(op: Op, result: str, axes: list[int]) -> str:
    truth = op.b.cast(op.b.compare("Equal", op.x, result), op.b.types[op.x])
    return op.b.div(truth, op.b.reduce_sum(truth, axes, keep=True))


def _cumulative(op: Op, made: Gradients) -> Gradients:
    assert made[0] is not None
    flags = {"exclusive": op.attribute("exclusive", 0), "reverse": 1 - op.attribute("reverse", 0)}
    return [op.b.op("CumSum", made[0], op.reads(1), **flags)]


def _top(op: Op, made: Gradients) -> Gradients:
    """Of TopK: values come from their places."""
    assert made[0] is not None
    axis = op.attribute("axis", -1) % op.rank(op.x)
    return [op.b.scatter(op.b.zeros(op.x), op.node.output[1], made[0], axis)]


RULES: dict[tuple[str, str], Rule] = {
    ("", "ReduceSum"): _reduction(lambda op, y, axes: None),
    ("", "ReduceMean"): _reduction(_share),
    ("", "ReduceL1"): _reduction(lambda op, y, axes: op.b.op("Sign", op.x)),
    ("", "ReduceL2"): _reduction(lambda op, y, axes: op.b.div(op.x, y)),
    ("", "ReduceSumSquare"): _reduction(lambda op, y, axes: op.b.mul(op.x, 2.0)),
    ("", "ReduceLogSum"): _reduction(lambda op, y, axes: op.b.expand(op.b.op("Exp", op.b.op("Neg", y)), op.x)),
    ("", "ReduceLogSumExp"): _reduction(lambda op, y, axes: op.b.op("Exp", op.b.sub(op.x, y))),
    ("", "ReduceProd"): _reduction(lambda op, y, axes: op.b.div(y, op.x)),
    ("", "ReduceMax"): _reduction(_extreme),
    ("", "ReduceMin"): _reduction(_extreme),
    ("", "CumSum"): _cumulative,
    ("", "TopK"): _top,
}
