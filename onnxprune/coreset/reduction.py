"""Knows how to lay points into few dimensions: their best approximation of rank r in the mean of squares.

    P = U Σ Vᵀ,   coordinates = U_r Σ_r,   kept share of the squares = Σ_{j ≤ r} σ_j² / Σ_j σ_j²

For more coordinates than points through the Gram matrix PPᵀ = U Σ² Uᵀ, summed over parts of the rows, so that no more
than one part is in memory. That squares the condition: directions below 1e-8 of the largest count as none.

Peeling needs n ≥ 2 r² points. `usual_rank` gives r = √(n / 2) / 2: a quarter of the points is left when it stops.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from onnxprune.coreset.norms import Reals

__all__ = ["Reduction", "reduced", "usual_rank"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reduction:
    """Points in few coordinates.

    Attributes
    ----------
    coordinates : ndarray of float64 (n, r)
        Up to the scale of the points; r is at most what was asked for, less where they have no more dimensions.
    share : float
        Of the sum of squares that is kept, in [0, 1]; 1 where all points are zero.
    """

    coordinates: Floats
    share: float


def usual_rank(count: int) -> int:
    """Give the rank at which peeling n points means something: ⌊√(n / 2) / 2⌋, at least 1.

    Parameters
    ----------
    count : int
        Number n of points.

    Returns
    -------
    int

    Examples
    --------
    >>> usual_rank(512), usual_rank(4096), usual_rank(1)
    (8, 22, 1)
    """
    return max(math.isqrt(max(count, 0) // 2) // 2, 1)


def reduced(parts: Sequence[Reals], weights: Floats, rank: int) -> Reduction:
    """Reduce points to a rank; their coordinates come in parts, and every point has a weight.

    Parameters
    ----------
    parts : sequence of ndarray of float32 or float64, each (n, d_i)
        Columns of the points; read twice, one at a time.
    weights : ndarray of float64 (n,)
        What every point is multiplied by, from 0 to 1 or so.
    rank : int
        Most coordinates, at least 1.

    Returns
    -------
    Reduction

    Raises
    ------
    ValueError
        If `rank` is not positive, or the parts do not have one row per weight.

    References
    ----------
    C. Eckart, G. Young, "The approximation of one matrix by another of lower rank", Psychometrika 1, 1936.

    Examples
    --------
    >>> found = reduced([np.array([[3.0], [0.0]]), np.array([[0.0], [4.0]])], np.ones(2), 1)
    >>> round(found.share, 12), np.abs(found.coordinates).round(12).tolist()
    (0.64, [[0.0], [1.0]])
    """
    if rank < 1 or any(part.ndim != 2 or len(part) != weights.size for part in parts):
        raise ValueError(
            f"rank = {rank}, {weights.size} weights: give a positive rank, and parts (n, d) of that many rows"
        )
    count = weights.size
    peak = max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0) * float(weights.max(initial=0.0))
    if peak == 0.0:
        return Reduction(np.zeros((count, 0)), 1.0)

    def scaled(part: Reals) -> Floats:
        return part.astype(np.float64) * (weights / peak)[:, None]

    if sum(part.shape[1] for part in parts) <= count:
        points = np.hstack([scaled(part) for part in parts])
        values, vectors = _largest(points.T @ points, rank)
        return Reduction(points @ vectors, _share(values, float(np.square(points).sum())))
    gram = _summed(parts, scaled, count)
    values, vectors = _largest(gram, rank)
    coordinates = vectors * np.sqrt(values)
    # Rounding gives a zero point coordinates that are not quite zero.
    coordinates[np.diagonal(gram) == 0.0] = 0.0
    return Reduction(coordinates, _share(values, float(np.trace(gram))))


def _summed(parts: Sequence[Reals], scaled: Callable[[Reals], Floats], count: int) -> Floats:
    gram = np.zeros((count, count))
    for part in parts:
        points = scaled(part)
        gram += points @ points.T
    return gram


def _largest(square: Floats, rank: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues of a matrix, as many as are asked for and are more than rounding."""
    size = len(square)
    values, vectors = eigh(square, subset_by_index=(max(size - rank, 0), size - 1))
    real = values > size * np.finfo(np.float64).eps * values[-1]
    return values[real], vectors[:, real]


def _share(values: Floats, total: float) -> float:
    return min(float(values.sum()) / total, 1.0)
