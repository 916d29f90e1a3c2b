"""What is decided of a network: which channels stay, and which weights their readers get. Nothing is changed by it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.analysis import Analysis, analyse
from onnxprune.calibrate.calibration import Network, Slots
from onnxprune.calibrate.feeds import Feeds
from onnxprune.certify import Certified
from onnxprune.choose import Ranked, choose
from onnxprune.distill import Lesson, Samples, distill
from onnxprune.errors import ModelError, RefusedError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.methods import Select
from onnxprune.options import Options
from onnxprune.prepare.precision import widened
from onnxprune.progress import Clock, Progress
from onnxprune.reconstruct.sequence import Reconstruction
from onnxprune.refine import Refiner
from onnxprune.renew import put, write_solved, write_weights
from onnxprune.rewrite import Plan, apply, places, write_signed
from onnxprune.validate import Accuracy

__all__ = ["Decision", "Ground", "Tried", "decide", "refitted"]

_MOVED = 1e8
"""Parameters up to which weights are distilled by default: they are in memory some eight times then."""


class Tried(NamedTuple):
    """A ratio, the share of the measure that went for it, and the accuracy that was left."""

    ratio: float
    removed: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes
    ----------
    analysis : Analysis
        Of the network as it came, made plain.
    plan : Plan
    refiner : Refiner or None
        Data, where any is used.
    solved : Reconstruction or None
        New weights of readers, where they have any.
    tried : tuple of Tried
        Ratios that accuracy was measured at, in their order.
    moved : dict of str to ndarray of float32
        Weights after all others were solved, where they moved once more together: by initializer of the network with
        the readers' new weights, in its shape.
    distilled : dict
        What the report says of it; empty where it was not asked for.
    """

    analysis: Analysis
    plan: Plan
    refiner: Refiner | None = None
    solved: Reconstruction | None = None
    tried: tuple[Tried, ...] = ()
    moved: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    distilled: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_signed(self) -> bool:
        """Tell whether readers get weights by their signs, so that the twin has other ones than the original."""
        return any(group.negative for group in self.plan.groups)

    @property
    def shown(self) -> tuple[Feeds, ...]:
        """Inputs that the pruned network is compared with the original on, none for random ones.

        Those held out; what little there was to learn from where none are, since a twin with new weights is not what
        the original was.
        """
        if self.refiner is None:
            return ()
        spare = self.refiner.data.batches[:1] if self.solved is not None else ()
        return self.refiner.held_out or tuple(spare)

    @property
    def written(self) -> Certified:
        """What certificates are to be of, and on which data."""
        return Certified(self.solved, () if self.refiner is None else self.refiner.held_out, moved=bool(self.moved))

    def renewed(self, model: Model, options: Options) -> Analysis:
        """Give a network that is as the analysed one its readers' new weights, in place; returns what it is then."""
        write_signed(model, self.analysis.coupling, self.plan)
        if self.solved is None:
            return self.analysis
        write_solved(model, self.analysis, self.solved)
        write_weights(model, self.moved)
        return replace(analyse(model, options), prepared=self.analysis.prepared)

    def made(self, options: Options) -> Model:
        """Carry the plan out on a copy of the analysed network, in memory, to be run."""
        model = self.analysis.model.copy()
        return self.cut(model, self.renewed(model, options))

    def cut(self, model: Model, ready: Analysis) -> Model:
        """Carry the plan out on a network that has its readers' new weights, in place; returns it."""
        apply(model, Index(model.proto), ready.shapes, ready.coupling, self.plan)
        return model


@dataclass(frozen=True)
class Ground:
    """What a decision rests on, whatever the ratio.

    Attributes
    ----------
    analysis : Analysis
    ranked : Ranked
    refiner : Refiner or None
        Data, where any is used.
    source : str
        SHA-256 of the network's file, for the plan.
    """

    analysis: Analysis
    ranked: Ranked
    refiner: Refiner | None = None
    source: str = ""


