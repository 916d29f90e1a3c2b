"""From file to file: analyse, rank, allocate, rewrite, write, prove. This page is the whole way."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from onnxprune.analysis import Analysis, analyse, made_plain
from onnxprune.calibrate.feeds import random_feeds
from onnxprune.certify import certificates
from onnxprune.choose import check_replay, rank, require_groups
from onnxprune.decide import Decision, Ground, decide, refitted
from onnxprune.delivery import Outcome, Writing, check_targets, commit, require_embeddable
from onnxprune.errors import ModelError, ValidationError
from onnxprune.facts import Place, describe, place_of, searched
from onnxprune.graph import io
from onnxprune.graph.model import Model
from onnxprune.graph.respell import sparsify
from onnxprune.graph.runtime import choose_providers
from onnxprune.graph.save import stage
from onnxprune.methods import METHODS
from onnxprune.options import Options
from onnxprune.prepare.hoist import lower
from onnxprune.profile import completed, profile_of
from onnxprune.progress import Clock
from onnxprune.refine import known_without_data, open_refiner
from onnxprune.reinit import reinitialise
from onnxprune.rewrite import Plan, apply
from onnxprune.search import search
from onnxprune.threads import with_one_blas_thread
from onnxprune.validate import TwinResult, Validation, compare_plain, fidelity_on, validate

__all__ = ["Decision", "finish_file", "plan_model", "prune_file", "prune_model", "survey"]


def prune_file(
    source: Path,
    target: Path | None,
    options: Options,
    *,
    replay: Plan | None = None,
    writing: Writing | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Prune a file into another; all that is written is moved into place together, at the very end.

    Parameters
    ----------
    source : Path
    target : Path or None
        None plans only: no network is written, nothing is run.
    options : Options
    replay : Plan, optional
        Carry out this plan in place of making one.
    writing : Writing, optional
    clock : Clock, optional
        Shows progress, and is read by the report.

    Returns
    -------
    Outcome

    Raises
    ------
    OnnxPruneError
        Nothing has been written then.
    """
    writing, clock = writing or Writing(), clock or Clock()
    with clock.stage("load"):
        choose_providers(options.providers)
        check_targets(target, writing, (source,))
        model = io.load(source)
        check_targets(target, writing, (source, *model.data_files))
        place = place_of(model)
    decision = plan_model(model, options, clock, replay, source=place.sha256)
    return finish_file(model, decision, (source, target), options, place, writing=writing, clock=clock, replay=replay)


def finish_file(
    model: Model,
    decision: Decision,
    paths: tuple[Path, Path | None],
    options: Options,
    place: Place,
    *,
    writing: Writing,
    clock: Clock,
    replay: Plan | None = None,
) -> Outcome:
    """Carry a decision out and write the result.

    Parameters
    ----------
    model : Model
        As it was analysed; edited in place.
    decision : Decision
    paths : tuple of Path
        The file that it is of, and the one to write; None writes no network.
    options : Options
    place : Place
        Of the file.
    writing : Writing
    clock : Clock
    replay : Plan, optional
        The plan that was carried out.

    Returns
    -------
    Outcome
    """
    source, target = paths
    certified: dict[str, dict[str, Any]] = {}
    if options.certify or writing.groups or writing.report is not None:
        with clock.stage("certify"):
            run = target is not None
            certified = certificates(decision.analysis, decision.plan, options, run=run, written=decision.written)
    with ExitStack() as stack:
        result, validation, staged = Place(), None, None
        fresh, widths = None, profile_of(decision.analysis, decision.plan)
        if target is not None:
            with clock.stage("rewrite"):
                model, ready = _rewritten(model, decision, options, lambda: io.load(source))
            with clock.stage("write"):
                staged = stack.enter_context(stage(model, target, external=writing.external))
                pruned = io.load(staged.path)
                result = replace(place_of(pruned), path=target)
            validation = _prove(decision, ready, lambda: io.load(source), pruned, options, clock)
            if options.reinit:
                with clock.stage("reinit"):
                    pruned = io.load(staged.path)
                    fresh = reinitialise(pruned, options)
                    staged = stack.enter_context(stage(pruned, target, external=writing.external))
                    result = replace(place_of(io.load(staged.path)), path=target)
            widths = completed(widths, io.load(staged.path))
            del pruned
        facts = describe(decision.analysis, decision.plan, validation, (place, result), certified)
        facts |= {"profile": widths, "reinit": fresh}
        outcome = Outcome(decision.plan, facts | _asked(decision, options, replay, clock))
        commit(stack, staged, outcome, writing)
    return outcome


