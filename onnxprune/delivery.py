"""Knows what is written besides a network, and when: all of it together, at the very end."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxprune.errors import OutputError, RefusedError
from onnxprune.extras import jinja, matplotlib
from onnxprune.graph.model import Model
from onnxprune.graph.save import EMBEDDED_LIMIT, Staged, check_target, stage_text
from onnxprune.graph.tensors import weight_bytes
from onnxprune.report.data import to_json
from onnxprune.report.html import to_html
from onnxprune.rewrite import Plan

__all__ = [
    "Outcome",
    "Writing",
    "check_report",
    "check_targets",
    "commit",
    "commit_report",
    "require_embeddable",
]


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
    reports = () if writing.report is None else _written(writing.report)
    sides = [("--plan", writing.plan), ("--profile", writing.profile), *(("--report", path) for path in reports)]
    taken: dict[Path, str] = {}
    if target is not None:
        check_target(target, inputs)
        taken = {target.resolve(): "the output", target.with_name(f"{target.name}.data").resolve(): "the output's data"}
    for flag, path in sides:
        if path is None:
            continue
        check_target(path, inputs, companions=())
        if path.resolve() in taken:
            raise OutputError(f"cannot write {flag} to {path}: it is {taken[path.resolve()]}; choose another name")
        taken[path.resolve()] = f"the file of {flag}"


def _written(path: Path) -> tuple[Path, ...]:
    """Files that a report comes in: a page has the numbers beside it, and needs what draws it."""
    if path.suffix == ".html":
        jinja()
        matplotlib()
    return (path, path.with_suffix(".json")) if path.suffix == ".html" else (path,)


def _staged_report(stack: ExitStack, path: Path | None, facts: dict[str, Any]) -> list[Staged]:
    if path is None:
        return []
    makers = {".html": to_html}
    return [stack.enter_context(stage_text(each, makers.get(each.suffix, to_json)(facts))) for each in _written(path)]


def check_report(path: Path, inputs: tuple[Path, ...]) -> None:
    """Find out before the work whether a report can be written after it.

    Raises
    ------
    OutputError
        If it cannot, or a library that pages need is missing.
    """
    for written in _written(path):
        check_target(written, inputs, companions=())


def commit_report(path: Path, facts: dict[str, Any]) -> None:
    """Write a report, and the numbers beside it where it is a page.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with ExitStack() as stack:
        files = _staged_report(stack, path, facts)
        files[-1].commit(*files[:-1])


def require_embeddable(model: Model) -> None:
    """Make sure that a network fits into a protobuf.

    Raises
    ------
    RefusedError
        If it does not.
    """
    size = weight_bytes(model.proto)
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
    )
    files = [stack.enter_context(stage_text(path, text)) for path, text in texts if path is not None]
    files += _staged_report(stack, writing.report, outcome.report)
    files += [staged] if staged is not None else []
    if files:
        files[-1].commit(*files[:-1])
