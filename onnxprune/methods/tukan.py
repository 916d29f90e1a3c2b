"""Knows the coreset of Tukan et al.: channels are worth most whose scaled rows are extreme in some direction.

    ω(p) = max over readers j of  max_i |w_ji(p)| / Σ_q max_i |w_ji(q)|     every reader is to be preserved alike
    scaled points ω(p) · p,  reduced to rank r by SVD,  peeled:  i(p) = the L∞ coreset's layer,  s(p) = 2 r^1.5 / i(p)
    draw m channels with probability s / t, t = Σ s;   u(p) = count(p) · t / (m s(p));   w̃(p) = u(p) · w(p)

p is the channel's incoming weights with its bias appended; a channel with several writers is their rows side by side.
|w_i(p)| of a kernel is its sum of absolute values. For a ReLU |w| φ(pᵀx) = φ(|w| pᵀx), so that a reader's weight may be
drawn into the point. Without writers p is 1, without readers ω is. u multiplies what the readers have, nothing else.

r is √(n / 2) / 2 unless given. At full rank (n < 2 r²) no layer can be peeled off: the notes say so, the order is
then that of the leverage scores, and sampling would be uniform. Two forms:

- `lowner`: no sampling, lower layers first, of one layer the larger leverage, weights untouched (to be refitted);
- `lowner-sampled`: a number of draws that gives the wanted number of channels in expectation, as published.

The theorem's factor 1 ± ε is of Σ_p ω(p) φ(pᵀx), all of whose terms are positive, for the points as they are: it holds
for one reader of positive weights, behind a ReLU, at full rank and under the mild assumption. `lowner-sampled` says
with each group which of these fails, and what ε it would be; `lowner` has no sample, and promises nothing.

What is chosen depends on the points alone, not on their order: they are sorted before anything is computed.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.leverage import leverage_scores
from onnxprune.coreset.linf import linf_coreset
from onnxprune.coreset.mild import centre_condition
from onnxprune.coreset.norms import Reals
from onnxprune.coreset.peeling import Peeled, Peeling, peel
from onnxprune.coreset.reduction import Reduction, reduced, usual_rank
from onnxprune.coreset.sensitivity import probabilities, sensitivities
from onnxprune.methods.interface import Channels, Choice
from onnxprune.methods.mussay import sampled, tame
from onnxprune.methods.order import ranking
from onnxprune.methods.recipe import Recipe

__all__ = ["RECIPES", "lowner", "lowner_sampled"]

Floats = NDArray[np.float64]
# Columns that points are sorted by: two that agree in all of them and in ω agree altogether, but for contrived weights.
_KEYS = 8
# A reduction that leaves no more than this of the squares out has left out rounding.
_WHOLE = 1e-12


def lowner(channels: Channels, rng: np.random.Generator, *, rank: int | None = None) -> Choice:
    """Rank by the layer of the peeling, then by leverage.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Not used.
    rank : int, optional
        Dimensions r that the scaled points are reduced to; √(n / 2) / 2 by default.

    Returns
    -------
    Choice
        Scores lie between 1 / (i + 1) and 1 / i for layer i; zero for channels that are zero.

    References
    ----------
    M. Tukan, L. Mualem, A. Maalouf, "Pruning Neural Networks via Coresets and Convex Geometry: Towards No
    Assumptions", NeurIPS 2022, arXiv 2209.08554, algorithms 1 and 2.

    Examples
    --------
    >>> rows = np.vstack([np.eye(2) * 9, -np.eye(2) * 9, np.random.default_rng(0).standard_normal((60, 2))])
    >>> channels = Channels((rows,), None, (np.ones((64, 1, 1)),), "Relu")
    >>> sorted(lowner(channels, np.random.default_rng(0)).order[:4].tolist())
    [0, 1, 2, 3]
    """
    points, peeling = _peeled(channels, rank)
    scores = _priorities(points, peeling)
    return Choice(ranking(scores), scores, notes=_notes(channels, points, peeling))


def lowner_sampled(channels: Channels, rng: np.random.Generator, *, rank: int | None = None) -> Choice:
    """Sample by the sensitivities of the peeling, with the published weights u on the readers.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Read once; `sample` is then a function of the count alone.
    rank : int, optional
        Dimensions r that the scaled points are reduced to; √(n / 2) / 2 by default.

    Returns
    -------
    Choice
        `sample(count)` keeps `count` channels in expectation (exactly, where there are rows).

    Examples
    --------
    >>> rows = np.random.default_rng(1).standard_normal((64, 2))
    >>> channels = Channels((rows,), None, (np.ones((64, 1, 1)),), "Relu")
    >>> kept = lowner_sampled(channels, np.random.default_rng(0)).sample(32).kept.size
    >>> 20 < kept < 44
    True
    """
    points, peeling = _peeled(channels, rank)
    choice = sampled(probabilities(peeling.sensitivities), channels.rows, rng)
    promised = choice.guarantee
    if promised is not None:
        obstacle = _obstacle(channels, points, peeling)
        promised = replace(promised, shares=peeling.sensitivities, obstacle=obstacle)
    # Of one layer all are drawn alike; the preview shows the larger leverage first.
    order = ranking(_priorities(points, peeling))
    return replace(choice, order=order, notes=_notes(channels, points, peeling), guarantee=promised)


def _priorities(points: Reduction, peeling: Peeling) -> Floats:
    """Return scores (n,) between 1 / (i + 1) and 1 / i in layer i, in the order of the leverage; zero for zeros."""
    leverage = leverage_scores(points.coordinates)
    layers = peeling.layers.astype(np.float64)
    within = leverage / (leverage.max(initial=0.0) or 1.0)
    scores: Floats = 1.0 / (layers + 1.0) + within / (layers * (layers + 1.0))
    return np.where(peeling.sensitivities > 0.0, scores, 0.0)


def _peeled(channels: Channels, rank: int | None) -> tuple[Reduction, Peeling]:
    """Return the scaled points, reduced, and their layers, in the channels' own order."""
    count = channels.count
    weights = _reading(channels)
    parts: list[Reals] = list(channels.incoming) or [np.ones((count, 1))]
    if channels.bias is not None and channels.incoming:
        parts.append(channels.bias[:, None])
    keys = [part[:, column] for part in parts for column in range(min(part.shape[1], _KEYS))]
    order = np.lexsort([weights, *keys])
    found = reduced([part[order] for part in parts], weights[order], rank or usual_rank(count))
    back = np.argsort(order)
    # A point may vanish in few dimensions; it is dead only where it is zero in all of them.
    layers = peel(found.coordinates)
    living = np.zeros(count, dtype=bool)
    for part in parts:
        living |= part.any(axis=1)
    living &= weights > 0.0
    unseen = living[order] & (layers.sensitivities == 0.0)
    least = 2.0 * layers.rank**1.5 / (layers.rounds + 1)
    sensitivities = np.where(unseen, least, layers.sensitivities)[back]
    numbers = np.where(unseen, layers.rounds + 1, layers.layers)[back]
    return replace(found, coordinates=found.coordinates[back]), replace(
        layers, layers=numbers, sensitivities=sensitivities
    )


