"""What operators do to channel labels: one small function per operator, one file per family, one table."""

from onnxprune.graph.index import Index
from onnxprune.ops import (
    attention,
    convolution,
    deformable,
    drawing,
    early,
    einsum,
    fused,
    heads,
    indexing,
    linear,
    matrices,
    normalization,
    pointwise,
    quantized,
    recurrent,
    rotary,
    select,
    sequences,
    shape,
    signal,
    spatial,
)
from onnxprune.ops.rule import Rule

__all__ = ["RULES", "find_rule"]


def _table(*rows: tuple[Rule, ...]) -> dict[tuple[str, str], tuple[Rule, ...]]:
    table: dict[tuple[str, str], tuple[Rule, ...]] = {}
    for rule in (rule for group in rows for rule in group):
        known = table.get((rule.domain, rule.operator), ())
        assert all(rule.since != other.since for other in known), f"two rules for {rule.operator} since {rule.since}"
        table[rule.domain, rule.operator] = (*known, rule)
    return table


RULES = _table(
    attention.RULES,
    convolution.RULES,
    deformable.RULES,
    drawing.RULES,
    early.RULES,
    einsum.RULES,
    fused.RULES,
    heads.RULES,
    indexing.RULES,
    linear.RULES,
    matrices.RULES,
    normalization.RULES,
    pointwise.RULES,
    quantized.RULES,
    recurrent.RULES,
    rotary.RULES,
    select.RULES,
    sequences.RULES,
    shape.RULES,
    signal.RULES,
    spatial.RULES,
)
"""Rules by (domain, operator); one that changed its meaning has several: the latest not above the opset counts."""


def find_rule(index: Index, domain: str, operator: str) -> Rule | None:
    """Return the rule for an operator at the model's opset, None where there is none."""
    domain = "" if domain == "ai.onnx" else domain
    version = index.opsets.get(domain, 1)
    rules = [rule for rule in RULES.get((domain, operator), ()) if rule.since <= version]
    return max(rules, key=lambda rule: rule.since, default=None)
