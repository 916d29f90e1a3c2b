"""Pages of one network: what a prune did to it, or what could be done."""

from typing import Any

from onnxprune.report.blocks import (
    Figure,
    Page,
    Section,
    Table,
    Tile,
    count,
    finite,
    keyed,
    lines,
    section,
    share,
    short,
)
from onnxprune.report.layer_blocks import certificates, errors, groups, pins
from onnxprune.report.plots import Axes, Series
from onnxprune.report.plots import lines as drawn_lines
from onnxprune.report.provenance import file_name, provenance
from onnxprune.report.rows import many
from onnxprune.report.sentences import note_lines, proof_lines

__all__ = ["NOUNS", "fidelity_table", "fidelity_tiles", "inspection_page", "prune_page", "sizes_table"]

Facts = dict[str, Any]

_MEASURES = (("parameters", "params"), ("MACs", "macs"), ("prunable channels", "channels"), ("bytes", "bytes"))
NOUNS = {key: label for label, key in _MEASURES}
"""What is counted, in words."""


def prune_page(facts: Facts) -> Page:
    """Make the page of a prune.

    Parameters
    ----------
    facts : dict
        From `facts.describe`.

    Returns
    -------
    Page
    """
    name = file_name(facts["input"], "a network")
    validation = facts["validation"] or {"fidelity": {}, "accuracy": None}
    measured = [fidelity_table(validation["fidelity"])] if len(validation["fidelity"]) > 1 else []
    return Page(
        title=f"{name}, pruned",
        sentence=_sentence(facts, name),
        tiles=[*_tiles(facts), *fidelity_tiles(validation["fidelity"], validation["accuracy"])],
        sections=[
            *section("before-after", "Before and after", sizes_table(facts)),
            *section("proof", "Proof and fidelity", lines(proof_lines(facts)), *measured),
            *_search(facts),
            *groups(facts),
            *errors(facts),
            *certificates(facts),
            *pins(facts),
            *section("notes", "Notes", lines(note_lines(facts))),
            *provenance(facts, [("original", facts["input"]), ("pruned", facts["output"])]),
        ],
    )


def _sentence(facts: Facts, name: str) -> str:
    """Say what was asked and what was done."""
    request, found = facts.get("request", {}), facts["groups"]
    measure = request.get("measure", "params")
    noun, attained = NOUNS.get(measure, measure), share(facts["achieved"].get(measure))
    if "replayed" in request:
        asked = f"Asked to carry out a plan on {name}"
    elif request.get("max_drop") is not None:
        points = f"{request['max_drop']:g} point{'s'[: request['max_drop'] != 1]}"
        asked = f"Asked to remove as much of {name} as costs at most {points} of accuracy"
    else:
        asked = f"Asked to remove {share(request.get('ratio'))} of the {noun} of {name}"
    thinner = sum(group["kept"] < group["channels"] for group in found)
    how = f" by the method {request['method']}" if "method" in request else ""
    where = f"thinning {thinner} of {many(len(found), 'group', 'groups')} of channels{how}"
    if facts["validation"] is None:
        return f"{asked}, onnxprune would remove {attained} of the {noun}, {where}; nothing was written."
    written = file_name(facts["output"], "The result")
    return (
        f"{asked}, onnxprune removed {attained} of the {noun}, {where}. {written} equals the original with those "
        "channels masked."
    )


def _tiles(facts: Facts) -> list[Tile]:
    tiles = []
    for label, key in _MEASURES:
        before, after = facts["input"].get(key), facts["output"].get(key)
        if finite(before) and finite(after) and before:
            tiles.append(Tile(f"{label} removed", share(1 - after / before), f"{count(before)} → {count(after)}"))
    return tiles


def fidelity_tiles(fidelity: Facts, accuracy: Facts | None) -> list[Tile]:
    """The accuracy, or how far outputs are from the original's at the farthest."""
    if accuracy is not None:
        change = f"{share(accuracy['before'])} before, of {accuracy['samples']:,} samples"
        return [Tile("top-1 accuracy", share(accuracy["after"]), change)]
    agreed = [entry["top1_agreement"] for entry in fidelity.values() if finite(entry["top1_agreement"])]
    far = [entry["relative_l2"] for entry in fidelity.values() if finite(entry["relative_l2"])]
    tiles = [Tile("agrees with the original", share(min(agreed)))] if agreed else []
    return [*tiles, Tile("from the original", share(max(far)), "relative L2")] if far else tiles


def sizes_table(facts: Facts) -> Table:
    """Sizes of a network before and after."""
    rows = []
    for label, key in _MEASURES:
        before, after = facts["input"].get(key), facts["output"].get(key)
        gone = share(1 - after / before) if finite(before) and finite(after) and before else "–"
        if before is not None:
            rows.append((label, count(before), count(after), gone))
    return Table(columns=("", "before", "after", "removed"), rows=rows)


def fidelity_table(fidelity: Facts) -> Table:
    """How far each output is from the original's."""
    rows = [
        (name, share(each["relative_l2"]), short(each["cosine"]), share(each["top1_agreement"]))
        for name, each in fidelity.items()
    ]
    return Table(columns=("output", "relative L2", "cosine", "agrees"), rows=rows)


def _search(facts: Facts) -> list[Section]:
    """Show which ratios were tried, and what each lost."""
    tried = sorted(facts.get("search") or [], key=lambda entry: entry["removed"])
    if not tried:
        return []
    limit = facts["request"]["max_drop"] / 100
    removed = [entry["removed"] for entry in tried]
    series = [
        Series([0.0, *removed], [0.0, *(entry["drop"] for entry in tried)]),
        Series([0.0, removed[-1]], [limit, limit], 1),
    ]
    rows = [
        (share(e["removed"]), share(e["ratio"]), share(e["before"], 2), share(e["after"], 2), f"{100 * e['drop']:.2f}")
        for e in tried
    ]
    return section(
        "search",
        "Ratios that were tried",
        Figure(
            title="Accuracy lost, by the share that went",
            drawings=drawn_lines(series, Axes("removed", "accuracy lost", percent="xy")),
            label=f"A line through {len(tried)} ratios, and the loss that was allowed, {share(limit, 2)}.",
            keys=(keyed(0, "lost"), keyed(1, "allowed")),
        ),
        Table(columns=("removed", "ratio", "before", "after", "points lost"), rows=rows),
    )


def inspection_page(facts: Facts) -> Page:
    """Make the page of an inspection.

    Parameters
    ----------
    facts : dict
        From `facts.inspection`.

    Returns
    -------
    Page
    """
    name = file_name(facts["input"], "a network")
    reach = facts["reachable"]
    rows = [(label, count(facts["input"][key]), share(reach[key])) for label, key in _MEASURES if key in reach]
    return Page(
        title=f"{name}, inspected",
        sentence=f"Of {name}, {share(reach['params'])} of the parameters could go at most, from "
        f"{many(len(facts['groups']), 'group', 'groups')} of channels.",
        tiles=[Tile(f"{label} that can go", value, f"of {total}") for label, total, value in rows],
        sections=[
            *section("reach", "How far one could go", Table(columns=("", "in the file", "can go, at most"), rows=rows)),
            *groups(facts),
            *pins(facts),
            *section("notes", "Notes", lines(note_lines(facts))),
            *provenance(facts, [("network", facts["input"])]),
        ],
    )
