"""Networks under shift, for a terminal."""

from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from onnxprune.report.rows import new_table, row

__all__ = ["shift_lines"]

Facts = dict[str, Any]

_SHOWN_LEVELS = (2, 5, 8, 11, 14)


def shift_lines(facts: Facts) -> list[RenderableType]:
    """Show what corruptions and noise do, and how far one may prune.

    Parameters
    ----------
    facts : dict
        From `compare_files`.

    Returns
    -------
    list
        Nothing where nothing was asked for.
    """
    names = [network["name"] for network in facts["networks"]]
    return [
        *(_corruptions(facts["corruptions"], names, facts) if facts["corruptions"] else []),
        *(_noise(facts["noise"], names) if facts["noise"] else []),
        *(_potential(facts["potential"], facts["excess"]) if facts["potential"] else []),
        *(_features(facts["features"]) if facts.get("features") else []),
    ]


def _corruptions(found: Facts, names: list[str], facts: Facts) -> list[RenderableType]:
    what = "right" if facts["data"]["labelled"] else "as the original's on the clean picture"
    table = new_table("corruption", "original", *names, title=f"Answers that are {what}, mean of five severities")
    for kind, shares in found["kinds"].items():
        row(table, kind, *(f"{np.mean(each):.1%}" for each in (shares["original"], *shares["networks"])))
    return [table, *(Text(f"{kind} is left out: {why}") for kind, why in found["left_out"].items())]


def _noise(found: Facts, names: list[str]) -> list[RenderableType]:
    levels = [found["levels"][place] for place in _SHOWN_LEVELS]
    title = f"Classes equal to the original's under noise, {found['inputs']} inputs, {found['draws']} draws"
    table = new_table("noise", *(f"±{level:.2g}" for level in levels), title=title)
    rows = [*zip(names, found["networks"], strict=True)]
    rows += [("a network trained apart", found["control"])] if found["control"] else []
    for name, shares in rows:
        row(table, name, *(f"{shares['agreement'][place]:.1%}" for place in _SHOWN_LEVELS))
    return [table]


def _potential(found: Facts, excess: Facts) -> list[RenderableType]:
    title = f"Prune potential: the largest share removed within {found['delta']:g} points of the original's error"
    table = new_table("inputs", "original's error", "potential", title=title)
    for name, entry in found["distributions"].items():
        row(table, name, f"{entry['original_error']:.1%}", f"{entry['potential']:.1%}")
    said = (
        f"Excess error under shift: {100 * excess['slope']:.2f} points per whole network removed "
        f"({100 * excess['low']:.2f} to {100 * excess['high']:.2f}); 0 would be as robust as the original."
    )
    return [table, Text(said)]


def _features(found: Facts) -> list[RenderableType]:
    confidence, names = found["confidence"], [*found["confidence"]]
    title = f"How sure networks are where they see {found['fraction']:.0%} of the pixels, {found['inputs']} inputs"
    table = new_table("network", *(f"chosen by {name}" for name in names), title=title)
    for name, shares in confidence.items():
        row(table, name, *(f"{shares[other]:.1%}" for other in names))
    return [table]
