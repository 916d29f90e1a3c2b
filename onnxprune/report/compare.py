"""A comparison of networks, for a terminal."""

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxprune.report.rows import new_table, number, row, seconds
from onnxprune.report.shifts import shift_lines

__all__ = ["compare_view", "matched", "remarks"]

Facts = dict[str, Any]

_SHOWN = 5
# What is shown of an output: the heading, the figure, and how it is written; pairs are before and after.
_FIGURES = (
    ("far from the original", "relative_l2", ".1%"),
    ("cosine", "cosine", ".4f"),
    ("at most", "max_abs", ".3g"),
    ("PSNR", "psnr", ".1f"),
    ("agrees", "agreement", ".1%"),
    ("softmax apart", "softmax_distance", ".3f"),
    ("KL", "kl", ".4f"),
    ("top-1", "top1", ".1%"),
    ("top-5", "top5", ".1%"),
    ("calibration error", "calibration_error", ".3f"),
    ("perplexity", "perplexity", ".3g"),
)


def compare_view(facts: Facts, *, verbose: bool = False) -> list[RenderableType]:
    """Show how networks compare with their original.

    Parameters
    ----------
    facts : dict
        From `compare_files`.
    verbose : bool
        Classes that lost most, inputs that changed theirs, and times too.
    """
    parts: list[RenderableType] = [_sizes(facts), _outputs(facts), *_detections(facts)]
    for network in facts["networks"]:
        for name, found in network["outputs"].items() if verbose or len(facts["networks"]) <= _SHOWN else ():
            parts += _changed(network["name"], name, found, facts, verbose=verbose)
    parts += [*remarks(facts), *shift_lines(facts)]
    data = facts["data"]
    kind = "inputs that were made up" if data["origin"] == "synthetic" else "samples"
    classes = "" if data["labelled"] else ", without classes"
    latency = facts["original"]["latency"]
    parts += [
        Text(" ".join([f"On {data['samples']:,} {kind}{classes}.", *(f"{note}." for note in data["notes"])])),
        Text(
            f"Milliseconds are medians of {latency['runs']} runs at batch {latency['batch']} on {latency['provider']}, "
            "by turns; beside them nine in ten."
        ),
    ]
    return [*parts, seconds(facts)] if verbose else parts


def remarks(facts: Facts) -> list[Text]:
    """Say what could not be compared, and what is not finite.

    Parameters
    ----------
    facts : dict
        From `compare_files`.

    Returns
    -------
    list of Text
    """
    left = [
        Text(f"{network['name']}: {name} is {why}: not compared.", style="yellow")
        for network in facts["networks"]
        for name, why in network.get("skipped", {}).items()
    ]
    broken = [
        Text(
            f"{network['name']}: {name} is not finite in {found['broken']:,} of {found['samples']:,} samples.",
            style="red",
        )
        for network in facts["networks"]
        for name, found in network.get("outputs", {}).items()
        if found.get("broken")
    ]
    return [*left, *broken]


def matched(facts: Facts) -> tuple[str, list[tuple[str, Facts]]]:
    """Detections of every network that makes any, and a heading that says how they were matched.

    Parameters
    ----------
    facts : dict
        From `compare_files`.

    Returns
    -------
    str
    list of (str, dict)
        Names of networks, and figures.
    """
    found = [(network["name"], network["detections"]) for network in facts["networks"] if network.get("detections")]
    if not found:
        return "", []
    told, by = found[0][1], "same positions" if found[0][1]["by"] == "positions" else "boxes that overlap by half"
    return f"Detections surer than {told['threshold']:g}, matched by {by}", found


def _sizes(facts: Facts) -> Table:
    table = new_table("", "parameters", "removed", "MACs", "bytes", "ms", "nine in ten")
    for entry in (facts["original"], *facts["networks"]):
        removed = entry.get("removed")
        latency = entry["latency"]
        row(
            table,
            entry["name"],
            number(entry["params"]),
            "" if removed is None else f"{removed:.1%}",
            "" if entry["macs"] is None else number(entry["macs"]),
            number(entry["bytes"]),
            f"{latency['median_ms']:.3g}",
            f"{latency['low_ms']:.3g} – {latency['high_ms']:.3g}",
        )
    return table


def _outputs(facts: Facts) -> Table:
    every = [(net["name"], name, found) for net in facts["networks"] for name, found in net["outputs"].items()]
    shown = [entry for entry in _FIGURES if any(found[entry[1]] is not None for _, _, found in every)]
    table = new_table("output", "of", *(heading for heading, _, _ in shown))
    table.columns[1].justify = "left"
    for network, name, found in every:
        row(table, name, network, *(_told(found[figure], form) for _, figure, form in shown))
    return table


def _detections(facts: Facts) -> list[RenderableType]:
    """Say how many detections are found again."""
    title, found = matched(facts)
    if not found:
        return []
    table = new_table("", "before", "after", "found again", "new ones", "overlap", "scores apart", title=title)
    forms = (("kept", ".1%"), ("new", ".1%"), ("overlap", ".3f"), ("score_gap", ".3f"))
    for name, each in found:
        row(
            table, name, number(each["before"]), number(each["after"]), *(_told(each[key], form) for key, form in forms)
        )
    return [table]


def _told(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"{value[0]:{form}} → {value[1]:{form}}"
    return f"{value:{form}}"


def _changed(network: str, output: str, found: Facts, facts: Facts, *, verbose: bool) -> list[RenderableType]:
    """Say which inputs changed their class, and which classes lost most."""
    if not found["flips"]:
        return []
    share = found["flips"] / facts["data"]["samples"]
    said = f"{network}: {found['flips']:,} inputs ({share:.1%}) have another class in {output}"
    if not verbose:
        first = ", ".join(str(entry["sample"]) for entry in found["flipped"][:_SHOWN])
        return [Text(f"{said}, of which the original was surest of number {first}; -v shows more.")]
    table = new_table("sample", "before", "after", "sure before", "sure after", "class", title=f"{said}:")
    for entry in found["flipped"]:
        sure = [f"{value:.0%}" for value in entry["confidence"]]
        label = "" if entry["label"] is None else entry["label"]
        row(table, entry["sample"], entry["before"], entry["after"], *sure, label)
    worst = new_table("class", "samples", "before", "after", title=f"{network}: classes of {output} that lost most")
    for entry in found["worst_classes"]:
        row(worst, entry["class"], entry["samples"], f"{entry['before']:.1%}", f"{entry['after']:.1%}")
    return [table, worst] if found["worst_classes"] else [table]
