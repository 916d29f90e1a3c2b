"""The page of networks that were compared with their original: sizes, figures of each output, inputs that flipped."""

from collections.abc import Iterator
from typing import Any

from onnxprune.report.blocks import (
    LONG,
    Block,
    Figure,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Tile,
    count,
    finite,
    keyed,
    lines,
    pair,
    section,
    share,
    short,
)
from onnxprune.report.compare import matched, remarks
from onnxprune.report.plots import Axes, Series
from onnxprune.report.plots import lines as drawn_lines
from onnxprune.report.provenance import file_name, provenance
from onnxprune.report.rows import many
from onnxprune.report.shift_page import shift_sections

__all__ = ["compare_page", "latency_cells"]

Facts = dict[str, Any]

_PICTURES, _BYTES = 24, 1 << 20
"""Pictures that a page shows of a network's output, and characters that all of them take."""
# What is shown of an output: the heading, the figure, and how it is told; pairs are before and after.
_FIGURES = (
    ("relative L2", "relative_l2", share),
    ("cosine", "cosine", short),
    ("largest difference", "max_abs", short),
    ("PSNR, dB", "psnr", short),
    ("agrees", "agreement", share),
    ("softmax apart", "softmax_distance", short),
    ("KL", "kl", short),
    ("top-1", "top1", share),
    ("top-5", "top5", share),
    ("calibration error", "calibration_error", short),
    ("perplexity", "perplexity", short),
)


def compare_page(facts: Facts) -> Page:
    """Make the page of a comparison.

    Parameters
    ----------
    facts : dict
        From `compare_files`.

    Returns
    -------
    Page
    """
    name, networks = file_name(facts["original"], "the original"), facts["networks"]
    files = [("original", facts["original"]), *((network["name"], network) for network in networks)]
    return Page(
        title=f"{name}, compared",
        sentence=_sentence(facts, name),
        tiles=_tiles(facts),
        sections=[
            *section("networks", "Networks", _sizes(facts), lines([_timed(facts)]), _by_ratio(facts)),
            *section("outputs", "Outputs", _outputs(facts), _detections(facts), lines(remarks(facts))),
            *_classes(facts),
            *_flipped(facts),
            *shift_sections(facts),
            *section("data", "Data", lines(_data(facts))),
            *provenance(facts, files),
        ],
    )


def _every(facts: Facts) -> Iterator[tuple[str, str, Facts]]:
    """Every output of every network: names of both, and figures."""
    for network in facts["networks"]:
        for name, found in network.get("outputs", {}).items():
            yield network["name"], name, found


def _inputs(facts: Facts) -> str:
    data = facts["data"]
    kind = "made up" if data["origin"] == "synthetic" else "given"
    return f"{data['samples']:,} inputs that were {kind}"


def _sentence(facts: Facts, name: str) -> str:
    """Say what was compared and how it went."""
    networks = many(len(facts["networks"]), "network was", "networks were")
    said = f"{networks} compared with {name} on {_inputs(facts)}"
    told = [(found["agreement"], network) for network, _, found in _every(facts) if finite(found.get("agreement"))]
    if not told:
        far = [(found["relative_l2"], network) for network, _, found in _every(facts) if finite(found["relative_l2"])]
        worst = max(far, default=None)
        return f"{said}." if worst is None else f"{said}; the farthest, {worst[1]}, is {share(worst[0])} away."
    (low, worst_name), (high, best_name) = min(told), max(told)
    if best_name == worst_name:
        return f"{said}; {best_name} agrees with it on {share(low)}."
    return f"{said}; {best_name} agrees with it on {share(high)}, and {worst_name} on {share(low)}."


def _tiles(facts: Facts) -> list[Tile]:
    """What matters where there is one network; of several, the table says it."""
    if len(facts["networks"]) != 1:
        return []
    (network,), original = facts["networks"], facts["original"]
    tiles = [
        Tile("parameters removed", share(network["removed"]), pair([original["params"], network["params"]], count)),
        *(
            Tile("agrees", share(found["agreement"]), name)
            for _, name, found in _every(facts)
            if finite(found.get("agreement"))
        ),
    ]
    before, after = (entry["latency"]["median_ms"] for entry in (original, network))
    return [*tiles[:5], Tile("of the original's time", share(after / before), f"{short(after)} ms")]


def latency_cells(latency: Facts | None) -> tuple[str, str]:
    """The median, and the range of nine in ten."""
    if not latency:
        return "–", "–"
    return short(latency["median_ms"]), f"{short(latency['low_ms'])} – {short(latency['high_ms'])}"


def _sizes(facts: Facts) -> Table:
    best = facts["original"]["latency"]["median_ms"]
    rows = [
        (
            entry["name"],
            count(entry["params"]),
            share(entry["removed"]) if "removed" in entry else "",
            count(entry["macs"]),
            count(entry["bytes"]),
            *latency_cells(entry["latency"]),
            share(entry["latency"]["median_ms"] / best, 0) if best else "–",
        )
        for entry in (facts["original"], *facts["networks"])
    ]
    columns = ("network", "parameters", "removed", "MACs", "bytes", "ms", "nine in ten", "of the original's")
    return Table(columns=columns, rows=rows)


