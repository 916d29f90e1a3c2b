"""The largest ratio that keeps to a loss of accuracy: bisection, every step on a network that is really pruned.

What channels are worth is found out once. Each ratio is then allocated, its readers are solved anew, and the network so
made answers the samples that were held out.
"""

from dataclasses import replace

from onnxprune.choose import floors
from onnxprune.decide import Decision, Ground, Tried, decide
from onnxprune.errors import RefusedError
from onnxprune.options import Options
from onnxprune.progress import Clock
from onnxprune.validate import Accuracy

__all__ = ["search"]

# Ratios tried at most, and how near two have to be for none to be tried between them: a ratio is met within a point.
_TRIALS, _NEAR = 7, 0.01


def search(ground: Ground, options: Options, clock: Clock) -> Decision:
    """Find the largest ratio at which no more accuracy is lost on the samples held out than may be.

    Parameters
    ----------
    ground : Ground
    options : Options
        With `max_drop`; its ratio, or else what can be reached, is tried first.
    clock : Clock

    Returns
    -------
    Decision

    Raises
    ------
    RefusedError
        If every ratio that was tried loses more.
    DataError
        If the original is right no more often than by chance.
    """
    assert options.max_drop is not None and ground.refiner is not None and ground.refiner.exam is not None
    exam = ground.refiner.exam
    exam.require_right(f"--max-drop {options.max_drop:g}")
    ratio = high = _most(ground, options)
    low, best, tried = 0.0, None, list[Tried]()
    while not tried or (len(tried) < _TRIALS and high - low > _NEAR):
        decision = _decided(ground, replace(options, ratio=ratio, best_effort=True), clock, again=bool(tried))
        if decision is None:
            low, ratio = ratio, (ratio + high) / 2
            continue
        with clock.stage("try"):
            accuracy = exam.accuracy(decision.made(options))
        removed = ground.analysis.removed(options.measure, decision.plan.counts(ground.analysis.coupling))
        tried.append(Tried(ratio, removed, accuracy))
        if _keeps(accuracy, options.max_drop):
            low, best = ratio, decision
        else:
            high = ratio
        ratio = (low + high) / 2
    if best is None:
        raise _refusal(tried, options)
    request = best.plan.request | {"best_effort": options.best_effort}
    return replace(best, plan=replace(best.plan, request=request), tried=tuple(tried))


def _most(ground: Ground, options: Options) -> float:
    """The largest ratio to try."""
    if ground.analysis.total(options.measure) <= 0:
        return options.ratio or 0.5
    kept = floors(ground.analysis, options.keep_at_least[-1])
    reachable = ground.analysis.removed(options.measure, kept)
    if reachable <= 0:
        raise RefusedError(
            f"--max-drop {options.max_drop:g}: nothing can go, since no group has more channels than have to stay; "
            "ask for a smaller --min-keep"
        )
    return min(reachable, options.ratio or 1.0)


def _decided(ground: Ground, options: Options, clock: Clock, *, again: bool) -> Decision | None:
    """Decide for a ratio; None where it is smaller than any step. The largest one is refused with the reason."""
    try:
        return decide(ground, options, clock)
    except RefusedError:
        if again:
            return None
        raise


def _keeps(accuracy: Accuracy, points: float) -> bool:
    """Tell whether no more is lost than may be, but for rounding."""
    return 100 * accuracy.drop <= points + 1e-9


def _refusal(tried: list[Tried], options: Options) -> RefusedError:
    least = min(tried, key=lambda each: each.ratio)
    found = least.accuracy
    return RefusedError(
        f"--max-drop {options.max_drop:g} cannot be kept to: the least that was tried, {least.removed:.1%}, drops "
        f"top-1 accuracy from {found.before:.1%} to {found.after:.1%}, by {100 * found.drop:.2f} points (standard "
        f"error {100 * found.standard_error:.2f}, {found.samples} samples held out); allow more, give more samples "
        "with --samples, or give a --ratio and fine-tune"
    )
