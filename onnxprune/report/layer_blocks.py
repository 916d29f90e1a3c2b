"""What is known of each group along a network's depth: what stays of it, what is pinned, how far off it is."""

import math
from collections import defaultdict
from typing import Any

from onnxprune.report.blocks import (
    LONG,
    Bar,
    Block,
    Figure,
    Key,
    Section,
    Table,
    count,
    finite,
    keyed,
    lines,
    section,
    share,
)
from onnxprune.report.certificates import EXPLAINED, because, bounds, end_to_end, measured
from onnxprune.report.plots import Axes, Series, depth, pairs, scatter
from onnxprune.report.sentences import found_line, method_lines

__all__ = ["certificates", "depth_figure", "errors", "groups", "pins"]

Facts = dict[str, Any]

_NODES = 4
_NO_ERRORS = "Predicted and measured errors are of a group's readers alone, all else whole."


def depth_figure(kept: list[int], total: list[int], what: str, each: str) -> Figure:
    """Draw what stays and what goes along the depth."""
    drawings, runs = depth(kept, total, Axes(f"{each}, from input to output", what))
    gone = sum(total) - sum(kept)
    more = f" A bar is of up to {runs[0]} that follow each other, on a narrow page {runs[1]}." if runs[1] > 1 else ""
    return Figure(
        title=f"{what.capitalize()} that stay and that go, along the depth",
        drawings=drawings,
        label=f"Bars of {len(total)} {each}s: {sum(kept):,} {what} stay and {gone:,} go, of {sum(total):,}.",
        keys=(Key("stays", "--kept", "block"), Key("goes", "--gone", "block")),
        note=f"Above: {what} of each {each}. Below: the share that stays.{more}",
    )


def groups(facts: Facts) -> list[Section]:
    """Show groups: their sizes, what stays of them, and which nodes they go through."""
    found = facts["groups"]
    if not found:
        return section("groups", "Groups", lines([found_line(facts)]))
    done = "kept" in found[0]
    rows = [
        (
            group["name"],
            group["kind"] + (", normalised" if group["normalized"] else ""),
            Bar(group["kept"] / group["channels"], f"{group['kept']:,} of {group['channels']:,}")
            if done
            else f"{group['channels']:,}",
            str(group["step"]),
            count(group["params"]),
            count(group["macs"]),
            _few(group["nodes"]),
        )
        for group in found
    ]
    columns = ("group", "kind", "stays" if done else "channels", "by", "parameters", "MACs", "nodes")
    kept, total = [[group.get(name, 0) for group in found] for name in ("kept", "channels")]
    return section(
        "groups",
        "Groups",
        lines([found_line(facts)]),
        depth_figure(kept, total, "channels", "group") if done else None,
        Table(
            columns=columns,
            rows=rows,
            words=3 if done else 2,
            notes=1,
            title=f"All {len(rows):,} groups",
            folded=len(rows) > LONG,
        ),
        lines(["By: channels that go together. Parameters and MACs: of the whole group, where all others stay."]),
        lines(method_lines(facts)),
    )


def _few(nodes: list[str]) -> str:
    more = f" and {len(nodes) - _NODES} more" if len(nodes) > _NODES else ""
    return ", ".join(nodes[:_NODES]) + more


def pins(facts: Facts) -> list[Section]:
    """Show what is pinned and why, and how many parameters each reason holds."""
    found = facts["pinned"]
    if not found:
        return []
    totals: dict[str, int] = defaultdict(int)
    for item in found:
        totals[item["purpose"]] += item["params"]
    most = max(totals.values()) or 1
    reasons = [
        (name, Bar(value / most, f"{value:,}", whole=False))
        for name, value in sorted(totals.items(), key=lambda pair: -pair[1])
    ]
    rows = [(item["site"], count(item["channels"]), count(item["params"]), item["reason"]) for item in found]
    return section(
        "pins",
        "What is pinned",
        Table(columns=("because of", "parameters held"), rows=reasons, words=2),
        Table(
            columns=("at", "channels", "parameters", "because"),
            rows=rows,
            notes=1,
            title=f"All {len(rows):,} places that are pinned, with the reason",
            folded=len(rows) > LONG // 2,
        ),
        lines(["A weight that is pinned along two axes counts for both."]),
    )


def _certified(facts: Facts) -> list[tuple[str, Facts]]:
    return [(group["name"], group["certificate"]) for group in facts["groups"] if group.get("certificate")]