def _by_ratio(facts: Facts) -> Figure | None:
    """Accuracy and agreement over the share that was removed, where there are several networks."""
    every = {network["name"]: network["removed"] for network in facts["networks"]}
    shown = {
        "right answers": [(every[name], found["top1"][1]) for name, _, found in _every(facts) if found.get("top1")],
        "agrees": [(every[n], found["agreement"]) for n, _, found in _every(facts) if finite(found.get("agreement"))],
    }
    told = {words: points for words, points in shown.items() if len(points) > 1}
    if not told or len(every) < 2:
        return None
    series = [
        Series([x for x, _ in points], [y for _, y in points], style, joined=False)
        for style, points in enumerate(told.values())
    ]
    return Figure(
        title="Accuracy against ratio",
        drawings=drawn_lines(series, Axes("removed", "inputs", percent="xy")),
        label=f"Points for {len(every)} networks; the tables have the numbers.",
        keys=[keyed(style, words, dots=True) for style, words in enumerate(told)],
    )


def _timed(facts: Facts) -> str:
    latency = facts["original"]["latency"]
    return (
        f"Milliseconds are medians of {latency['runs']} runs at batch {latency['batch']} on {latency['provider']}, by "
        "turns."
    )


def _outputs(facts: Facts) -> Table | None:
    every = list(_every(facts))
    shown = [entry for entry in _FIGURES if any(found.get(entry[1]) is not None for _, _, found in every)]
    rows = [
        (output, network, *(_told(found.get(key), form) for _, key, form in shown)) for network, output, found in every
    ]
    columns = ("output", "network", *(heading for heading, _, _ in shown))
    folded = len(rows) > LONG
    return (
        Table(columns=columns, rows=rows, words=2, title="How far they are from the original's", folded=folded)
        if rows
        else None
    )


def _told(value: Any, form: Any) -> str:
    return pair(value, form) if isinstance(value, list) else form(value)


def _detections(facts: Facts) -> Table | None:
    """Tell how many detections are found again."""
    title, found = matched(facts)
    if not found:
        return None
    rows = [
        (
            name,
            count(each["before"]),
            count(each["after"]),
            *(share(each[key]) for key in ("kept", "new")),
            *(short(each[key]) for key in ("overlap", "score_gap")),
        )
        for name, each in found
    ]
    columns = ("network", "before", "after", "found again", "new ones", "overlap", "scores apart")
    return Table(columns=columns, rows=rows, title=title)


def _classes(facts: Facts) -> list[Section]:
    """Show the classes that lost most."""
    rows = [
        (network, output, str(entry["class"]), count(entry["samples"]), share(entry["before"]), share(entry["after"]))
        for network, output, found in _every(facts)
        for entry in found.get("worst_classes") or []
    ]
    if not rows:
        return []
    labelled = facts["data"]["labelled"]
    what = "Shares of right answers." if labelled else "Shares of inputs of the original's class that are still of it."
    columns = ("network", "output", "class", "samples", "before", "after")
    table = Table(columns=columns, rows=rows, words=2, title=f"All {len(rows)} classes", folded=len(rows) > LONG)
    return section("classes", "Classes that lost most", table, lines([what]))


def _flipped(facts: Facts) -> list[Section]:
    """Show inputs that changed their class: as pictures where there are any, and in a table."""
    blocks: list[Block | None] = []
    changed = [each for each in _every(facts) if each[2].get("flips")]
    for network, output, found in changed:
        share_flipped = share(found["flips"] / facts["data"]["samples"])
        title = f"{network}: {found['flips']:,} inputs ({share_flipped}) have another class in {output}"
        shown = _pictures(found["flipped"], _BYTES // len(changed))
        rows = [
            (str(e["sample"]), str(e["before"]), str(e["after"]), *map(share, e["confidence"]), _label(e))
            for e in found["flipped"]
        ]
        columns = ("input", "before", "after", "sure before", "sure after", "class")
        blocks += [
            Pictures(title=title, pictures=shown) if shown else None,
            Table(
                columns=columns, rows=rows, title=f"{output} of {network}, in numbers" if shown else title, folded=True
            ),
        ]
    if blocks:
        blocks.append(lines(["The first are those that the original was surest of."]))
    return section("flipped", "Inputs that changed their class", *blocks)


def _pictures(flipped: list[Facts], left: int) -> list[Picture]:
    shown: list[Picture] = []
    for entry in flipped[:_PICTURES]:
        data = entry.get("thumbnail")
        if not data or sum(len(picture.data) for picture in shown) + len(data) > left:
            continue
        sure = f"sure {pair(entry['confidence'], lambda value: share(value, 0))}"
        label = _label(entry)
        details = (sure, f"input {entry['sample']}", *([f"is class {label}"] if label else []))
        shown.append(Picture(data=data, title=f"{entry['before']} → {entry['after']}", details=details))
    return shown


def _label(entry: Facts) -> str:
    return "" if entry["label"] is None else str(entry["label"])


def _data(facts: Facts) -> list[str]:
    classes = "." if facts["data"]["labelled"] else ", without classes."
    return [
        f"Compared on {_inputs(facts)}{classes}",
        *(f"{note[:1].upper()}{note[1:]}." for note in facts["data"]["notes"]),
    ]
