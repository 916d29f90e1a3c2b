"""The report for people: tables and sentences for a terminal, from plain data."""

from collections import defaultdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxprune.report.certificates import EXPLAINED, because, bounds, end_to_end, measured
from onnxprune.report.rows import new_table, number, row, seconds
from onnxprune.report.sentences import found_line, method_lines, note_lines, proof_lines

__all__ = ["inspection_view", "prune_view"]

Facts = dict[str, Any]

_MEASURES = (("parameters", "params"), ("MACs", "macs"), ("prunable channels", "channels"))
_SHOWN = 4


def _before_after(facts: Facts) -> Table:
    table = new_table("", "before", "after", "removed")
    for label, key in _MEASURES:
        before, after = facts["input"][key], facts["output"][key]
        row(table, label, number(before), number(after), f"{facts['achieved'][key]:.1%}")
    before, after = facts["input"]["bytes"], facts["output"]["bytes"]
    if after is not None:
        row(table, "bytes", number(before), number(after), f"{1 - after / before:.1%}")
    thinner = sum(group["kept"] < group["channels"] for group in facts["groups"])
    row(table, "groups", len(facts["groups"]), f"{thinner} made thinner", "")
    return table


def _groups(facts: Facts) -> Table:
    kept = any("kept" in group for group in facts["groups"])
    table = new_table(
        "group", "kind", "channels", *(["kept"] if kept else []), "parameters", "MACs", "nodes", title="Groups"
    )
    table.columns[1].justify = table.columns[-1].justify = "left"
    for group in facts["groups"]:
        step = f" (by {group['step']})" if group["step"] > 1 else ""
        more = f" and {len(group['nodes']) - _SHOWN} more" if len(group["nodes"]) > _SHOWN else ""
        counts = [f"{group['channels']}{step}", *([group["kept"]] if kept else [])]
        worth = number(group["params"]), number(group["macs"])
        kind = group["kind"] + (", normalised" if group["normalized"] else "")
        row(table, group["name"], kind, *counts, *worth, ", ".join(group["nodes"][:_SHOWN]) + more)
    return table


def _certificates(facts: Facts) -> list[RenderableType]:
    """Show bounds beside what was measured, group by group."""
    found = [(group["name"], group["certificate"]) for group in facts["groups"] if group.get("certificate")]
    if not found:
        return []
    table = new_table(
        "group", "|x| at most", "error at most", "of", "promised", "measured", "relative", title="Certificates"
    )
    table.add_column("because", overflow="fold")
    for name, entry in found:
        row(table, name, *bounds(entry), *measured(entry["measured"]), because(entry))
    return [table, Text(EXPLAINED), Text(end_to_end(facts["end_to_end"]))]


def _pinned(facts: Facts) -> list[RenderableType]:
    if not facts["pinned"]:
        return []
    table = new_table("pinned", "channels", "parameters", "because", title="Pinned, with the reason")
    table.columns[-1].justify = "left"
    totals: dict[str, int] = defaultdict(int)
    for item in facts["pinned"]:
        row(table, item["site"], item["channels"], number(item["params"]), item["reason"])
        totals[item["purpose"]] += item["params"]
    sums = "; ".join(f"{name}: {number(value)}" for name, value in sorted(totals.items(), key=lambda pair: -pair[1]))
    return [table, Text(f"Parameters pinned per reason: {sums}")]


def prune_view(facts: Facts, *, verbose: bool = False) -> list[RenderableType]:
    """Show what a prune did.

    Parameters
    ----------
    facts : dict
        From `facts.describe`.
    verbose : bool
        Groups, pins and times too.
    """
    parts: list[RenderableType] = [_before_after(facts)]
    if verbose:
        parts += [_groups(facts), *method_lines(facts), *_pinned(facts)]
    if verbose or facts.get("request", {}).get("certify"):
        parts += _certificates(facts)
    if verbose:
        parts.append(seconds(facts))
    return [*parts, *proof_lines(facts), *note_lines(facts)]


def inspection_view(facts: Facts) -> list[RenderableType]:
    """Show what could be pruned.

    Parameters
    ----------
    facts : dict
        From `facts.inspection`.
    """
    reach = new_table("", "in the file", "can be removed, at most")
    for label, key in _MEASURES:
        row(reach, label, number(facts["input"][key]), f"{facts['reachable'][key]:.1%}")
    return [_groups(facts), *_pinned(facts), reach, found_line(facts), *note_lines(facts)]
