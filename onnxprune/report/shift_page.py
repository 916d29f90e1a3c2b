"""What a comparison found under shift: corruptions, noise, prune potential, excess error, informative features."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxprune.report.blocks import (
    Bar,
    Block,
    Figure,
    Grid,
    Key,
    Picture,
    Pictures,
    Section,
    Table,
    keyed,
    lines,
    section,
    share,
)
from onnxprune.report.plots import OTHER, REFERENCE, Axes, Series, fan, style_of
from onnxprune.report.plots import lines as drawn_lines

__all__ = ["shift_sections"]

Facts = dict[str, Any]


def shift_sections(facts: Facts) -> list[Section]:
    """Make the sections of what was looked at.

    Parameters
    ----------
    facts : dict
        From `compare_files`.

    Returns
    -------
    list of Section
    """
    names = [network["name"] for network in facts["networks"]]
    return [
        *(_corruptions(facts["corruptions"], names, facts) if facts.get("corruptions") else []),
        *(_noise(facts["noise"], names) if facts.get("noise") else []),
        *(_potential(facts["potential"], names) if facts.get("potential") else []),
        *_excess(facts),
        *(_features(facts["features"]) if facts.get("features") else []),
    ]


def _keys(names: Sequence[str], *more: Key) -> list[Key]:
    return [*more, *(keyed(style_of(number), name) for number, name in enumerate(names))]


def _corruptions(found: Facts, names: list[str], facts: Facts) -> list[Section]:
    severities, kinds = found["severities"], found["kinds"]
    right = facts["data"]["labelled"]
    what = "right answers" if right else "answers as the original's on the clean input"
    axes = Axes("severity", what if len(what) < 20 else "answers that stay", percent="y")

    def series(entry: Facts) -> list[Series]:
        own = [Series(severities, values, style_of(number)) for number, values in enumerate(entry["networks"])]
        return [Series(severities, entry["original"], REFERENCE), *own]

    mean = {
        "original": np.mean([entry["original"] for entry in kinds.values()], axis=0).tolist(),
        "networks": np.mean([entry["networks"] for entry in kinds.values()], axis=0).tolist(),
    }
    rows = [
        (kind, *(share(float(np.mean(each))) for each in (entry["original"], *entry["networks"])))
        for kind, entry in kinds.items()
    ]
    small = [
        Figure(
            title=kind,
            drawings=drawn_lines(series(entry), Axes(percent="y"), small=True),
            label=f"{kind}: {what} by severity; the table has the means.",
        )
        for kind, entry in kinds.items()
    ]
    keys = _keys(names, keyed(REFERENCE, "original"))
    return section(
        "corruptions",
        "Corrupted inputs",
        Figure(
            title=f"{what.capitalize()}, mean over {len(kinds)} corruptions",
            drawings=drawn_lines(series(mean), axes),
            label=f"A line per network over {len(severities)} severities; the original's is grey.",
            keys=keys,
        ),
        Grid(figures=small, keys=keys),
        Table(
            columns=("corruption", "original", *names),
            rows=rows,
            title=f"Means of {len(severities)} severities",
            folded=True,
        ),
        lines([f"{kind} is left out: {why}" for kind, why in found.get("left_out", {}).items()]),
    )


def _noise(found: Facts, names: list[str]) -> list[Section]:
    levels, control = found["levels"], found.get("control")
    apart = [keyed(OTHER, "a network trained apart")] if control else []

    def drawn(key: str, axes: Axes) -> list[str]:
        own = [Series(levels, shares[key], style_of(number)) for number, shares in enumerate(found["networks"])]
        return drawn_lines([*own, *([Series(levels, control[key], OTHER)] if control else [])], axes)

    every = [*zip(names, found["networks"], strict=True), *([("a network trained apart", control)] if control else [])]
    rows = [
        (f"±{level:.3g}", *(share(shares["agreement"][place]) for _, shares in every))
        for place, level in enumerate(levels)
    ]
    keys = _keys(names, *apart)
    return section(
        "noise",
        "Inputs with noise",
        Figure(
            title="Classes equal to the original's, by the noise that is added",
            drawings=drawn("agreement", Axes("noise, in standard deviations of the inputs", "equal", percent="y")),
            label=f"A line per network over {len(levels)} levels of noise; the table has the numbers.",
            keys=keys,
        ),
        Figure(
            title="Distance of probabilities from the original's",
            drawings=drawn("distance", Axes("noise, in standard deviations of the inputs", "softmax distance")),
            label=f"A line per network over {len(levels)} levels of noise.",
            keys=keys,
        ),
        Table(columns=("noise", *(name for name, _ in every)), rows=rows, title="Equal classes", folded=True),
        lines([f"Uniform noise on {found['inputs']:,} inputs, {found['draws']:,} times each; all get the same."]),
    )


def _potential(found: Facts, names: list[str]) -> list[Section]:
    rows = [
        (
            name,
            Bar(entry["potential"] or 0.0, share(entry["potential"]), whole=False),
            share(entry["original_error"]),
            *map(share, entry["errors"]),
        )
        for name, entry in found["distributions"].items()
    ]
    columns = ("inputs", "prune potential", "original's error", *(f"error of {name}" for name in names))
    said = (
        f"The prune potential is the largest share removed, of the networks here, whose error is within "
        f"{found['delta']:g} points of the original's on the same inputs; 0 where none is."
    )
    return section("potential", "Prune potential", lines([said]), Table(columns=columns, rows=rows, words=2))


def _excess(facts: Facts) -> list[Section]:
    """Show how errors under shift grow with the share that is removed."""
    given = facts.get("excess") or []
    blocks: list[Block | None] = []
    for number, entry in enumerate(given if isinstance(given, list) else [given]):
        x, y = ([point[side] for point in entry["points"]] for side in (0, 1))
        style = style_of(number)
        axes = Axes("removed", "excess error", percent="xy")
        blocks.append(
            Figure(
                title=f"Excess error by the share that is removed{_of(entry)}",
                drawings=fan(Series(x, y, style), entry["slope"], (entry["low"], entry["high"]), axes),
                label=f"{len(x)} points, and a line through the origin.",
                note=f"Slope {100 * entry['slope']:.2f} points per whole network removed, 95 % of slopes of points "
                f"drawn again in {100 * entry['low']:.2f} to {100 * entry['high']:.2f}; 0 would be as robust as the "
                "original.",
            )
        )
    if blocks:
        said = "What a network loses under shift beyond what it loses on clean inputs and what the original loses."
        blocks.insert(0, lines([said]))
    return section("excess", "Excess error", *blocks)


def _of(entry: Facts) -> str:
    return f", {entry['name']}" if entry.get("name") else ""


def _features(found: Facts) -> list[Section]:
    """Show what networks make of the pixels that others find informative."""
    confidence = found.get("confidence") or {}
    columns = list(dict.fromkeys(name for shares in confidence.values() for name in shares))
    rows = [(name, *(share(shares.get(column)) for column in columns)) for name, shares in confidence.items()]
    fraction = share(found.get("fraction"), 0)
    beside = "White is what a network misses most: black goes first."
    return section(
        "features",
        "Informative features",
        lines([f"How sure networks are of the class where they see {fraction} of the input, chosen by which network:"]),
        Table(columns=("network", *(f"chosen by {column}" for column in columns)), rows=rows) if rows else None,
        *(_map(entry) for entry in found.get("maps", [])),
        lines([beside]) if found.get("maps") else None,
    )


def _map(entry: Facts) -> Pictures:
    """Show an input, and what each network goes by in it."""
    heats = [
        Picture(data=own["heat"], title=name, details=[f"sees class {own['class']}"])
        for name, own in entry["networks"].items()
    ]
    title = f"What networks go by in input {entry['sample']}"
    return Pictures(title=title, pictures=[Picture(data=entry["input"], title="input"), *heats])
