"""The report for people: tables and plain sentences for a terminal, from plain data."""

import math
from collections import defaultdict
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["inspection_view", "prune_view", "sparse_view"]

Facts = dict[str, Any]

_MEASURES = (("parameters", "params"), ("MACs", "macs"), ("prunable channels", "channels"))
_SHOWN, _LISTED = 4, 6
_DRY = "Dry run: no network was written, and nothing was run."
_POOR_AGREEMENT = 0.9
_POOR_DISTANCE = 0.3


def _number(value: float) -> str:
    return f"{round(value):,}"


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    """Add a row of plain text: a name from a file may look like a console's markup."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def _before_after(facts: Facts) -> Table:
    table = _table("", "before", "after", "removed")
    for label, key in _MEASURES:
        before, after = facts["input"][key], facts["output"][key]
        _row(table, label, _number(before), _number(after), f"{facts['achieved'][key]:.1%}")
    before, after = facts["input"]["bytes"], facts["output"]["bytes"]
    if after is not None:
        _row(table, "bytes", _number(before), _number(after), f"{1 - after / before:.1%}")
    thinner = sum(group["kept"] < group["channels"] for group in facts["groups"])
    _row(table, "groups", len(facts["groups"]), f"{thinner} made thinner", "")
    return table


def _groups(facts: Facts) -> Table:
    kept = any("kept" in group for group in facts["groups"])
    table = _table(
        "group", "kind", "channels", *(["kept"] if kept else []), "parameters", "MACs", "nodes", title="Groups"
    )
    table.columns[1].justify = table.columns[-1].justify = "left"
    for group in facts["groups"]:
        step = f" (by {group['step']})" if group["step"] > 1 else ""
        more = f" and {len(group['nodes']) - _SHOWN} more" if len(group["nodes"]) > _SHOWN else ""
        counts = [f"{group['channels']}{step}", *([group["kept"]] if kept else [])]
        worth = _number(group["params"]), _number(group["macs"])
        kind = group["kind"] + (", normalised" if group["normalized"] else "")
        _row(table, group["name"], kind, *counts, *worth, ", ".join(group["nodes"][:_SHOWN]) + more)
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
    table = _table(
        "group", "|x| at most", "error at most", "of", "promised", "measured", "relative", title="Certificates"
    )
    table.add_column("because", overflow="fold")
    for name, entry in found:
        _row(table, name, *_bounds(entry), *_measured(entry["measured"]), _because(entry))
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
    table = _table("pinned", "channels", "parameters", "because", title="Pinned, with the reason")
    table.columns[-1].justify = "left"
    totals: dict[str, int] = defaultdict(int)
    for item in facts["pinned"]:
        _row(table, item["site"], item["channels"], _number(item["params"]), item["reason"])
        totals[item["purpose"]] += item["params"]
    sums = "; ".join(f"{name}: {_number(value)}" for name, value in sorted(totals.items(), key=lambda pair: -pair[1]))
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
        lines.append(f"{_many(counts['functions'], 'local function was', 'local functions were')} inlined.")
    if counts["branches"]:
        lines.append(f"{_many(counts['branches'], 'If was', 'Ifs were')} replaced by the one branch ever taken.")
    if counts["weights"]:
        what = _many(counts["weights"], "weight that was", "weights that were")
        lines.append(f"{what} computed from stored ones on every run: stored as computed.")
    if counts["dropped"] and lines:
        than = "fewer" if counts["dropped"] > 0 else "more"
        lines.append(f"Parameters are counted after that: {_number(abs(counts['dropped']))} {than} than in the file.")
    return lines


def _many(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _proof(facts: Facts) -> list[Text]:
    validation = facts["validation"]
    if validation is None:
        return [Text(_DRY), *_searched(facts)]
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
    return [*lines, *_fidelity(facts), *_accuracy(validation["accuracy"]), *_searched(facts), *_learnt(facts)]


def _accuracy(entry: Facts | None) -> list[Text]:
    """Say how often both networks are right."""
    if entry is None:
        return []
    lost, error = 100 * entry["drop"], 100 * entry["standard_error"]
    return [
        Text(
            f"{entry['output']}: top-1 accuracy {entry['before']:.1%} before, {entry['after']:.1%} after, on "
            f"{entry['samples']:,} samples held out: {abs(lost):.2f} points {'lost' if lost >= 0 else 'gained'} "
            f"(standard error {error:.2f})."
        )
    ]


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


def _inputs(facts: Facts) -> str:
    """Name the inputs that fidelity was measured on."""
    data = facts.get("data")
    if not data or not data["held_out"]:
        return f"{facts['validation']['inputs']} random inputs"
    kind = "synthetic inputs" if data["origin"] == "synthetic" else "samples"
    return f"{data['held_out']} {kind} held out"


def _learnt(facts: Facts) -> list[Text]:
    """Say what data was used for, and what was assumed of it."""
    data, solved = facts.get("data"), facts.get("refit") or {}
    if not data:
        return []
    kind = "synthetic inputs" if data["origin"] == "synthetic" else "samples"
    if not data["samples"]:
        return [Text(" ".join([f"Nothing was learnt from the {kind}.", *(f"{n}." for n in data["notes"])]))]
    done = f"; {_many(len(solved), 'reader was', 'readers were')} solved anew on them" if solved else ""
    return [Text(" ".join([f"Learnt from {data['samples']:,} {kind}{done}.", *(f"{n}." for n in data["notes"])]))]


def _fidelity(facts: Facts) -> list[Text]:
    """Say how far the farthest outputs are from the original, and what may help."""
    entries, inputs = facts["validation"]["fidelity"], _inputs(facts)
    farthest = sorted(entries, key=lambda name: -_far(entries[name]))[:_LISTED]
    lines = [_fidelity_line(name, entries[name], inputs) for name in entries if name in farthest]
    if len(entries) > len(farthest):
        lines.append(Text(f"{len(entries) - len(farthest)} more outputs are nearer; --report lists them."))
    if any(_is_poor(entry) for entry in entries.values()):
        given = (facts.get("data") or {"origin": "synthetic"})["origin"] != "synthetic"
        lines[-1].append(f" Recover it with {'more' if given else 'calibration'} data or fine-tuning.", style="yellow")
    return lines


def _far(entry: Facts) -> float:
    return entry["relative_l2"] if math.isfinite(entry["relative_l2"]) else math.inf


def _is_poor(entry: Facts) -> bool:
    distance, share = entry["relative_l2"], entry["top1_agreement"]
    # Beyond a distance of 100 % an output of zeros would be nearer.
    far = not distance <= (_POOR_DISTANCE if share is None else 1.0)
    return far or (share is not None and share < _POOR_AGREEMENT)


def _fidelity_line(name: str, entry: Facts, inputs: str) -> Text:
    distance, share = entry["relative_l2"], entry["top1_agreement"]
    if math.isfinite(distance):
        text = f"{name}: {distance:.1%} from the original (relative L2), cosine {entry['cosine']:.3f}"
    else:
        text = f"{name}: no distance from the original can be given (it is zero, infinite or not a number there)"
    if share is not None:
        text += f"; agrees with the original on {share:.0%} of {inputs}"
    return Text(text + ".", style="yellow" if _is_poor(entry) else "")


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
        parts.append(_seconds(facts))
    return [*parts, *_proof(facts), *_notes(facts)]


def _seconds(facts: Facts) -> Text:
    return Text("Seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in facts["time"].items()))


def inspection_view(facts: Facts) -> list[RenderableType]:
    """Show what could be pruned.

    Parameters
    ----------
    facts : dict
        From `facts.inspection`.
    """
    reach = _table("", "in the file", "can be removed, at most")
    for label, key in _MEASURES:
        _row(reach, label, _number(facts["input"][key]), f"{facts['reachable'][key]:.1%}")
    return [_groups(facts), *_pinned(facts), reach, _kinds(facts), *_notes(facts)]


def sparse_view(facts: Facts, *, verbose: bool = False) -> list[RenderableType]:
    """Show where zeros were written.

    Parameters
    ----------
    facts : dict
        From `sparsify`.
    verbose : bool
        Every weight, and times too.
    """
    found = facts["sparse"]
    kept, total = found["kept"], found["elements"]
    said = f"Of {total:,} weights of {_many(len(found['layers']), 'layer', 'layers')} {kept:,} stay"
    parts: list[RenderableType] = [Text(f"{said} ({kept / total:.4%}), by {found['method']}; the others are zero.")]
    if verbose:
        table = _table("weight", "node", "shape", "elements", "kept", "density", title="Weights")
        for layer in found["layers"]:
            size, left = layer["elements"], layer["kept"]
            shape = "x".join(map(str, layer["shape"]))
            _row(table, layer["weight"], layer["node"], shape, f"{size:,}", f"{left:,}", f"{left / size:.4%}")
        parts += [table, _seconds(facts)]
    if found["idle"]:
        parts.append(Text(f"Nothing passes any more through {', '.join(found['idle'])}.", style="yellow"))
    validation = facts["validation"]
    if validation is None:
        return [*parts, Text(_DRY)]
    checked = f"All else is as it was, to the bit; run on {validation['provider']}."
    if not validation["fidelity"]:
        checked = "All else is as it was, to the bit; it could not be run on inputs that are made up."
    return [*parts, Text(checked), *_fidelity(facts), *_accuracy(validation["accuracy"]), *_learnt(facts)]
