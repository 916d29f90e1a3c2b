"""How far one may prune, by search: networks are made, ratio by ratio, where the next one says most of the potentials.

Each network is the one that a prune by that ratio makes with --distill off, since there are many of them, and is looked
at on all distributions: those tried are a family that everything else can be told of, too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from onnxprune.analysis import analyse
from onnxprune.choose import floors, require_groups
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.journal import Journal
from onnxprune.compare.shifts import Shifts
from onnxprune.errors import RefusedError
from onnxprune.evaluate import Runner
from onnxprune.evaluate.robustness import next_ratio
from onnxprune.graph.model import Model
from onnxprune.options import Options
from onnxprune.pipeline import plan_model
from onnxprune.progress import Clock

__all__ = ["Made", "sought"]


@dataclass(frozen=True)
class Made:
    """A network that was tried.

    Attributes
    ----------
    model : Model
        Pruned, in memory.
    runner : Runner
        The same, open.
    ratio : float
        What was asked for, a share of the parameters.
    """

    model: Model
    runner: Runner
    ratio: float


def sought(
    model: Model,
    shifts: Shifts,
    opened: Callable[[Model], Runner],
    asked: Comparison,
    journal: Journal,
    clock: Clock,
) -> list[Made]:
    """Look for the potentials of all distributions at once; the journal then knows the errors of all that was made.

    Parameters
    ----------
    model : Model
        The original; not changed.
    shifts : Shifts
        With the original alone.
    opened : callable
        Opens a network, which is used up.
    asked : Comparison
        How networks are made, and how many at most.
    journal : Journal
    clock : Clock

    Returns
    -------
    list of Made
        By ratio, ascending.

    Raises
    ------
    OnnxPruneError
        If the network cannot be pruned.
    """
    assert asked.making is not None
    options, changes = replace(asked.making, best_effort=True, distill="off"), shifts.distributions(asked.seed)
    analysis = analyse(model.copy(), options)
    require_groups(analysis)
    high = analysis.removed("params", floors(analysis, options.keep_at_least[-1]))

    def errors(where: Shifts, ratio: float) -> dict[str, float]:
        told = where.errors(changes, journal, clock, stage="try", before=f"at {ratio:.6f}/")
        return {name: own for name, (own,) in told.items()}

    made: list[Made] = []
    original, found = errors(shifts, 0.0), dict[float, dict[str, float]]()
    while len(made) < asked.trials:
        told = {name: [own[name] for own in found.values()] for name in changes}
        ratio = next_ratio([*found], told, original, high=high)
        if ratio is None:
            break
        ratio = round(ratio, 4)  # as it is told, so that a prune by that ratio gives the same network
        pruned = _pruned(model, replace(options, ratio=ratio), clock, again=bool(found))
        if pruned is None:  # nothing goes at so small a ratio
            found[ratio] = original
            continue
        runner = opened(pruned.copy())
        found[ratio] = errors(shifts.of([runner]), ratio)
        made.append(Made(pruned, runner, ratio))
    if not made:
        raise RefusedError(
            f"--potential: no more than {high:.1%} of the parameters can be removed, too little to look for a potential"
        )
    made.sort(key=lambda each: each.ratio)
    for name in changes:
        journal.once(name, partial(list, [original[name], *(found[each.ratio][name] for each in made)]))
    return made


def _pruned(model: Model, options: Options, clock: Clock, *, again: bool) -> Model | None:
    """Prune by a ratio; None where it is smaller than any step. The first one is refused with the reason."""
    try:
        return plan_model(model.copy(), options, clock).made(options)
    except RefusedError:
        if again:
            return None
        raise
