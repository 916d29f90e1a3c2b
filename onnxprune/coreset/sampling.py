"""Knows importance sampling with replacement: drawing, the factors that make it unbiased, how many draws to take.

With m independent draws, point p taken with probability pr(p), and count(p) the number of times it was:

    factor(p) = count(p) / (m · pr(p)),   E[factor(p)] = 1
    E[distinct points] = Σ_p (1 − (1 − pr(p))^m)

Drawing until a number of *distinct* points is reached is simulated without a loop over draws. Let point p arrive by
a Poisson process of rate pr(p); the processes' arrivals, in order of time, are then independent draws. With

    T(p) ~ Exp(pr(p))                                  first arrival of p
    τ = the k-th smallest T                            the moment at which k distinct points have been seen
    count(p) = 1 + Poisson(pr(p) · (τ − T(p)))         for T(p) ≤ τ, else 0

the counts have exactly the distribution of the loop's, whatever the skew.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALLEST_PROBABILITY",
    "draw",
    "draw_distinct",
    "drawable",
    "draws_for",
    "expected_distinct",
    "importance_factors",
]

# Below the resolution of float64 at 1 a probability cannot be told from a rounding error of the sum. Such points count
# as impossible, which bounds every number of draws by about 2**58 and so keeps all counts within int64.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)

# How far a sum of probabilities may be from 1: generous for 1e6 terms, far below any error in meaning.
SUM_TOLERANCE = 1e-9


def drawable(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which points can be drawn: those with a probability above `SMALLEST_PROBABILITY`.

    Parameters
    ----------
    probabilities : ndarray of float64 (n,)
        Non-negative, summing to 1.

    Returns
    -------
    ndarray of bool (n,)

    Raises
    ------
    ValueError
        If `probabilities` is not a distribution.

    Examples
    --------
    >>> drawable(np.array([1.0, 0.0, 1e-30])).tolist()
    [True, False, False]
    """
    return _distribution(probabilities) > 0.0


def draw(probabilities: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a fixed number of times with replacement.

    Parameters
    ----------
    probabilities : ndarray of float64 (n,)
        Non-negative, summing to 1.
    draws : int
        Number m of draws, at least 1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int64 (n,)
        How often each point was drawn; sums to `draws`.

    Raises
    ------
    ValueError
        If `probabilities` is not a distribution or `draws` < 1.

    Examples
    --------
    >>> draw(np.array([0.5, 0.0, 0.5]), 1000, np.random.default_rng(0)).tolist()
    [521, 0, 479]
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: draw at least once")
    distribution = _distribution(probabilities)
    # numpy draws category after category and gives the last one what rounding has left over: let that be the likeliest.
    ascending = np.argsort(distribution, kind="stable")
    counts = np.zeros(distribution.size, dtype=np.int64)
    counts[ascending] = rng.multinomial(draws, distribution[ascending])
    return counts


def draw_distinct(
    probabilities: NDArray[np.float64], distinct: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], int]:
    """Draw with replacement until a number of distinct points has been seen.

    The number of draws depends on the sample, so the factors count / (draws · pr) are slightly biased. A generator in
    the same state gives nested samples: the points for k are among those for k + 1. O(n log n), whatever the skew.

    Parameters
    ----------
    probabilities : ndarray of float64 (n,)
        Non-negative, summing to 1.
    distinct : int
        Number of distinct points to see, from 1 to the number of drawable ones.
    rng : numpy.random.Generator

    Returns
    -------
    counts : ndarray of int64 (n,)
        How often each point was drawn; exactly `distinct` are positive.
    draws : int
        Total number of draws, the sum of `counts`.

    Raises
    ------
    ValueError
        If `probabilities` is not a distribution, or fewer than `distinct` points can be drawn.

    References
    ----------
    L. Holst, "On birthday, collectors', occupancy and other classical urn problems", Int. Stat. Review 54, 1986
    (embedding in Poisson processes).

    Examples
    --------
    >>> counts, draws = draw_distinct(np.array([0.9, 0.05, 0.05, 0.0]), 2, np.random.default_rng(0))
    >>> int(np.count_nonzero(counts)), draws == counts.sum()
    (2, np.True_)
    """
    distribution = _distribution(probabilities)
    _check_reachable(distribution, distinct)
    exponentials = rng.standard_exponential(distribution.size)
    first = np.divide(exponentials, distribution, out=np.full(distribution.size, np.inf), where=distribution > 0.0)
    seen = np.argsort(first, kind="stable")[:distinct]
    counts = np.zeros(distribution.size, dtype=np.int64)
    counts[seen] = 1 + rng.poisson(distribution[seen] * (first[seen[-1]] - first[seen]))
    return counts, int(counts.sum())


