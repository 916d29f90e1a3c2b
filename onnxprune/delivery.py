"""Knows what is written besides a network, and when: all of it together, at the very end."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxprune.errors import OutputError, RefusedError
from onnxprune.graph.model import Model
from onnxprune.graph.save import EMBEDDED_LIMIT, Staged, check_target, stage_text
from onnxprune.graph.tensors import holders, payload_bytes
from onnxprune.report.data import to_json
from onnxprune.rewrite import Plan

__all__ = ["Outcome", "Writing", "check_targets", "commit", "require_embeddable"]


@dataclass(frozen=True)
class Outcome:
    """What came of a prune: the plan, and the report as plain data."""

    plan: Plan
    report: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What is written besides the network, and how.

    Attributes
    ----------
    external : bool or None
        Whether weights go beside the network, to `<target>.data`; None is as in the source.
    plan, profile, report : Path or None
        Files for what stays of each group, for the widths and for every number, all JSON.
    groups : bool
        Whether what is found out about single groups will be shown; it is found out for a report, too.
    """

    external: bool | None = None
    plan: Path | None = None
    profile: Path | None = None
    report: Path | None = None
    groups: bool = False


def check_targets(target: Path | None, writing: Writing, inputs: tuple[Path, ...]) -> None:
    """Find out before the work whether everything can be written after it, each to a file of its own.

    Raises
    ------
    OutputError
        If something cannot.
    """
    sides = {"--plan": writing.plan, "--profile": writing.profile, "--report": writing.report}
    taken: dict[Path, str] = {}
    if target is not None:
        check_target(target, inputs)
        taken = {target.resolve(): "the output", target.with_name(f"{target.name}.data").resolve(): "the output's data"}
    for flag, path in sides.items():
        if path is None:
            continue
        check_target(path, inputs, companions=())
        if path.resolve() in taken:
            raise OutputError(f"cannot write {flag} to {path}: it is {taken[path.resolve()]}; choose another name")
        taken[path.resolve()] = f"the file of {flag}"


def require_embeddable(model: Model) -> None:
    """Make sure that a network fits into a protobuf.

    Raises
    ------
    RefusedError
        If it does not.
    """
    size = sum(payload_bytes(holder.tensor) for holder in holders(model.proto))
    if size > EMBEDDED_LIMIT:
        raise RefusedError(
            f"the pruned network has {size / 1e9:.1f} GB of weights, more than a protobuf in memory can hold: prune "
            "it from file to file, with the command"
        )


def commit(stack: ExitStack, staged: Staged | None, outcome: Outcome, writing: Writing) -> None:
    """Write plan, widths and report beside their targets, then move everything into place together."""
    texts = (
        (writing.plan, outcome.plan.to_json()),
        (writing.profile, to_json(outcome.report.get("profile", {}))),
        (writing.report, to_json(outcome.report)),
    )
    files = [stack.enter_context(stage_text(path, text)) for path, text in texts if path is not None]
    files += [staged] if staged is not None else []
    if files:
        files[-1].commit(*files[:-1])