def errors(facts: Facts) -> list[Section]:
    """Show what was predicted of each layer beside what was measured."""
    return section("errors", "Predicted and measured errors", _bounded(facts), _shares(facts), *_solved(facts))


def _bounded(facts: Facts) -> Figure | None:
    """Bounds against the largest error that was measured."""
    every = [entry for _, entry in _certified(facts) if not entry["none"] and "none" not in entry["measured"]]
    every = [entry for entry in every if entry["error"] and entry["measured"]["max_abs"]]
    if not every:
        return None
    series = [Series([each["error"] for each in every], [each["measured"]["max_abs"] for each in every])]
    keys = [keyed(0, "at most, for certain", dots=True)]
    drawn = [each for each in every if each["promise"] is not None]
    if drawn:
        series.append(
            Series([each["promise"]["epsilon"] for each in drawn], [each["measured"]["max_abs"] for each in drawn], 1)
        )
        keys.append(keyed(1, "at most, at 95 %", dots=True))
    held = sum(each["measured"]["max_abs"] <= each["error"] for each in every)
    return Figure(
        title="Bounds, and the largest error that was measured",
        drawings=scatter(series, Axes("bound", "measured", log="xy")),
        label=f"A point for each of {len(every)} groups; {held} of them lie below the line where both are equal.",
        keys=keys,
        note=f"{_NO_ERRORS} Below the dashed line a bound holds, and how far below says how much it gives away.",
    )


def _shares(facts: Facts) -> Figure | None:
    """Errors that moments predict of readers that were solved anew, against those that were measured."""
    found = []
    for _, entry in _certified(facts):
        now = entry["measured"].get("renewed") or entry["measured"]
        if entry.get("missed") and finite(now.get("relative_l2")):
            found.append((math.sqrt(max(entry["missed"][1], 0.0)), now["relative_l2"]))
    found = [(x, y) for x, y in found if x > 0 and y > 0]
    if not found:
        return None
    points = Series([x for x, _ in found], [y for _, y in found])
    return Figure(
        title="Errors of layers that were solved anew",
        drawings=scatter([points], Axes("predicted", "measured", percent="xy", log="xy")),
        label=f"A point for each of {len(found)} groups, the measured error over the predicted one.",
        note=f"{_NO_ERRORS} Predicted: the root of the share of the variance that its readers miss, by the data that "
        "they were solved on. Measured: the distance from the original (relative L2), on other inputs; on the dashed "
        "line both are equal.",
    )


def _solved(facts: Facts) -> list[Block | None]:
    """What every reader that was solved anew misses, along the depth, and in a table."""
    found = list((facts.get("refit") or {}).items())
    if not found:
        return []
    places = list(range(1, len(found) + 1))
    before, after = (
        Series(places, [max(entry[name], 0.0) or math.nan for _, entry in found], style)
        for style, name in ((1, "missed_before"), (0, "missed"))
    )
    rows = [
        (name, *(share(max(e[key], 0.0), 3) for key in ("missed_before", "missed")), count(e["rows"]))
        for name, e in found
    ]
    return [
        Figure(
            title="What readers of thinned groups miss of the variance, along the depth",
            drawings=pairs(before, after, Axes("reader, from input to output", "missed", percent="y", log="y")),
            label=f"Two points for each of {len(found)} readers: what they miss with old and with new weights.",
            keys=(keyed(1, "with the old weights", dots=True), keyed(0, "solved anew", dots=True)),
        ),
        Table(
            columns=("reader", "missed before", "missed now", "rows"),
            rows=rows,
            title=f"All {len(rows):,} readers that were solved anew",
            folded=True,
        ),
    ]


def certificates(facts: Facts) -> list[Section]:
    """Show bounds beside what was measured, group by group."""
    found = _certified(facts)
    if not found:
        return []
    rows = [(name, *bounds(entry), *measured(entry["measured"]), because(entry)) for name, entry in found]
    columns = ("group", "|x| at most", "error at most", "of", "promised", "measured", "relative", "because")
    return section(
        "certificates",
        "Certificates",
        lines([end_to_end(facts["end_to_end"])]),
        Table(
            columns=columns,
            rows=rows,
            notes=1,
            title=f"All {len(rows):,} groups that were thinned",
            folded=len(rows) > LONG // 2,
        ),
        lines([EXPLAINED]),
    )
