"""How far a network is from its original, as sentences for a terminal: fidelity, accuracy, and what was learnt from."""

import math
from typing import Any

from rich.text import Text

from onnxprune.report.rows import many

__all__ = ["accuracy_lines", "fidelity_lines", "learnt_lines"]

Facts = dict[str, Any]

_LISTED = 6
_POOR_AGREEMENT = 0.9
_POOR_DISTANCE = 0.3


def accuracy_lines(entry: Facts | None) -> list[Text]:
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


def _inputs(facts: Facts) -> str:
    """Name the inputs that fidelity was measured on."""
    data = facts.get("data")
    if not data or not data["held_out"]:
        return f"{facts['validation']['inputs']} random inputs"
    kind = "synthetic inputs" if data["origin"] == "synthetic" else "samples"
    return f"{data['held_out']} {kind} held out"


def learnt_lines(facts: Facts) -> list[Text]:
    """Say what data was used for, and what was assumed of it."""
    data, solved = facts.get("data"), facts.get("refit") or {}
    if not data:
        return []
    kind = "synthetic inputs" if data["origin"] == "synthetic" else "samples"
    if not data["samples"]:
        return [Text(" ".join([f"Nothing was learnt from the {kind}.", *(f"{n}." for n in data["notes"])]))]
    done = f"; {many(len(solved), 'reader was', 'readers were')} solved anew on them" if solved else ""
    told = [f"Learnt from {data['samples']:,} {kind}{done}.", *_distilled(facts.get("distill"), data)]
    return [Text(" ".join([*told, *(f"{n}." for n in data["notes"])]))]


def _distilled(entry: Facts | None, data: Facts) -> list[str]:
    """Say what came of moving all weights together."""
    if not entry:
        return []
    if "none" in entry:
        return [f"Weights were not distilled: {entry['none']}."]
    if not entry["kept"]:
        return [f"Distilled weights were not kept: on {data['examined']} others the answers were no nearer."]
    before, after = (math.sqrt(entry[when]) for when in ("before", "after"))
    steps = many(entry["steps"], "step", "steps")
    change = f"from {before:.1%} of the answers' spread to {after:.1%}"
    return [f"All weights were then distilled in {steps}: the distance on {data['examined']} others went {change}."]


def fidelity_lines(facts: Facts) -> list[Text]:
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
    """A distance; infinite where there is none, which is null in a report that was read again."""
    distance = entry["relative_l2"]
    return distance if distance is not None and math.isfinite(distance) else math.inf


def _is_poor(entry: Facts) -> bool:
    distance, share = _far(entry), entry["top1_agreement"]
    # Beyond a distance of 100 % an output of zeros would be nearer.
    far = distance > (_POOR_DISTANCE if share is None else 1.0)
    return far or (share is not None and share < _POOR_AGREEMENT)


def _fidelity_line(name: str, entry: Facts, inputs: str) -> Text:
    distance, share = _far(entry), entry["top1_agreement"]
    if math.isfinite(distance):
        text = f"{name}: {distance:.1%} from the original (relative L2), cosine {entry['cosine']:.3f}"
    else:
        text = f"{name}: no distance from the original can be given (it is zero, infinite or not a number there)"
    if share is not None:
        text += f"; agrees with the original on {share:.0%} of {inputs}"
    return Text(text + ".", style="yellow" if _is_poor(entry) else "")
