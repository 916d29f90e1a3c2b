"""How many and which channels of each group stay: methods rank them, the budget counts them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.analysis import Analysis
from onnxprune.budget import Allocation, Item, allocate, floor_of
from onnxprune.coreset.selection import losses
from onnxprune.coupling import Group
from onnxprune.coupling.scalable import scalable_groups, signed_groups
from onnxprune.curves import lost_accuracy
from onnxprune.errors import RefusedError
from onnxprune.methods import Choice, Sample
from onnxprune.ops.labels import Purpose
from onnxprune.options import Options
from onnxprune.progress import Progress
from onnxprune.reconstruct.evidence import NOTHING, Evidence, Gathered
from onnxprune.rewrite import GroupPlan, Plan
from onnxprune.score import Scorer, channel_reader
from onnxprune.threads import blas_threads

__all__ = ["Ranked", "check_replay", "choose", "floors", "narrowed", "rank", "require_groups"]

_EIGHT_BITS = frozenset({TensorProto.INT8, TensorProto.UINT8})
# A sampled method keeps about as many channels as wanted; the wish is corrected so often, until the share fits.
_ATTEMPTS, _CLOSE = 12, 0.002
_POINT = 0.01
_WEIGHTLESS = "no factors: not every reader has a weight of its own that could take them"
_OF = {"params": "of the parameters", "macs": "of the MACs", "channels": "of the prunable channels"}

_Way = Callable[[Callable[[int, Choice], GroupPlan]], tuple[GroupPlan, ...]]


@dataclass(frozen=True)
class _Attempt:
    """What a wish came to: what stays of all groups, the allocation it is for, what is removed and missing."""

    groups: tuple[GroupPlan, ...]
    found: Allocation
    counts: NDArray[np.int64]
    removed: float
    missing: float


@dataclass(frozen=True)
class Ranked:
    """A method's choices, one per group, and what keeping so many of each group loses, where that is known.

    `ceilings` are how many of each stay at most, where not all may.
    """

    choices: list[Choice] = field(default_factory=list)
    losses: list[NDArray[np.float64] | None] = field(default_factory=list)
    ceilings: tuple[int, ...] = ()


def rank(analysis: Analysis, options: Options, progress: Progress, evidence: Gathered | None = None) -> Ranked:
    """Let the method rank the channels of every group.

    Parameters
    ----------
    analysis : Analysis
    options : Options
    progress : Progress
        Advanced once per group.
    evidence : Gathered, optional
        What data says of every group.

    Returns
    -------
    Ranked

    Raises
    ------
    ModelError
        If a weight to be scored or sliced is not finite.
    """
    scorer, ranked = Scorer(analysis, options), Ranked()
    groups = analysis.coupling.groups
    told = (NOTHING for _ in groups) if evidence is None else evidence.groups
    weighed = evidence is not None and analysis.total(options.measure) > 0
    trial = evidence.trial if evidence is not None and weighed else None
    usual = analysis.sizes if trial is None else _usual(analysis, options)
    for number, known in zip(range(len(groups)), told, strict=True):
        with blas_threads(max((len(layer.gram) for layer in known.layers), default=groups[number].size)):
            choice = scorer.choice(number, known)
            lost = _lost(number, known, choice.order, evidence)
            thinly = usual[number]
            if trial is not None and known.solved is not None and lost is not None and lost[thinly] > 0:
                # What it means for the outputs where this group alone is thinned as by a ratio that is spread evenly.
                # What several make of each other depends on the samples too much to be told apart from noise.
                lost = lost * trial.error(known.solved(choice.order[:thinly])) / lost[thinly]
        ranked.choices.append(choice)
        ranked.losses.append(lost)
        progress.advance()
    return ranked


def _usual(analysis: Analysis, options: Options) -> NDArray[np.int64]:
    """Channels that groups keep where the ratio is spread evenly; (g,)."""
    items = [
        Item(group.size, group.step, np.ones(group.size), floor_of(group.size, group.step, 1.0))
        for group in analysis.coupling.groups
    ]
    return allocate(analysis.costs[options.measure], items, options.ratio or 0.5, allocation="uniform").counts


def _lost(
    number: int, known: Evidence, order: NDArray[np.int64], evidence: Gathered | None
) -> NDArray[np.float64] | None:
    """What is lost where the first j channels of an order stay, for every j; None where nobody knows."""
    if evidence is not None and evidence.thinned is not None:
        return lost_accuracy(number, known, order, evidence.thinned)
    lost = losses(known.layers, known.worth, order) if known.layers else None
    return None if lost is None else lost - lost[-1]


def check_replay(analysis: Analysis, plan: Plan) -> None:
    """Make sure that a plan made elsewhere can be carried out on a network.

    Raises
    ------
    RefusedError
        If it does not fit.
    ModelError
        If a weight that it could slice is not finite.
    """
    plan.check(analysis.coupling)
    takes = _Takes.of(analysis)
    for planned in plan.groups:
        if planned.factors and planned.name not in (takes.signed if planned.negative else takes.scaled):
            raise RefusedError(
                f"the plan has factors for the group {planned.name!r}, but some reader of it has no weight of its own "
                "to take them; leave them out, or make the plan anew"
            )
    reader = channel_reader(analysis)
    for group in analysis.coupling.groups:
        reader.channels(group)


def require_groups(analysis: Analysis) -> None:
    """Make sure that there is anything to prune.

    Raises
    ------
    RefusedError
        With the reasons why not.
    """
    if analysis.coupling.groups:
        return
    reasons = sorted({held.fixed.purpose.value for held in analysis.coupling.held})
    unruled = sorted(set(analysis.coupling.trace.unruled.values()))
    because = f"; operators without a rule: {', '.join(unruled)}" if unruled else ""
    if analysis.shapes.assumed and Purpose.UNSHAPED.value in reasons:
        sizes = ", ".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in analysis.shapes.assumed.items())
        because += f"; {sizes} was assumed, give sizes that the network takes with --input-shape"
    raise RefusedError(
        f"there is nothing to prune: every channel is pinned ({', '.join(reasons) or 'the network has no weights'})"
        f"{because}; `onnxprune inspect` shows where"
    )


def floors(analysis: Analysis, keep_at_least: float) -> NDArray[np.int64]:
    """Channels of each group that stay at least, given their number or share; (g,)."""
    groups = analysis.coupling.groups
    return np.array([floor_of(group.size, group.step, keep_at_least) for group in groups], dtype=np.int64)


def _items(analysis: Analysis, options: Options, ranked: Ranked) -> list[Item]:
    """What the budget knows of each group, with the highest floor that the ratio can be reached with."""
    assert options.ratio is not None
    lowest = options.keep_at_least[-1]
    reaching = (
        keep
        for keep in options.keep_at_least
        if analysis.removed(options.measure, floors(analysis, keep)) >= options.ratio
    )
    kept = floors(analysis, next(reaching, lowest))
    ceilings = ranked.ceilings or analysis.sizes.tolist()
    items = []
    for number, (group, choice) in enumerate(zip(analysis.coupling.groups, ranked.choices, strict=True)):
        floor, ceiling = min(int(kept[number]), ceilings[number]), ceilings[number]
        scores, lost = choice.scores[choice.order], ranked.losses[number]
        items.append(Item(group.size, group.step, scores, floor, lost, choice.comparable, ceiling))
    return items


def narrowed(ranked: Ranked, plan: Plan) -> Ranked:
    """Leave to choose from what a plan keeps, in the order that there was; it is not picked anew any more.

    Parameters
    ----------
    ranked : Ranked
        Of methods with an order.
    plan : Plan

    Returns
    -------
    Ranked
    """
    choices = []
    for choice, group in zip(ranked.choices, plan.groups, strict=True):
        stays = np.isin(choice.order, group.kept)
        order = np.concatenate([choice.order[stays], choice.order[~stays]])
        scores = np.empty_like(choice.scores)
        scores[order] = choice.scores[choice.order]  # places are worth what they were, whoever takes them
        choices.append(replace(choice, order=order, scores=scores, select=None))
    return Ranked(choices, ranked.losses, tuple(len(group.kept) for group in plan.groups))


def choose(analysis: Analysis, options: Options, ranked: Ranked, source: str) -> Plan:
    """Decide how many and which channels stay.

    Parameters
    ----------
    analysis : Analysis
    options : Options
        With a ratio.
    ranked : Ranked
    source : str
        SHA-256 of the file, for the plan.

    Returns
    -------
    Plan

    Raises
    ------
    RefusedError
        If the ratio cannot be reached, or nothing would be removed.
    """
    if analysis.total(options.measure) <= 0:
        raise RefusedError(
            f"the network has no {options.measure} that could be counted, so no share of them can be removed; choose "
            "another --measure"
        )
    multiple = _multiple(analysis, options)
    best = _best(analysis, options, ranked, multiple)
    _require_multiple(best, options, multiple)
    _require_reached(best, options, rounded=multiple > 1)
    if np.array_equal(best.counts, analysis.sizes):
        raise RefusedError(
            f"--ratio {options.ratio:g} would remove nothing, because single channels of this network weigh more, or "
            "--round-to and --min-keep keep them; ask for more"
        )
    return Plan(source, best.groups, options.request())


@dataclass(frozen=True)
class _Takes:
    """Names of the groups whose readers take factors, and of those whose readers take them by sign."""

    scaled: frozenset[str]
    signed: frozenset[str]

    @classmethod
    def of(cls, analysis: Analysis) -> "_Takes":
        """Look at a network."""
        scaled = scalable_groups(analysis.coupling, analysis.index)
        return cls(scaled, signed_groups(analysis.coupling, analysis.index, scaled))

    def planned(self, group: Group, sample: Sample, notes: tuple[str, ...]) -> GroupPlan:
        """What stays of a group, without factors where its readers do not take them."""
        kept = tuple(map(int, sample.kept))
        if not sample.factors.size:
            return GroupPlan(group.name, group.size, kept, notes=notes)
        if group.name not in (self.signed if sample.negative.size else self.scaled):
            return GroupPlan(group.name, group.size, kept, notes=(*notes, _WEIGHTLESS))
        factors, negative = (tuple(map(float, each)) for each in (sample.factors, sample.negative))
        return GroupPlan(group.name, group.size, kept, factors, notes, sample.draws, negative)


def _multiple(analysis: Analysis, options: Options) -> int:
    """Multiple that kept counts go up to; "auto" is 32 for 8-bit weights and 8 otherwise (TensorRT's tiles)."""
    if options.round_to == "off":
        return 1
    if options.round_to != "auto":
        return int(options.round_to)
    return 32 if any(tensor.data_type in _EIGHT_BITS for tensor in analysis.index.weights.values()) else 8


def _best(analysis: Analysis, options: Options, ranked: Ranked, multiple: int) -> _Attempt:
    """Allocate and sample; where samples are smaller or larger than wanted, wish for less or more and try again."""
    assert options.ratio is not None
    cost = analysis.costs[options.measure]
    items = _items(analysis, options, ranked)
    known = any(lost is not None for lost in ranked.losses)
    allocation = options.spread or ("error" if known else "global")
    takes, go_through = _Takes.of(analysis), _way(analysis, options, ranked)
    target = options.ratio
    attempts = []

    def thin(counts: NDArray[np.int64], number: int, choice: Choice) -> GroupPlan:
        sample = _sample(choice, int(counts[number]), items[number])
        return takes.planned(analysis.coupling.groups[number], sample, choice.notes)

    for _ in range(_ATTEMPTS):
        found = allocate(cost, items, target, allocation=allocation, multiple=multiple)
        groups = go_through(partial(thin, found.counts))
        counts = np.array([len(planned.kept) for planned in groups], dtype=np.int64)
        removed = analysis.removed(options.measure, counts)
        attempt = _Attempt(groups, found, counts, removed, options.ratio - removed)
        attempts.append(attempt)
        if abs(attempt.missing) <= _CLOSE or np.array_equal(counts, found.counts):
            break
        target = min(max(target + attempt.missing, 1e-6), 1 - 1e-6)
    return min(attempts, key=lambda attempt: abs(attempt.missing))


def _way(analysis: Analysis, options: Options, ranked: Ranked) -> _Way:
    """Return what goes through all groups, by the choices that were made together or in the order of layers."""
    if options.layer_order != "together":
        return Scorer(analysis, options).go_through
    return lambda thin: tuple(thin(number, choice) for number, choice in enumerate(ranked.choices))


def _sample(choice: Choice, count: int, item: Item) -> Sample:
    """Keep about `count` channels, at least the floor."""
    if choice.sample is None or count == item.size:
        return Sample(np.sort(choice.order[:count]), np.empty(0))
    sample = choice.sample(count)
    while len(sample.kept) < item.floor:
        count += item.step
        sample = choice.sample(count)
    return sample


def _require_multiple(best: _Attempt, options: Options, multiple: int) -> None:
    if multiple > 1 and not np.array_equal(best.counts, best.found.counts):
        raise RefusedError(
            f"--method {options.method} leaves the number of channels to chance, so --round-to {options.round_to} "
            "cannot hold; use coreset or coreset-distinct"
        )


def _require_reached(best: _Attempt, options: Options, *, rounded: bool) -> None:
    ratio, reachable, what = options.ratio, best.found.reachable, _OF[options.measure]
    assert ratio is not None
    if abs(best.removed - ratio) <= _POINT or options.best_effort:
        return
    if reachable < ratio - _POINT:
        raise RefusedError(
            f"--ratio {ratio:g} cannot be reached: at most {reachable:.1%} {what} can be removed; ask for less, or add "
            "--best-effort to take the maximum (`onnxprune inspect` says what is pinned and why)"
        )
    if rounded:
        return
    chance = not np.array_equal(best.counts, best.found.counts)
    reason = (
        f"--method {options.method} leaves it to chance" if chance else "single channels of this network weigh more"
    )
    raise RefusedError(
        f"--ratio {ratio:g} cannot be met within one percentage point: the nearest is {best.removed:.1%} {what}, "
        f"because {reason}; ask for that, or add --best-effort"
    )