def prune_model(
    work: Model, options: Options, *, replay: Plan | None = None, clock: Clock | None = None
) -> tuple[ModelProto, Outcome]:
    """Prune a network in memory.

    Parameters
    ----------
    work : Model
        Edited in place.
    options, replay, clock
        See `prune_file`.

    Returns
    -------
    ModelProto
        The result, with all weights embedded.
    Outcome
    """
    clock = clock or Clock()
    with clock.stage("load"):
        original = work.copy()
        place = place_of(work)
    decision = plan_model(work, options, clock, replay, source=place.sha256)
    with clock.stage("certify"):
        certified = certificates(decision.analysis, decision.plan, options, run=True, written=decision.written)
    widths = profile_of(decision.analysis, decision.plan)
    with clock.stage("rewrite"):
        work, ready = _rewritten(work, decision, options, original.copy)
        require_embeddable(work)
        result = work.materialise()
    pruned = io.from_proto(result)
    once = not decision.analysis.prepared and decision.refiner is None and not decision.is_signed
    validation = _prove(decision, ready, (lambda: original) if once else original.copy, pruned, options, clock)
    fresh = None
    if options.reinit:
        with clock.stage("reinit"):
            drawn = io.from_proto(result)
            fresh, result = reinitialise(drawn, options), drawn.materialise()
    facts = describe(decision.analysis, decision.plan, validation, (place, place_of(io.from_proto(result))), certified)
    facts |= {"profile": completed(widths, io.from_proto(result)), "reinit": fresh}
    return result, Outcome(decision.plan, facts | _asked(decision, options, replay, clock))


@with_one_blas_thread
def plan_model(
    model: Model, options: Options, clock: Clock, replay: Plan | None = None, *, source: str = ""
) -> Decision:
    """Analyse a network and decide what stays of it, and with which weights.

    Parameters
    ----------
    model : Model
        Made plain in place, where functions or computed weights stand in the way; nothing else is changed.
    options : Options
    clock : Clock
    replay : Plan, optional
        Carry out this plan in place of making one.
    source : str
        SHA-256 of the network's file, for the plan.

    Returns
    -------
    Decision
    """
    if replay is None:
        ground = survey(model, options, clock, source=source)
        return decide(ground, options, clock) if options.max_drop is None else search(ground, options, clock)
    analysis = _analysed(model, options, clock)
    refiner, learns = None, _replays_refit(replay, options)
    if options.distill == "auto" and learns:
        options = replace(options, distill=replay.request.get("distill", "off"))
    if learns or options.examines:
        with clock.stage("calibrate"):
            refiner = open_refiner(analysis, _as_planned(options, replay), learns=learns)
    check_replay(analysis, replay)
    return refitted(Decision(analysis, replay, refiner), {}, options, clock)


def survey(model: Model, options: Options, clock: Clock, *, source: str = "") -> Ground:
    """Find out what a decision rests on, whatever the ratio.

    Parameters
    ----------
    model : Model
        Made plain in place.
    options : Options
    clock : Clock
    source : str
        SHA-256 of the network's file.

    Returns
    -------
    Ground
    """
    analysis, refiner = _analysed(model, options, clock), None
    if options.wants_data or options.examines:
        with clock.stage("calibrate"):
            refiner = open_refiner(analysis, options, learns=options.wants_data)
    taught = refiner is not None and refiner.learns
    with clock.stage("score", len(analysis.coupling.groups)):
        evidence = refiner.evidence() if refiner is not None and taught else known_without_data(analysis, options)
        ranked = rank(analysis, options, clock.progress, evidence)
    return Ground(analysis, ranked, refiner, source)


def _analysed(model: Model, options: Options, clock: Clock) -> Analysis:
    with clock.stage("analyse"):
        io.check(model)
        analysis = analyse(model, options)
        require_groups(analysis)
    return analysis


def _replays_refit(plan: Plan, options: Options) -> bool:
    """Tell whether readers are solved anew for a plan that was made before: if they were then, or by request."""
    weighed = any(group.factors for group in plan.groups)
    before = plan.request.get("refit", "off") != "off" and not options.reinit
    return options.refit == "on" or (options.refit == "auto" and before and not weighed)


def _as_planned(options: Options, plan: Plan) -> Options:
    """Options with the method of a plan, which says how readers are solved anew."""
    method = plan.request.get("method")
    return replace(options, method=method, rank=None) if isinstance(method, str) and method in METHODS else options