def decide(ground: Ground, options: Options, clock: Clock) -> Decision:
    """Decide what stays where a ratio is to go.

    Parameters
    ----------
    ground : Ground
    options : Options
        With a ratio.
    clock : Clock

    Returns
    -------
    Decision

    Raises
    ------
    RefusedError
        If the ratio cannot be reached, or nothing would be removed.
    """
    analysis, ranked = ground.analysis, ground.ranked
    with clock.stage("allocate"):
        plan = choose(analysis, options, ranked, ground.source)
    named = zip(analysis.coupling.groups, ranked.choices, strict=True)
    selects = {group.name: choice.select for group, choice in named if choice.select is not None}
    return refitted(Decision(analysis, plan, ground.refiner), selects, options, clock)


def refitted(decision: Decision, selects: Mapping[str, Select], options: Options, clock: Clock) -> Decision:
    """Solve readers anew, and take over what was picked anew on the way.

    Parameters
    ----------
    decision : Decision
    selects : mapping of str to callable
        Groups whose channels may be picked anew.
    options : Options
    clock : Clock

    Returns
    -------
    Decision
    """
    refiner, plan = decision.refiner, decision.plan
    weighed = any(group.factors for group in plan.groups) and options.refit != "on"
    if refiner is None or not refiner.learns or weighed or plan.changes_nothing:
        return decision
    if options.refit == "off" or options.reinit:
        return decision
    kept: dict[str, NDArray[np.int64]] = {
        group.name: np.array(group.kept, dtype=np.int64) for group in plan.groups if len(group.kept) < group.channels
    }
    with clock.stage("refit", len(refiner.work.readers)):
        solved = refiner.reconstruct(kept, selects, clock.progress.advance)
    groups = tuple(
        replace(group, kept=tuple(map(int, solved.kept.get(group.name, group.kept))), factors=(), draws=0, negative=())
        for group in plan.groups
    )
    decision = replace(decision, plan=replace(plan, groups=groups), solved=solved)
    return _distilled(decision, options, clock) if options.distills else decision


def _distilled(decision: Decision, options: Options, clock: Clock) -> Decision:
    """Move all weights together, so that the answers are the original's.

    Raises
    ------
    RefusedError
        If that is asked for, and cannot be done.
    """
    analysis, plan, refiner = decision.analysis, decision.plan, decision.refiner
    assert refiner is not None
    params = analysis.total("params")
    if options.distill == "auto" and params > _MOVED:
        return replace(decision, distilled={"none": f"{params / 1e6:,.0f} million are moved by --distill on alone"})
    whole = analysis.model.copy()
    ready = decision.renewed(whole, options)
    where = places(ready.index, ready.coupling, plan)
    slots = Slots.of(Network(analysis.model, analysis.index, analysis.shapes))
    macs = analysis.total("macs")
    lesson = Lesson(
        widened(decision.cut(whole.copy(), ready)),
        refiner.work.proto,
        Samples(refiner.data.batches, slots),
        Samples(refiner.examined, slots),
        refiner.data.providers,
        options.seed,
        analysis.shapes.inputs,
        where.keys(),
        (macs * (1 - analysis.removed("macs", plan.counts(analysis.coupling))), macs),
        mixed=refiner.facts["origin"] == "given",
        limited=options.distill != "on",
    )
    try:
        with clock.stage("distill"):
            made = distill(lesson, partial(_begun, clock.progress))
    except ModelError as error:
        if options.distill == "on":
            raise RefusedError(f"--distill on: {error}; give --distill auto, or --refit alone") from error
        return replace(decision, distilled={"none": str(error)})
    stored = ready.index.weights
    moved = {name: put(whole.array(stored[name]), where[name], value) for name, value in made.weights.items()}
    return replace(decision, moved=moved, distilled=made.facts)


def _begun(progress: Progress, steps: int) -> Callable[[], None]:
    progress.start("distill", steps)
    return progress.advance
