"""One network, several ratios: looked at once, thinned step by step, each member a part of the one before.

What is known of channels, the samples and their moments serve all members. The first is chosen as a prune is; of every
group the next one keeps channels that the one before it kept, no more of them, in the method's order. Where readers of
the first pick channels anew, they do so once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.calibrate.feeds import random_feeds, shape_attempts
from onnxprune.choose import choose, floors, narrowed
from onnxprune.decide import Ground, decide
from onnxprune.delivery import Outcome, Writing, check_report, commit_report
from onnxprune.errors import ModelError, OutputError, RefusedError, UsageError
from onnxprune.evaluate import latencies, runner_of
from onnxprune.facts import place_of, placed, versions
from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.graph.runtime import choose_providers
from onnxprune.graph.save import check_target
from onnxprune.options import Options
from onnxprune.pipeline import finish_file, survey
from onnxprune.progress import Clock

__all__ = ["check_ratios", "make_family"]


def check_ratios(ratios: Sequence[float], options: Options) -> tuple[float, ...]:
    """See that a family can be asked for.

    Parameters
    ----------
    ratios : sequence of float
    options : Options

    Returns
    -------
    tuple of float
        Ascending.

    Raises
    ------
    UsageError
    """
    found = tuple(sorted(ratios))
    for ratio in found:
        replace(options, ratio=ratio)
    if not found or len({_spelled(ratio) for ratio in found}) < len(found):
        raise UsageError(
            f"--ratios {', '.join(map(_spelled, ratios))}: give different ratios, as in 0.2,0.4; their first four "
            "digits name the files"
        )
    if options.layer_order != "together":
        raise UsageError("--layer-order ranks channels anew for every ratio, so that no member is a part of another")
    return found


def make_family(
    source: Path,
    folder: Path,
    ratios: Sequence[float],
    options: Options,
    *,
    external: bool | None = None,
    report: Path | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Prune a file by several ratios; each member is written once it is proved, the table of all at the end.

    Parameters
    ----------
    source : Path
    folder : Path
        Made where it is not there.
    ratios : sequence of float
        Ascending.
    options : Options
        Of every member; its ratio is not looked at.
    external : bool, optional
        See `Writing`.
    report : Path, optional
        Where every number goes; `family.json` in the folder by default.
    clock : Clock, optional

    Returns
    -------
    dict
        "original", and "members" with what each came to.

    Raises
    ------
    OnnxPruneError
        Members that were written before stay.
    """
    with _made(folder):
        return _family(source, folder, ratios, options, external=external, report=report, clock=clock or Clock())


def _family(
    source: Path,
    folder: Path,
    ratios: Sequence[float],
    options: Options,
    *,
    external: bool | None,
    report: Path | None,
    clock: Clock,
) -> dict[str, Any]:
    report = report or folder / "family.json"
    with clock.stage("load"):
        choose_providers(options.providers)
        model = io.load(source)
        place = place_of(model)
        targets = _targets(source, folder, ratios, report, (source, *model.data_files))
    largest = replace(options, ratio=ratios[-1])
    ground = survey(model, largest, clock, source=place.sha256)
    _require_reachable(ground, largest)
    _require_steps(ground, ratios, options)
    members = []
    for ratio, target in zip(ratios, targets, strict=True):
        asked = replace(options, ratio=ratio)
        decision = decide(ground, asked, clock)
        work = ground.analysis.model.copy()
        decision = replace(decision, analysis=replace(decision.analysis, model=work, index=Index(work.proto)))
        writing = Writing(external=external)
        outcome = finish_file(work, decision, (source, target), asked, place, writing=writing, clock=clock)
        ground = replace(ground, ranked=narrowed(ground.ranked, decision.plan))
        members.append(_member(target, ratio, outcome))
    with clock.stage("time"):
        timed = _timed((source, *targets), ground, options)
    analysis = ground.analysis
    counts = {name: round(analysis.total(name)) for name in analysis.costs}
    facts = {
        "kind": "family",
        "original": {"name": source.stem, **placed(place, counts), "latency": timed[0]},
        "members": [{**member, "latency": latency} for member, latency in zip(members, timed[1:], strict=True)],
        "data": None if ground.refiner is None else ground.refiner.facts,
        "request": {**options.request(), "ratio": None, "ratios": list(ratios)},
        "time": clock.rounded(),
        "versions": versions(),
    }
    commit_report(report, facts)
    return facts


def _spelled(ratio: float) -> str:
    """How a ratio is written in a member's name."""
    return f"{ratio:.4g}"


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and take it away again where nothing was written into it."""
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):  # what was written stays
                folder.rmdir()
        raise


def _targets(source: Path, folder: Path, ratios: Sequence[float], report: Path, inputs: Sequence[Path]) -> list[Path]:
    """Find out before the work whether everything can be written after it."""
    targets = [folder / f"{source.stem}-{_spelled(ratio)}.onnx" for ratio in ratios]
    for target in targets:
        check_target(target, tuple(inputs))
    check_report(report, tuple(inputs))
    return targets


def _require_reachable(ground: Ground, options: Options) -> None:
    analysis = ground.analysis
    assert options.ratio is not None
    if any(choice.sample is not None for choice in ground.ranked.choices):
        raise UsageError(
            f"--method {options.method} draws channels anew for every ratio, so that no member is a part of another; "
            "choose a method with an order, such as coreset"
        )
    reachable = analysis.removed(options.measure, floors(analysis, options.keep_at_least[-1]))
    if options.ratio > reachable + 0.01 and not options.best_effort:
        raise RefusedError(
            f"--ratios: {options.ratio:g} cannot be reached: at most {reachable:.1%} can be removed; ask for less, or "
            "add --best-effort to take the maximum"
        )


def _require_steps(ground: Ground, ratios: Sequence[float], options: Options) -> None:
    """See that every ratio can be met by a part of the member before, before anything is written."""
    ranked = ground.ranked
    for ratio in ratios:
        plan = choose(ground.analysis, replace(options, ratio=ratio), ranked, ground.source)
        ranked = narrowed(ranked, plan)


def _member(target: Path, ratio: float, outcome: Outcome) -> dict[str, Any]:
    """What a member came to."""
    facts = outcome.report
    validation = facts["validation"]
    return {
        "name": target.stem,
        "ratio": ratio,
        "achieved": facts["achieved"],
        **facts["output"],
        "fidelity": validation["fidelity"],
        "accuracy": validation["accuracy"],
        "twin": validation["twin"],
        "unproved": validation["unproved"],
        "kept": {group.name: len(group.kept) for group in outcome.plan.groups},
    }


def _timed(paths: Sequence[Path], ground: Ground, options: Options) -> list[dict[str, Any] | None]:
    """Time all networks by turns, on the same random inputs; None where they run on none."""
    analysis, providers = ground.analysis, choose_providers(options.providers)
    original = io.load(paths[0])
    runners = [runner_of(io.load(path), original, providers, path.name) for path in paths]
    for sizes in shape_attempts(analysis.index, analysis.shapes):
        feeds = random_feeds(analysis.index, analysis.shapes, np.random.default_rng([options.seed, 1]), sizes)
        batch = max((shape[0] for shape in sizes.values() if shape), default=1)
        with suppress(ModelError):  # at other sizes, perhaps
            return [found.facts for found in latencies(runners, feeds, batch)]
    return [None] * len(paths)
