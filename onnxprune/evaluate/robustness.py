"""What accuracy on clean inputs hides: errors under shift, how far one may prune for each, how noise parts networks.

    prune potential   P(D; δ) = max {r : err(r, D) ≤ err(0, D) + δ}, over the networks at hand or by search
    excess error      e = [err(r, D′) − err(r, D)] − [err(0, D′) − err(0, D)];  slope s of e ≈ s·r, through the origin
    noise similarity  share of equal classes, and mean ‖p − q‖₂, of x + U[−ε, ε]

Errors are shares of wrong answers; where classes are not known, of answers that differ from the original's on the clean
picture.

References
----------
L. Liebenwein, C. Baykal, B. Carter, D. Gifford, D. Rus, "Lost in pruning: the effects of pruning neural networks beyond
test accuracy", MLSys 2021, arXiv 2103.03014, sections 4 and 5.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.evaluate.figures import answers_of, log_shares

__all__ = [
    "DELTA",
    "LEVELS",
    "NEAR",
    "Excess",
    "Predict",
    "excess_error",
    "next_ratio",
    "noise_similarity",
    "potential",
]

Predict = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""Scores (n, c) of inputs (n, …)."""

DELTA = 0.005
"""Error that may be added: half a point."""
NEAR = 0.01
"""Ratios that are as good as one: a ratio is met within a point."""
LEVELS = tuple(0.7 * number / 14 for number in range(15))
"""Noise that is added to inputs, as shares of their standard deviation."""
_BOOTSTRAPS = 1000
_AT_ONCE = 1 << 26
"""Bytes of inputs that noise is drawn for at once."""


def potential(ratios: Sequence[float], errors: Sequence[float], original: float, *, delta: float = DELTA) -> float:
    """The largest ratio of networks whose error is no more than so much above the original's.

    Parameters
    ----------
    ratios, errors : sequence of float
        Of networks in any order. A larger ratio may do where a smaller one does not: it counts.
    original : float
        The original's error.
    delta : float

    Returns
    -------
    float
        0, the original's, where none of them does.

    Examples
    --------
    >>> potential([0.3, 0.5, 0.7], [0.06, 0.064, 0.09], 0.06)
    0.5
    """
    most = original + delta + 1e-12
    return max((0.0, *(ratio for ratio, error in zip(ratios, errors, strict=True) if error <= most)))


def next_ratio(
    ratios: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    originals: Mapping[str, float],
    *,
    high: float,
    delta: float = DELTA,
    near: float = NEAR,
) -> float | None:
    """Say which ratio to try next, where networks of any ratio can be made and potentials are looked for.

    Potentials of all distributions are looked for at once, by halves, the first distribution's before all others': a
    network that was made for one says something of all. Errors are taken to rise with the ratio. Where they do not,
    what is found keeps to the bound all the same, and a larger ratio that was not tried may do, too.

    Parameters
    ----------
    ratios : sequence of float
        What was tried.
    errors : mapping of str to sequence of float
        Errors of the networks of these ratios, by distribution.
    originals : mapping of str to float
        The original's, by distribution.
    high : float
        The largest ratio that may be.
    delta : float
    near : float
        Between ratios that are no farther apart than this none is tried.

    Returns
    -------
    float or None
        None where nothing is left to try.

    Examples
    --------
    >>> error, tried = lambda ratio: 0.06 + 0.1 * max(ratio - 0.5, 0), []
    >>> while (ratio := next_ratio(tried, {"clean": list(map(error, tried))}, {"clean": 0.06}, high=0.8)) is not None:
    ...     tried.append(ratio)
    >>> [round(ratio, 3) for ratio in tried]
    [0.4, 0.6, 0.5, 0.55, 0.575, 0.562, 0.556]
    """
    widest, found = near, None
    for place, (name, own) in enumerate(errors.items()):
        low = potential(ratios, own, originals[name], delta=delta)
        above = min((ratio for ratio in ratios if ratio > low), default=high)
        if above - low > widest:
            widest, found = above - low, (low + above) / 2
        if place == 0 and found is not None:
            break
    return found


@dataclass(frozen=True)
class Excess:
    """Slope of the excess error over the ratio, and a band that holds 95 of 100 slopes of points drawn again."""

    slope: float
    low: float
    high: float


def excess_error(ratios: Sequence[float], excess: Sequence[float], rng: np.random.Generator) -> Excess:
    """Fit a line through the origin.

    Parameters
    ----------
    ratios, excess : sequence of float
        One pair of each network and distribution.
    rng : numpy.random.Generator

    Returns
    -------
    Excess
    """
    x, y = np.asarray(ratios, dtype=np.float64), np.asarray(excess, dtype=np.float64)
    drawn = rng.integers(0, x.size, (_BOOTSTRAPS, x.size))
    every = _slopes(x[drawn], y[drawn])
    low, high = np.percentile(every, (2.5, 97.5))
    return Excess(float(_slopes(x[None], y[None])[0]), float(low), float(high))


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((x * y).sum(axis=1) / np.maximum(np.square(x).sum(axis=1), 1e-30))


def noise_similarity(
    original: Predict,
    others: Sequence[Predict],
    inputs: NDArray[np.float32],
    *,
    draws: Sequence[int],
    seed: int,
    spread: float | None = None,
    first: int = 0,
    levels: Sequence[float] = LEVELS,
    batch: int = 128,
) -> NDArray[np.float64]:
    """Run networks on inputs with noise.

    Parameters
    ----------
    original : callable
    others : sequence of callable
    inputs : ndarray (n, …)
    draws : sequence of int
        Numbers of the draws of noise for each input, all of them for each level.
    seed : int
        Noise of an input depends on this, the draw and the input's number, and is the same for all levels but its size.
    spread : float, optional
        Standard deviation of inputs; by default, of these.
    first : int
        Number of the first input.
    levels : sequence of float
        Of what is added, uniform between ± that share of the standard deviation.
    batch : int
        Inputs that are run at once; it changes nothing.

    Returns
    -------
    ndarray (networks, levels, 3)
        Sums over inputs and draws: of classes that are equal, of distances of probabilities, and of inputs, those that
        the original names no class of left out.
    """
    found = np.zeros((len(others), len(levels), 3))
    spread = float(inputs.std()) if spread is None else spread
    batch = max(min(batch, _AT_ONCE // max(inputs[:1].nbytes, 1)), 1)
    for draw, start in itertools.product(draws, range(0, len(inputs), batch)):
        part = inputs[start : start + batch]
        noise = [np.random.default_rng([seed, 13, draw, first + start + number]) for number in range(len(part))]
        drawn = np.stack([rng.uniform(-1, 1, part.shape[1:]).astype(np.float32) for rng in noise])
        for place, level in enumerate(levels):
            moved = part + np.float32(level * spread) * drawn
            scores = original(moved)
            told = answers_of(scores) >= 0
            logs, answers = log_shares(scores[told]), answers_of(scores[told])
            for number, other in enumerate(others):
                scores = other(moved)[told]
                own = log_shares(scores)
                found[number, place, 0] += (answers_of(scores) == answers).sum()
                found[number, place, 1] += np.linalg.norm(np.exp(own) - np.exp(logs), axis=1).sum()
                found[number, place, 2] += told.sum()
    return found
