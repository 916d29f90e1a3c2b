"""The report for people: tables and plain sentences for a terminal, from plain data."""

from collections import defaultdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxprune.report.outputs import accuracy_lines, fidelity_lines, learnt_lines
from onnxprune.report.rows import DRY, many, new_table, number, row, seconds

__all__ = ["inspection_view", "prune_view"]

Facts = dict[str, Any]

_MEASURES = (("parameters", "params"), ("MACs", "macs"), ("prunable channels", "channels"))
_SHOWN, _LISTED = 4, 6


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


def _said(facts: Facts) -> list[Text]:
    """What the method has to say about its choice in each group; groups with the same notes together."""
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in facts["groups"]:
        if group.get("notes"):
            alike[tuple(group["notes"])].append(group["name"])
    return [Text(f"{', '.join(names)}: {'; '.join(notes)}.") for notes, names in alike.items()]


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
        row(table, name, *_bounds(entry), *_measured(entry["measured"]), _because(entry))
    return [table, Text(_CERTIFICATES), Text(_end_to_end(facts["end_to_end"]))]


def _end_to_end(entry: Facts) -> str:
    if entry["none"]:
        return f"End to end: no bound ({entry['none']})."
    measured = "" if entry["output_norm"] is None else f"; the original's outputs measured {entry['output_norm']:.3g}"
    vacuous = ", which is vacuous" if entry["vacuous"] else ""
    return (
        f"End to end: the output moves by {entry['error']:.3g} at most for inputs of length {entry['norm']:.3g}"
        f"{vacuous} (an output of zeros: {entry['whole']:.3g} at most{measured})."
    )


_CERTIFICATES = (
    "Errors of what the readers of one group compute, all else whole. Error at most: for certain, for inputs x of the "
    "group's writer no longer than shown; of: what leaving out the whole group could do there. Promised: at 95 %, over "
    "the draws of a sample, for an input fixed before. Vacuous is a bound that says no more than leaving all out would."
    " Solved anew: with the weights that are written; they were solved for what the pruned network hands them."
)


def _bounds(entry: Facts) -> tuple[str, ...]:
    if entry["none"]:
        return ("", "none", "", "")
    vacuous = " (vacuous)" if entry["vacuous"] else ""
    promise, promised = entry["promise"], ""
    if promise is not None:
        promised = f"{promise['epsilon']:.3g}{' (vacuous)' if promise['vacuous'] else ''}"
    return f"{entry['beta']:.3g}", f"{entry['error']:.3g}{vacuous}", f"{entry['whole']:.3g}", promised


def _measured(entry: Facts) -> tuple[str, str]:
    if "none" in entry:
        return "", ""
    most, relative, new = f"{entry['max_abs']:.3g}", f"{entry['relative_l2']:.1%}", entry.get("renewed")
    if new is None:
        return most, relative
    return f"{most}, solved anew {new['max_abs']:.3g}", f"{relative}, solved anew {new['relative_l2']:.1%}"


def _because(entry: Facts) -> str:
    """Say what a row rests on, or why something is missing."""
    measured = f"not measured: {entry['measured']['none']}" if "none" in entry["measured"] else ""
    if entry["none"]:
        missed = entry.get("missed")
        shares = f"its readers missed {missed[0]:.1%} of the variance, now {missed[1]:.1%}" if missed else ""
        return "; ".join(filter(None, (entry["none"], shares, measured)))
    activation = entry["activation"] or "no activation"
    covered = activation if entry["covered"] else f"{activation}, not covered by the theorem"
    promise = entry["promise"] or {}
    apart = "positive and negative weights drawn apart" if promise.get("signs") == "split" else ""
    factor = _factor(entry.get("relative"))
    source = f"|x| {'from ' if entry['beta_from'] != 'assumed' else ''}{entry['beta_from']}"
    return "; ".join(filter(None, (covered, source, apart, factor, measured)))


def _factor(relative: Facts | None) -> str:
    """Say what is promised as a factor."""
    if relative is None:
        return ""
    vacuous = " (vacuous)" if relative["vacuous"] else ""
    size = f"1 ± {relative['epsilon']:.3g}{vacuous} at {relative['draws']} draws, ± 0.5 from {relative['needed']} on"
    return f"no factor ({relative['obstacle']}; else {size})" if relative["obstacle"] else f"a factor of {size}"


def _kinds(facts: Facts) -> Text:
    """Say what was found in one sentence: groups by kind, and how many units they have together."""
    found: dict[str, list[int]] = defaultdict(list)
    for group in facts["groups"]:
        found[group["kind"]].append(group["channels"])
    parts = [f"{kind}: {sum(sizes):,} in {len(sizes)} group{'s'[: len(sizes) > 1]}" for kind, sizes in found.items()]
    return Text(f"Found {'; '.join(parts) or 'nothing that can go'}.")


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


