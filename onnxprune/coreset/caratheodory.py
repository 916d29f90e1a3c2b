"""Knows Carathéodory's theorem: a weighted mean of points in R^d is one of at most d + 1 of them.

    Σ w p = Σ w′ p,   Σ w = Σ w′,   w′ ≥ 0,   at most rank + 1 of w′ positive (rank of the affine span)

*Plain*: among more than rank + 1 points, a further point is an affine combination Σ z_b p_b, Σ z = 1, of rank + 1
independent ones, the basis. Move its weight t to them, w_b ← w_b + t z_b, until it has none left, or until the first
w_b is zero: then it takes that point's place. Some points at a time, one table of all z per batch, pivoted where places
change: O(n d²) in all.

*Fast*: put the points into 2 (d + 2) clusters, do so for the clusters' means, keep only the clusters with a weight,
the points' weights in proportion, and begin again: each round halves the points, so it takes O(n d + d³ log n).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq, qr

from onnxprune.coreset.norms import Reals
from onnxprune.coreset.span import checked_points

__all__ = ["Combination", "caratheodory", "fast_caratheodory"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# A pivot below this share of the basis' size is rounding.
_PIVOT = 1e-10


@dataclass(frozen=True)
class Combination:
    """A few points and their weights.

    Attributes
    ----------
    indices : ndarray of int64 (m,)
        Ascending, m ≤ d + 1.
    weights : ndarray of float64 (m,)
        Positive.
    """

    indices: Indices
    weights: Floats


def caratheodory(points: Reals, weights: Floats) -> Combination:
    """Give at most d + 1 of the points the same total weight and the same weighted mean.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
    weights : ndarray of float64 (n,)
        Non-negative, not all zero.

    Returns
    -------
    Combination
        The sum of the weights is kept to the last digit or two, the mean to rounding.

    Raises
    ------
    ValueError
        If shapes do not match, something is not finite, or weights are negative or all zero.

    References
    ----------
    C. Carathéodory, Math. Ann. 64, 1907; W. D. Cook, R. J. Webster, "Carathéodory's theorem", Canad. Math. Bull.
    15(2), 1972; M. Tchernychova, "Carathéodory cubature measures", Oxford 2015 (one basis for a whole batch).

    Examples
    --------
    >>> found = caratheodory(np.arange(5.0)[:, None], np.full(5, 0.2))
    >>> found.indices.size, round(float(found.weights @ found.indices), 12)
    (2, 2.0)
    """
    rows, mass, kept, noise = _prepared(points, weights)
    return _finished(rows, mass, *_batched(rows[kept], mass[kept], kept, noise))


def fast_caratheodory(points: Reals, weights: Floats) -> Combination:
    """Give at most d + 1 of the points the same total weight and the same weighted mean; faster for n ≫ d.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
    weights : ndarray of float64 (n,)
        Non-negative, not all zero.

    Returns
    -------
    Combination

    Raises
    ------
    ValueError
        If shapes do not match, something is not finite, or weights are negative or all zero.

    References
    ----------
    A. Maalouf, I. Jubran, D. Feldman, "Fast and Accurate Least-Mean-Squares Solvers", NeurIPS 2019,
    arXiv 1906.04705, algorithm 2.

    Examples
    --------
    >>> found = fast_caratheodory(np.arange(1000.0)[:, None], np.ones(1000))
    >>> found.indices.size, float(found.weights.sum()), round(float(found.weights @ found.indices) / 1000, 9)
    (2, 1000.0, 499.5)
    """
    rows, mass, kept, noise = _prepared(points, weights)
    now = mass[kept]
    clusters = 2 * (rows.shape[1] + 2)
    while kept.size > clusters:
        starts = np.linspace(0, kept.size, clusters, endpoint=False).astype(np.int64)
        totals = np.add.reduceat(now, starts)
        means = np.add.reduceat(rows[kept] * now[:, None], starts, axis=0) / totals[:, None]
        chosen, found = _batched(means, totals, np.arange(clusters), noise)
        growth = np.zeros(clusters)
        growth[chosen] = found / totals[chosen]
        now = now * np.repeat(growth, np.diff(np.append(starts, kept.size)))
        stays = now > 0.0
        kept, now = kept[stays], now[stays]
    return _finished(rows, mass, *_batched(rows[kept], now, kept, noise))


def _prepared(points: Reals, weights: Floats) -> tuple[Floats, Floats, Indices, float]:
    """Return the points about their mean and at most 1 in size, their checked weights, which are positive, and noise.

    That is how far rounding may have moved a point: of points far from zero and near one another much.
    """
    rows = checked_points(points)
    if weights.shape != (len(rows),) or not np.isfinite(weights).all() or not weights.min() >= 0.0:
        raise ValueError(f"weights of shape {weights.shape} for {len(rows)} points: give finite ones from 0 on")
    kept = np.flatnonzero(weights).astype(np.int64)
    if not kept.size:
        raise ValueError("all weights are zero, so that there is no mean to keep: give at least one positive")
    tame = rows / (float(np.abs(rows[kept]).max(initial=0.0)) or 1.0)
    centred = tame - tame[kept].mean(axis=0)
    size = float(np.abs(centred[kept]).max(initial=0.0)) or 1.0
    return centred / size, weights, kept, float(np.finfo(np.float64).eps) / min(size, 1.0)


def _batched(rows: Floats, mass: Floats, names: Indices, noise: float) -> tuple[Indices, Floats]:
    """Reduce to rank + 1 points: those that are left over so far with as many new ones, again and again."""
    size = 2 * (rows.shape[1] + 1)
    chosen, found = np.arange(min(size, len(rows))), mass[:size]
    place = size
    while True:
        alive, found = _reduced(rows[chosen], found, noise)
        chosen = chosen[alive]
        if place >= len(rows):
            return names[chosen], found
        more = np.arange(place, min(place + max(size - chosen.size, 1), len(rows)))
        chosen, found = np.concatenate([chosen, more]), np.concatenate([found, mass[more]])
        place += more.size


def _reduced(rows: Floats, mass: Floats, noise: float) -> tuple[NDArray[np.bool_], Floats]:
    """Drop points of one batch until those left are affinely independent."""
    lifted = np.column_stack([rows, np.ones(len(rows))])
    triangle, order = qr(lifted.T, mode="r", pivoting=True)
    sizes = np.abs(np.diagonal(triangle))
    rank = max(int(np.count_nonzero(sizes > len(rows) * noise * sizes[0])), 1)
    basis, others = order[:rank].copy(), order[rank:]
    table = np.linalg.solve(triangle[:rank, :rank], triangle[:rank, rank:])
    now = mass.copy()
    for column, point in enumerate(others):
        along, held = table[:, column], now[basis]
        steps = np.divide(held, -along, out=np.full(rank, np.inf), where=along < -_PIVOT)
        place = int(np.argmin(steps))
        step = min(float(steps[place]), float(now[point]))
        now[basis] = np.maximum(held + step * along, 0.0)
        now[point] -= step
        if now[point] > 0.0:
            now[basis[place]] = 0.0
            basis[place] = point
            row = table[place, column + 1 :] / along[place]
            table[:, column + 1 :] -= np.outer(along, row)
            table[place, column + 1 :] = row
    alive = now > 0.0
    return alive, now[alive]


def _finished(rows: Floats, mass: Floats, kept: Indices, found: Floats) -> Combination:
    """Solve for the weights of the points that were chosen anew, once for all, and make their sum what it was."""
    ascending = np.argsort(kept)
    kept, found = kept[ascending], found[ascending]
    total = math.fsum(mass)
    share = mass / total
    lifted = np.column_stack([rows, np.ones(len(rows))])
    wanted = share @ lifted
    solved = np.asarray(lstsq(lifted[kept].T, wanted)[0])
    if solved.min() > 0.0 and np.abs(lifted[kept].T @ solved - wanted).max() <= 1e-9:
        found = solved
    final = found * (total / math.fsum(found))
    # The largest weight takes what rounding has left over of the sum.
    largest = int(np.argmax(final))
    final[largest] += total - math.fsum(final)
    return Combination(kept, final)