def _rewritten(
    model: Model, decision: Decision, options: Options, again: Callable[[], Model]
) -> tuple[Model, Analysis]:
    """Carry a plan out on the network that was analysed; where it changes nothing, the network stays as it came.

    Returns what was sliced, too.
    """
    if decision.analysis.prepared and decision.plan.changes_nothing:
        return again(), decision.analysis
    ready = decision.renewed(model, options)
    apply(model, ready.index, ready.shapes, ready.coupling, decision.plan)
    lower(model, ready.prepared.hoisted)
    sparsify(model, ready.prepared.sparse)
    io.check(model)
    return model, ready


def _prove(
    decision: Decision, ready: Analysis, again: Callable[[], Model], pruned: Model, options: Options, clock: Clock
) -> Validation:
    """Compare the pruned network with its twin on random inputs: many for small networks, few for big ones.

    `again` gives the original as it came. Where it was made plain, it is shown first that it computes the same then.
    """
    analysis, held_out = decision.analysis, decision.shown
    affordable = min(8e9 / max(analysis.total("macs"), 1.0), 1e5 / len(analysis.index.nodes))
    inputs = 2 if held_out else int(np.clip(affordable, 2, 64))
    if not held_out and decision.is_signed:
        drawn = np.random.default_rng([options.seed, 3])
        held_out = tuple(random_feeds(analysis.index, analysis.shapes, drawn) for _ in range(inputs))
    original, providers, rng = again(), choose_providers(options.providers), np.random.default_rng([options.seed, 1])
    unproved: tuple[str, ...] = ()
    with clock.stage("validate", 2 * inputs):
        if analysis.prepared:
            made_plain(original, options, analysis.prepared)
            unproved = _require_alike(again(), original.copy(), analysis, providers, options)
        as_written = pruned.copy() if held_out or analysis.prepared.hoisted else pruned
        if analysis.prepared.hoisted:
            made_plain(pruned, options, analysis.prepared)
            unproved += _require_alike(as_written.copy(), pruned.copy(), analysis, providers, options)
        decision.renewed(original, options)
        result = validate(
            original,
            pruned,
            ready.shapes,
            ready.coupling,
            decision.plan,
            providers=providers,
            rng=rng,
            inputs=inputs,
            advance=clock.progress.advance,
        )
    if not result.twin.passed:
        raise ValidationError(
            f"the pruned network is not the one that was planned: {_verdict(result.twin)}; nothing was written. This "
            "is a fault of onnxprune: please report it"
        )
    if options.reinit:  # what the weights that are thrown away do is no news
        return replace(result, fidelity=(), unproved=result.unproved + unproved)
    if held_out:
        exam = None if decision.refiner is None else decision.refiner.exam
        with clock.stage("measure", len(held_out)):
            accuracy = None if exam is None else exam.accuracy(as_written.copy())
            fidelity = fidelity_on(again(), as_written, held_out, providers)
            result = replace(result, fidelity=fidelity, accuracy=accuracy)
    return replace(result, unproved=result.unproved + unproved)


def _require_alike(
    original: Model, plain: Model, analysis: Analysis, providers: tuple[str, ...], options: Options
) -> tuple[str, ...]:
    """Show that a network computes the same since it was made plain; returns what of that could not be shown."""
    rng = np.random.default_rng([options.seed, 2])
    try:
        twin = compare_plain(original, plain, analysis.shapes, analysis.coupling, providers=providers, rng=rng)
    except ModelError as error:
        return (f"that the network computed the same before it was made plain ({error})",)
    if not twin.compared and not twin.worst:
        return ("that the network computed the same before it was made plain (no output could be compared)",)
    if not twin.passed:
        raise ValidationError(
            f"the network computes something else since its functions and constants were made plain: "
            f"{_verdict(twin, 'the original')}; nothing was written. This is a fault of onnxprune: please report it"
        )
    return ()


def _verdict(twin: TwinResult, reference: str = "the masked original") -> str:
    if not twin.compared:
        return twin.worst
    return (
        f"{twin.worst} differs from {reference} by {twin.relative_l2:.2e} (relative L2, allowed {twin.tolerance:.0e})"
    )


def _asked(decision: Decision, options: Options, replay: Plan | None, clock: Clock) -> dict[str, Any]:
    """Say what was asked for (the options, or those of the plan that was carried out), the data, and the time."""
    plan, refiner, solved = decision.plan, decision.refiner, decision.solved
    readers = [] if solved is None else solved.solved.values()
    return {
        "request": options.request() if replay is None else {**plan.request, "replayed": plan.source},
        "data": None if refiner is None else refiner.facts,
        "refit": {item.reader.site: item.facts for item in readers},
        "distill": dict(decision.distilled) or None,
        "search": searched(decision.tried),
        "time": clock.rounded(),
    }