def _notes(facts: Facts) -> list[Text]:
    notes = []
    for name, shape in facts["assumed_shapes"].items():
        sizes = "x".join(map(str, shape))
        notes.append(Text(f"MACs and validation assume {name}:{sizes}; --input-shape says otherwise."))
    if any(group["normalized"] and group.get("kept", 0) < group["channels"] for group in facts["groups"]):
        kept = "kept" in facts["groups"][0]
        what = "were" if kept else "would be"
        notes.append(
            Text(
                f"Statistics of normalisations {what} taken over the channels that stay (--prune-normalized): the "
                "network computes another function before any weight changes."
            )
        )
    notes += [Text(line) for line in _made_plain(facts["made_plain"])]
    if facts["no_rule"]:
        operators = ", ".join(sorted(set(facts["no_rule"].values())))
        notes.append(Text(f"No rule for {operators}: what these touch was left as it is."))
    if facts.get("request", {}).get("replayed", facts["input"]["sha256"]) != facts["input"]["sha256"]:
        notes.append(Text("The plan was made for another file, in which groups have the same names and sizes."))
    return notes


def _made_plain(counts: dict[str, int]) -> list[str]:
    """Say what was changed in the network besides its channels."""
    lines = []
    if counts["functions"]:
        lines.append(f"{many(counts['functions'], 'local function was', 'local functions were')} inlined.")
    if counts["branches"]:
        lines.append(f"{many(counts['branches'], 'If was', 'Ifs were')} replaced by the one branch ever taken.")
    if counts["weights"]:
        what = many(counts["weights"], "weight that was", "weights that were")
        lines.append(f"{what} computed from stored ones on every run: stored as computed.")
    if counts["dropped"] and lines:
        than = "fewer" if counts["dropped"] > 0 else "more"
        lines.append(f"Parameters are counted after that: {number(abs(counts['dropped']))} {than} than in the file.")
    return lines


def _proof(facts: Facts) -> list[Text]:
    validation = facts["validation"]
    if validation is None:
        return [Text(DRY), *_searched(facts)]
    twin = validation["twin"]
    lines = [
        Text(
            f"Sound: equals the original with the removed channels masked to {twin['relative_l2']:.1e} "
            f"(relative L2, allowed {twin['tolerance']:.0e}; {twin['compared']} tensors on {validation['provider']}"
            f"{', proved in float32' if validation['widened'] else ''}"
            f"{', activations not rounded' if validation['unrounded'] else ''})."
        )
    ]
    if validation["unproved"]:
        names = ", ".join(validation["unproved"][:_LISTED])
        left = len(validation["unproved"]) - _LISTED
        more = f" and {left} more" if left > 0 else ""
        lines.append(Text(f"Unproved (inactive on the random inputs, or not run): {names}{more}", style="yellow"))
    lines += [*_fresh(facts), *fidelity_lines(facts), *accuracy_lines(validation["accuracy"])]
    return [*lines, *_searched(facts), *learnt_lines(facts)]


def _searched(facts: Facts) -> list[Text]:
    """Say which ratios were tried, and what each lost; those samples have chosen among them since."""
    tried = sorted(facts.get("search") or [], key=lambda entry: entry["removed"])
    if not tried:
        return []
    each = ", ".join(f"{entry['removed']:.1%} lost {100 * entry['drop']:.2f}" for entry in tried)
    points = facts["request"]["max_drop"]
    return [
        Text(
            f"Tried for at most {points:g} points: {each}. The largest that keeps to it was taken, by the same samples "
            "held out: on others it may lose a little more."
        )
    ]


def _fresh(facts: Facts) -> list[Text]:
    """Say that weights were drawn anew, and what was left."""
    fresh = facts.get("reinit")
    if not fresh:
        return []
    left, said = fresh["stays"], ""
    if left:
        more = f" and {len(left) - _LISTED} more" if len(left) > _LISTED else ""
        said = f"; {', '.join(left[:_LISTED])}{more} {'stays as it is' if len(left) == 1 else 'stay as they are'}"
    drawn = many(len(fresh["drawn"]), "weight was", "weights were")
    return [Text(f"Then {drawn} drawn anew, with seed {fresh['seed']}, to be trained from scratch{said}.")]


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
        parts += [_groups(facts), *_said(facts), *_pinned(facts)]
    if verbose or facts.get("request", {}).get("certify"):
        parts += _certificates(facts)
    if verbose:
        parts.append(seconds(facts))
    return [*parts, *_proof(facts), *_notes(facts)]


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
    return [_groups(facts), *_pinned(facts), reach, _kinds(facts), *_notes(facts)]