def _reading(channels: Channels) -> Floats:
    """Return ω (n,), the largest share of a reader's weight, one where nothing is known to read."""
    ones = np.ones((channels.count, 1))
    shares = [sensitivities(ones, tame(reader), "") for reader in channels.outgoing]
    shares = [probabilities(share) for share in shares if share.any()]
    if not shares:
        return np.zeros(channels.count) if len(channels.outgoing) else np.ones(channels.count)
    largest: Floats = np.max(shares, axis=0)
    return largest


def _obstacle(channels: Channels, points: Reduction, peeling: Peeling) -> str:
    """Say why the theorem's factor 1 ± ε does not hold for what the readers compute; "" where it does."""
    if peeling.status is Peeled.NONE:
        return "no layer could be peeled off"
    if channels.activation != "Relu":
        return f"it is for a ReLU, and what follows is {channels.activation or 'not one'}"
    if points.share < 1.0 - _WHOLE:
        return f"{1.0 - points.share:.0%} of the squares of the points were left out with their rank"
    if not centre_condition(linf_coreset(points.coordinates)).holds:
        return "the mild assumption does not hold for every input"
    if len(channels.outgoing) != 1 or channels.outgoing[0].shape[1] != 1 or channels.outgoing[0].min() < 0.0:
        return "it is for one sum of positive weights: where weights of both signs cancel there is no factor"
    return ""


def _notes(channels: Channels, points: Reduction, peeling: Peeling) -> tuple[str, ...]:
    """Say what the sensitivities rest on, and whether the theorem's assumption holds."""
    rank = points.coordinates.shape[1]
    notes = [
        f"{points.share:.0%} of the squares of the scaled points lie in the {rank} dimensions they were reduced to"
    ]
    if peeling.status is Peeled.NONE:
        notes.append(peeling.status.value)
        return tuple(notes)
    notes.append(f"{peeling.rounds} layers were peeled off, the sensitivities sum to {peeling.total:.3g}")
    condition = centre_condition(linf_coreset(points.coordinates))
    where = (
        f"the ellipsoid's centre is {condition.distance:.2g} of its extent from zero, allowed {condition.allowed:.2g}"
    )
    if channels.activation != "Relu":
        notes.append(
            f"the bound is on |pᵀx|: it is for a ReLU, and what follows here is {channels.activation or 'not one'}"
        )
    elif condition.holds:
        notes.append(f"the mild assumption holds for every input: {where}")
    else:
        notes.append(f"the mild assumption can fail for inputs that most channels answer with zero: {where}")
    return tuple(notes)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "lowner",
        "outermost first, by peeling off the corners of enclosing ellipsoids (Tukan et al. 2022)",
        lowner,
        at_rank=lambda rank: partial(lowner, rank=rank),
    ),
    Recipe(
        "lowner-sampled",
        "the same by importance sampling, with the published weights",
        lowner_sampled,
        weighs=True,
        at_rank=lambda rank: partial(lowner_sampled, rank=rank),
    ),
)
