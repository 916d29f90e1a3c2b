"""A family of pruned networks, for a terminal."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from onnxprune.report.outputs import learnt_lines
from onnxprune.report.rows import new_table, number, row, seconds

__all__ = ["family_view"]

Facts = dict[str, Any]


def family_view(facts: Facts, *, verbose: bool = False) -> list[RenderableType]:
    """Show the members of a family, the original first.

    Parameters
    ----------
    facts : dict
        From `make_family`.
    verbose : bool
        Times too.
    """
    known = any(member["accuracy"] for member in facts["members"])
    columns = ("removed", "parameters", "MACs", "bytes", "far from the original", "agrees", "ms", "of the original's")
    table = new_table("", *columns[:6], *(["top-1"] if known else []), *columns[6:])
    original = facts["original"]
    timed = original["latency"] is not None
    best = original["latency"]["median_ms"] if timed else 0.0
    counted = [number(original[name]) for name in ("params", "macs", "bytes")]
    accuracy = next((member["accuracy"] for member in facts["members"] if member["accuracy"]), None)
    before = [f"{accuracy['before']:.1%}"] if known and accuracy else []
    row(table, original["name"], "", *counted, "", "", *before, f"{best:.3g}" if timed else "", "")
    for member in facts["members"]:
        found = member["fidelity"]
        ms = member["latency"]["median_ms"] if timed else 0.0
        far = max((entry["relative_l2"] for entry in found.values()), default=None)
        agreed = min((e["top1_agreement"] for e in found.values() if e["top1_agreement"] is not None), default=None)
        right = [f"{member['accuracy']['after']:.1%}" if member["accuracy"] else ""] if known else []
        cells = [number(member[name]) for name in ("params", "macs", "bytes")]
        shown = ["" if far is None else f"{far:.1%}", "" if agreed is None else f"{agreed:.0%}"]
        measure = member["achieved"][facts["request"]["measure"]]
        row(table, member["name"], f"{measure:.1%}", *cells, *shown, *right, *_times(ms, best))
    latency = original["latency"]
    said = "Every member is sound: it equals the original with its removed channels masked. " + (
        f"Milliseconds are medians of {latency['runs']} runs at batch {latency['batch']} on {latency['provider']}, by "
        "turns."
        if timed
        else "They were not timed: onnxruntime runs them on none of the inputs tried."
    )
    parts: list[RenderableType] = [table, Text(said), *learnt_lines({**facts, "refit": {}})]
    return [*parts, seconds(facts)] if verbose else parts


def _times(ms: float, best: float) -> tuple[str, str]:
    """Milliseconds, and how many times the original's; nothing where nobody knows."""
    return (f"{ms:.3g}", f"{ms / best:.2f}") if best else ("", "")
