"""The page of a family: several ratios of one network, side by side."""

import math
from typing import Any

from onnxprune.report.blocks import Block, Figure, Page, Section, Table, count, finite, keyed, lines, section, share
from onnxprune.report.compare_page import latency_cells
from onnxprune.report.outputs import learnt_lines
from onnxprune.report.plots import OTHER, REFERENCE, Axes, Series, style_of
from onnxprune.report.plots import lines as drawn_lines
from onnxprune.report.provenance import file_name, provenance
from onnxprune.report.prune_page import NOUNS
from onnxprune.report.rows import many

__all__ = ["family_page"]

Facts = dict[str, Any]


def family_page(facts: Facts) -> Page:
    """Make the page of a family.

    Parameters
    ----------
    facts : dict
        From `make_family`.

    Returns
    -------
    Page
    """
    name, members = file_name(facts["original"], "a network"), facts["members"]
    ratios = [f"{100 * member['ratio']:g}%" for member in members if finite(member.get("ratio"))]
    measure = facts.get("request", {}).get("measure", "params")
    files = [("original", facts["original"]), *((member["name"], member) for member in members)]
    return Page(
        title=f"{name}, a family",
        sentence=f"{many(len(members), 'smaller network was', 'smaller networks were')} made of {name}, without "
        f"{' or '.join(ratios)} of its {NOUNS.get(measure, measure)}; each equals the original with its removed "
        "channels masked.",
        tiles=[],
        sections=[
            *section("members", "Members", _members(facts), lines(_timed(facts))),
            *section("accuracy", "Accuracy and fidelity by ratio", *_figures(facts, measure)),
            *section("speed", "Time by ratio", _times(facts, measure)),
            *_groups(facts),
            *section("data", "Data", lines(learnt_lines({"refit": {}, **facts}) if facts.get("data") else [])),
            *provenance(facts, files),
        ],
    )


def _far(member: Facts) -> float:
    """How far the farthest output is from the original's."""
    found = [entry["relative_l2"] for entry in member.get("fidelity", {}).values()]
    return max((value for value in found if finite(value)), default=math.nan)


def _agrees(member: Facts) -> float:
    found = [entry["top1_agreement"] for entry in member.get("fidelity", {}).values()]
    return min((value for value in found if finite(value)), default=math.nan)


def _right(member: Facts, when: str) -> float:
    accuracy = member.get("accuracy")
    return accuracy[when] if accuracy else math.nan


def _removed(member: Facts, measure: str) -> float:
    """The share that went; the one that was asked for where that is not told."""
    found = member.get("achieved", {}).get(measure, member.get("removed", member.get("ratio")))
    return found if finite(found) else math.nan


def _members(facts: Facts) -> Table:
    measure = facts.get("request", {}).get("measure", "params")
    best = (facts["original"].get("latency") or {}).get("median_ms")
    before = next((member["accuracy"]["before"] for member in facts["members"] if member.get("accuracy")), None)
    rows = [
        (
            entry["name"],
            share(_removed(entry, measure)) if place else "",
            *(count(entry.get(name)) for name in ("params", "macs", "bytes")),
            share(_far(entry)) if place else "",
            share(_agrees(entry)) if place else "",
            share(_right(entry, "after") if place else before),
            *latency_cells(entry.get("latency")),
            share(entry["latency"]["median_ms"] / best, 0) if best and entry.get("latency") else "–",
        )
        for place, entry in enumerate((facts["original"], *facts["members"]))
    ]
    columns = ("network", "removed", "parameters", "MACs", "bytes", "relative L2", "agrees", "top-1", "ms")
    return Table(columns=(*columns, "nine in ten", "of the original's"), rows=rows)


def _timed(facts: Facts) -> list[str]:
    latency = facts["original"].get("latency")
    if not latency:
        return []
    return [
        f"Milliseconds are medians of {latency['runs']} runs at batch {latency['batch']} on {latency['provider']}, by "
        "turns."
    ]


def _figures(facts: Facts, measure: str) -> list[Block | None]:
    """Accuracy and agreement, and the distance from the original, over the share that went."""
    members = facts["members"]
    x = [0.0, *(_removed(member, measure) for member in members)]
    shares = [
        ("right answers", [_right(members[0], "before"), *(_right(member, "after") for member in members)]),
        ("agrees with the original", [1.0, *map(_agrees, members)]),
    ]
    told = [(words, values) for words, values in shares if any(map(math.isfinite, values[1:]))]
    far = [0.0, *map(_far, members)]
    blocks: list[Block | None] = []
    if told:
        series = [Series(x, values, number) for number, (_, values) in enumerate(told)]
        blocks.append(
            Figure(
                title="Accuracy against ratio",
                drawings=drawn_lines(series, Axes("removed", "inputs", percent="xy")),
                label=f"A point for each of {len(members)} members, and the original at the left.",
                keys=[keyed(number, words) for number, (words, _) in enumerate(told)],
            )
        )
    if any(map(math.isfinite, far[1:])):
        blocks.append(
            Figure(
                title="Distance from the original",
                drawings=drawn_lines([Series(x, far, 2)], Axes("removed", "relative L2", percent="xy")),
                label=f"A point for each of {len(members)} members, of the output that is farthest.",
            )
        )
    return blocks


def _times(facts: Facts, measure: str) -> Figure | None:
    entries = [facts["original"], *facts["members"]]
    if not all(entry.get("latency") for entry in entries):
        return None
    x = [0.0, *(_removed(member, measure) for member in facts["members"])]
    best = entries[0]["latency"]["median_ms"]
    series = [
        Series(x, [entry["latency"]["median_ms"] / best for entry in entries], 0),
        Series(x, [entry["params"] / entries[0]["params"] for entry in entries], OTHER),
        Series(x, [(entry["macs"] or math.nan) / (entries[0]["macs"] or 1) for entry in entries], REFERENCE),
    ]
    return Figure(
        title="Time, parameters and MACs, as shares of the original's",
        drawings=drawn_lines(series, Axes("removed", "of the original's", percent="xy")),
        label="Three lines over the share that was removed; the table above has the numbers.",
        keys=(keyed(0, "time"), keyed(REFERENCE, "MACs"), keyed(OTHER, "parameters")),
    )


def _groups(facts: Facts) -> list[Section]:
    """Show what stays of each group in each member."""
    members = [member for member in facts["members"] if member.get("kept")]
    if not members:
        return []
    names = list(members[0]["kept"])
    places = list(range(1, len(names) + 1))
    series = [Series(places, [member["kept"][name] for name in names], style_of(n)) for n, member in enumerate(members)]
    rows = [(name, *(count(member["kept"][name]) for member in members)) for name in names]
    return section(
        "groups",
        "What stays of each group",
        Figure(
            title="Channels that stay, along the depth",
            drawings=drawn_lines(series, Axes("group, from input to output", "channels")),
            label=f"A line per member over {len(names)} groups; the table has the numbers.",
            keys=[keyed(style_of(number), member["name"]) for number, member in enumerate(members)],
        ),
        Table(
            columns=("group", *(member["name"] for member in members)),
            rows=rows,
            title=f"All {len(rows):,} groups",
            folded=True,
        ),
    )
