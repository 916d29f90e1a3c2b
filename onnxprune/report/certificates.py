"""What is certain of each group that was thinned, and what was measured, in words: the columns of a table of them."""

from typing import Any

__all__ = ["EXPLAINED", "because", "bounds", "end_to_end", "measured"]

Facts = dict[str, Any]

EXPLAINED = (
    "Errors of what the readers of one group compute, all else whole. Error at most: for certain, for inputs x of the "
    "group's writer no longer than shown; of: what leaving out the whole group could do there. Promised: at 95 %, over "
    "the draws of a sample, for an input fixed before. Vacuous is a bound that says no more than leaving all out would."
    " Solved anew: with the weights that are written; they were solved for what the pruned network hands them."
)
"""What the columns mean."""


def bounds(entry: Facts) -> tuple[str, ...]:
    """Bounds of a group: the radius they are for, the error, that of leaving all out, and what is promised."""
    if entry["none"]:
        return ("", "none", "", "")
    vacuous = " (vacuous)" if entry["vacuous"] else ""
    promise, promised = entry["promise"], ""
    if promise is not None:
        promised = f"{promise['epsilon']:.3g}{' (vacuous)' if promise['vacuous'] else ''}"
    return f"{entry['beta']:.3g}", f"{entry['error']:.3g}{vacuous}", f"{entry['whole']:.3g}", promised


def measured(entry: Facts) -> tuple[str, str]:
    """Errors of a group as measured: the largest, and the share."""
    if "none" in entry:
        return "", ""
    most, relative, new = f"{entry['max_abs']:.3g}", f"{entry['relative_l2']:.1%}", entry.get("renewed")
    if new is None:
        return most, relative
    return f"{most}, solved anew {new['max_abs']:.3g}", f"{relative}, solved anew {new['relative_l2']:.1%}"


def because(entry: Facts) -> str:
    """Say what a row rests on, or why something is missing."""
    unmeasured = f"not measured: {entry['measured']['none']}" if "none" in entry["measured"] else ""
    if entry["none"]:
        missed = entry.get("missed")
        shares = f"its readers missed {missed[0]:.1%} of the variance, now {missed[1]:.1%}" if missed else ""
        return "; ".join(filter(None, (entry["none"], shares, unmeasured)))
    activation = entry["activation"] or "no activation"
    covered = activation if entry["covered"] else f"{activation}, not covered by the theorem"
    promise = entry["promise"] or {}
    apart = "positive and negative weights drawn apart" if promise.get("signs") == "split" else ""
    factor = _factor(entry.get("relative"))
    source = f"|x| {'from ' if entry['beta_from'] != 'assumed' else ''}{entry['beta_from']}"
    return "; ".join(filter(None, (covered, source, apart, factor, unmeasured)))


def end_to_end(entry: Facts) -> str:
    """Say how far the output moves at most."""
    if entry["none"]:
        return f"End to end: no bound ({entry['none']})."
    size = "" if entry["output_norm"] is None else f"; the original's outputs measured {entry['output_norm']:.3g}"
    vacuous = ", which is vacuous" if entry["vacuous"] else ""
    return (
        f"End to end: the output moves by {entry['error']:.3g} at most for inputs of length {entry['norm']:.3g}"
        f"{vacuous} (an output of zeros: {entry['whole']:.3g} at most{size})."
    )


def _factor(relative: Facts | None) -> str:
    """Say what is promised as a factor."""
    if relative is None:
        return ""
    vacuous = " (vacuous)" if relative["vacuous"] else ""
    size = f"1 ± {relative['epsilon']:.3g}{vacuous} at {relative['draws']} draws, ± 0.5 from {relative['needed']} on"
    return f"no factor ({relative['obstacle']}; else {size})" if relative["obstacle"] else f"a factor of {size}"
