"""Knows which single weights of a network go: scores of weights, and masks that leave a given number of the best.

    synflow    θ · ∂R/∂θ, R = 1ᵀ(Π |W|)1        snip    |θ · ∂L/∂θ|        magnitude    |θ|        random

In k of K rounds the best Nρ^(k/K) of N weights stay, ρ being the share that is wanted; scores are looked at anew then.
Over all layers alike: what a method makes of a layer is its own doing, but for those that spare the best of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPARSIFIERS", "Masks", "Sparsifier", "masks"]

Reals = NDArray[np.floating]
Masks = dict[str, NDArray[np.bool_]]
"""What stays of each weight, by its name."""
_Score = Callable[[Reals, Reals, np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Sparsifier:
    """One method for single weights.

    Attributes
    ----------
    name : str
        How the user calls it.
    summary : str
        One line for --help and the README, without a full stop.
    score : callable
        Scores of a weight's elements, given them, their derivatives and a generator.
    derivative : {"", "flow", "loss"}
        Of what they are; of nothing, they are not looked at.
    rounds : int
        Times that scores are looked at.
    spares : bool
        Whether the best element of each weight stays whatever the others are.
    """

    name: str
    summary: str
    score: _Score
    derivative: str = ""
    rounds: int = 1
    spares: bool = False


def _saliency(weight: Reals, slope: Reals, _: np.random.Generator) -> NDArray[np.float64]:
    return np.abs(weight.astype(np.float64) * slope)


def _magnitude(weight: Reals, _: Reals, __: np.random.Generator) -> NDArray[np.float64]:
    return np.abs(weight).astype(np.float64)


def _chance(weight: Reals, _: Reals, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.random(weight.shape)


_TABLE = (
    Sparsifier(
        "synflow",
        "what least flows through, looked at a hundred times; no data (Tanaka et al. 2020)",
        _saliency,
        derivative="flow",
        rounds=100,
        spares=True,
    ),
    Sparsifier("magnitude", "the smallest", _magnitude),
    Sparsifier("snip", "what the loss depends on least, on data (Lee et al. 2019)", _saliency, derivative="loss"),
    Sparsifier("random", "any", _chance),
)
SPARSIFIERS: dict[str, Sparsifier] = {row.name: row for row in _TABLE}


def masks(
    weights: Mapping[str, Reals],
    count: int,
    method: Sparsifier,
    slopes: Callable[[Masks], Mapping[str, Reals]],
    rng: np.random.Generator,
    advance: Callable[[], None] = lambda: None,
    spared: Masks | None = None,
) -> Masks:
    """Choose the weights that stay.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Of one name or more, none of them empty.
    count : int
        How many elements stay in all; no fewer than there are weights.
    method : Sparsifier
    slopes : callable
        Derivatives by the weights, where so much of them stays.
    rng : numpy.random.Generator
    advance : callable
        Called after each round.
    spared : dict of str to ndarray of bool, optional
        Elements that stay in any case, no more than `count`.

    Returns
    -------
    dict of str to ndarray of bool

    References
    ----------
    H. Tanaka, D. Kunin, D. Yamins, S. Ganguli, NeurIPS 2020, arXiv 2006.05467, algorithm 1; N. Lee, T. Ajanthan,
    P. Torr, "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019, arXiv 1810.02340.
    """
    starts = np.cumsum([0, *(weight.size for weight in weights.values())])
    total = int(starts[-1])
    stays = np.arange(total)

    def named() -> Masks:
        flat = np.zeros(total, dtype=bool)
        flat[stays] = True
        shaped = zip(weights.items(), pairwise(starts), strict=True)
        return {name: flat[start:end].reshape(weight.shape) for (name, weight), (start, end) in shaped}

    for turn in range(1, method.rounds + 1):
        slope, parts = slopes(named()), []
        cuts = np.searchsorted(stays, starts)
        for (name, weight), start, (low, high) in zip(weights.items(), starts, pairwise(cuts), strict=False):
            places = stays[low:high] - start
            own, other = weight.reshape(-1)[places], slope.get(name, weight).reshape(-1)[places]
            parts.append(method.score(own, other, rng))
            if spared is not None:
                parts[-1][spared[name].reshape(-1)[places]] = np.inf
            if method.spares and not np.isposinf(parts[-1]).any():
                parts[-1][parts[-1].argmax()] = np.inf
        wanted = max(round(total * (count / total) ** (turn / method.rounds)), count)
        stays = stays[_best(np.concatenate(parts), wanted)]
        advance()
    return named()


def _best(scores: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """The largest; of equal ones the first."""
    bound = np.partition(scores, scores.size - count)[scores.size - count]
    stays: NDArray[np.bool_] = scores > bound
    level = np.flatnonzero(scores == bound)
    stays[level[: count - int(stays.sum())]] = True
    return stays