def importance_factors(
    counts: NDArray[np.int64], probabilities: NDArray[np.float64], draws: int
) -> NDArray[np.float64]:
    """Give the factor count / (m · pr) of every point: its mean over samples is 1 where m is fixed in advance.

    Parameters
    ----------
    counts : ndarray of int64 (n,)
        How often each point was drawn.
    probabilities : ndarray of float64 (n,)
        What it was drawn with.
    draws : int
        Number m of draws.

    Returns
    -------
    ndarray of float64 (n,)
        Zero for points that were not drawn.

    Raises
    ------
    ValueError
        If `draws` < 1, or a point of probability zero has a positive count.

    Examples
    --------
    >>> importance_factors(np.array([3, 1, 0]), np.array([0.5, 0.25, 0.25]), 4).tolist()
    [1.5, 1.0, 0.0]
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: draw at least once")
    drawn = counts > 0
    if np.any(probabilities[drawn] <= 0.0):
        raise ValueError("a point of probability zero was counted as drawn: counts and probabilities do not match")
    return np.divide(counts, draws * probabilities, out=np.zeros(counts.size, dtype=np.float64), where=drawn)


def expected_distinct(probabilities: NDArray[np.float64], draws: int) -> float:
    """Give the expected number of distinct points Σ (1 − (1 − pr)^m) among m draws.

    Parameters
    ----------
    probabilities : ndarray of float64 (n,)
        Non-negative, summing to 1.
    draws : int
        Number m of draws.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `probabilities` is not a distribution.

    Examples
    --------
    >>> expected_distinct(np.array([0.5, 0.5]), 2)
    1.5
    """
    return _expected(_log_misses(_distribution(probabilities)), draws)


def draws_for(probabilities: NDArray[np.float64], distinct: int) -> int:
    """Give the number of draws whose expected number of distinct points is closest to the target.

    It depends on no sample, so an estimator with that many draws stays unbiased. All drawable points together are
    approached but never reached in expectation: for them the target is half a point less (it rounds to all).

    Parameters
    ----------
    probabilities : ndarray of float64 (n,) or (k, n)
        Non-negative, summing to 1; of several distributions, each is drawn from as often.
    distinct : int
        Number of distinct points to aim at, from 1 to the number of drawable ones.

    Returns
    -------
    int
        Number m of draws, from each distribution, at least 1; the smaller of two that are equally close.

    Raises
    ------
    ValueError
        If `probabilities` is not a distribution, or fewer than `distinct` points can be drawn.

    Examples
    --------
    >>> draws_for(np.full(100, 0.01), 50)
    69
    """
    distributions = np.stack([_distribution(each) for each in np.atleast_2d(probabilities)])
    reachable = _check_reachable(distributions.max(axis=0), distinct)
    target = min(float(distinct), reachable - 0.5)
    log_misses = _log_misses(distributions).sum(axis=0)
    high = 1
    while _expected(log_misses, high) < target:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if _expected(log_misses, middle) < target:
            low = middle
        else:
            high = middle
    if low and target - _expected(log_misses, low) <= _expected(log_misses, high) - target:
        return low
    return high


def _distribution(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return checked probabilities, those too small to be drawn set to zero, summing to 1."""
    if probabilities.ndim != 1 or probabilities.size == 0:
        raise ValueError(f"probabilities have shape {probabilities.shape}: give a non-empty vector")
    total = float(probabilities.sum())
    # The negated comparisons also catch NaN.
    if not (probabilities.min() >= 0.0 and abs(total - 1.0) <= SUM_TOLERANCE):
        raise ValueError(f"probabilities are negative or sum to {total}: divide non-negative weights by their sum")
    large = np.where(probabilities > SMALLEST_PROBABILITY, probabilities, 0.0)
    normalised: NDArray[np.float64] = large / large.sum()
    return normalised


def _check_reachable(distribution: NDArray[np.float64], distinct: int) -> int:
    """Return how many points can be drawn, after checking that `distinct` of them exist."""
    reachable = int(np.count_nonzero(distribution))
    if not 1 <= distinct <= reachable:
        raise ValueError(f"distinct = {distinct}, but {reachable} points can be drawn: ask for 1 to {reachable}")
    return reachable


def _log_misses(distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 − pr), −∞ where a point is drawn for certain."""
    with np.errstate(divide="ignore"):
        logs: NDArray[np.float64] = np.log1p(-distribution)
    return logs


def _expected(log_misses: NDArray[np.float64], draws: int) -> float:
    """Return Σ 1 − exp(m · log(1 − pr))."""
    return float(-np.expm1(draws * log_misses).sum())
