"""What was done and found, as sentences for a terminal: the proof, what was tried, and what else there is to know."""

from collections import defaultdict
from typing import Any

from rich.text import Text

from onnxprune.report.outputs import accuracy_lines, fidelity_lines, learnt_lines
from onnxprune.report.rows import DRY, many, number

__all__ = ["found_line", "method_lines", "note_lines", "proof_lines"]

Facts = dict[str, Any]

_LISTED = 6


def proof_lines(facts: Facts) -> list[Text]:
    """Say that the network is the one that was planned, and how far it is from the original."""
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


def method_lines(facts: Facts) -> list[Text]:
    """What the method has to say about its choice in each group; groups with the same notes together."""
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in facts["groups"]:
        if group.get("notes"):
            alike[tuple(group["notes"])].append(group["name"])
    return [Text(f"{', '.join(names)}: {'; '.join(notes)}.") for notes, names in alike.items()]


def found_line(facts: Facts) -> Text:
    """Say what was found in one sentence: groups by kind, and how many units they have together."""
    found: dict[str, list[int]] = defaultdict(list)
    for group in facts["groups"]:
        found[group["kind"]].append(group["channels"])
    parts = [f"{kind}: {sum(sizes):,} in {len(sizes)} group{'s'[: len(sizes) > 1]}" for kind, sizes in found.items()]
    return Text(f"Found {'; '.join(parts) or 'nothing that can go'}.")


def note_lines(facts: Facts) -> list[Text]:
    """Say what was assumed and what else was changed."""
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
