"""Knows the subspace that points really fill, and their coordinates in it.

    P − 1oᵀ = U Σ Vᵀ,   rank r = number of σ_j > max(n, d) · ε · σ_1
    coordinates = U_r · √n,   axes = Σ_r V_rᵀ / √n,   P = 1oᵀ + coordinates · axes

o is the mean (affine span) or zero (linear span). The coordinates are *white*: their second moment is the identity,
whatever the scale and the condition of P. Ellipsoids, leverage and convex combinations do not change with the
coordinates, so that all further computing is done in these.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svd

from onnxprune.coreset.norms import Reals

__all__ = ["Span", "affine_span", "checked_points", "linear_span"]


@dataclass(frozen=True)
class Span:
    """Points in the coordinates of their own span.

    Attributes
    ----------
    origin : ndarray of float64 (d,)
        The mean of the points for an affine span, zero for a linear one.
    coordinates : ndarray of float64 (n, r)
        White: coordinatesᵀ · coordinates / n is the identity.
    axes : ndarray of float64 (r, d)
        points = origin + coordinates · axes, to rounding.
    """

    origin: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    axes: NDArray[np.float64]

    @property
    def rank(self) -> int:
        """Dimension r of the span."""
        return int(self.axes.shape[0])


def affine_span(points: Reals) -> Span:
    """Give the smallest flat that holds all points.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        Finite, n ≥ 1.

    Returns
    -------
    Span
        Of rank zero where all points are equal.

    Raises
    ------
    ValueError
        If `points` is no matrix, is empty or not finite.

    Examples
    --------
    >>> affine_span(np.array([[0.0, 1.0], [2.0, 1.0], [5.0, 1.0]])).rank
    1
    """
    rows = checked_points(points)
    peak = max(float(np.abs(rows).max(initial=0.0)), np.finfo(np.float64).tiny)
    mean = (rows / peak).mean(axis=0) * peak
    # What the subtraction leaves of equal coordinates is rounding of their size, not an extent.
    return _decomposed(rows, mean, float(np.finfo(np.float64).eps) * peak)


def linear_span(points: Reals) -> Span:
    """Give the smallest subspace through zero that holds all points.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        Finite, n ≥ 1.

    Returns
    -------
    Span
        Of rank zero where all points are zero.

    Raises
    ------
    ValueError
        If `points` is no matrix, is empty or not finite.

    Examples
    --------
    >>> linear_span(np.array([[1.0, 1.0], [2.0, 2.0]])).rank
    1
    """
    rows = checked_points(points)
    return _decomposed(rows, np.zeros(rows.shape[1]), 0.0)


def checked_points(points: Reals) -> NDArray[np.float64]:
    """Return points in float64, after making sure that they are a finite matrix with at least one row.

    Parameters
    ----------
    points : ndarray (n, d)

    Returns
    -------
    ndarray of float64 (n, d)

    Raises
    ------
    ValueError

    Examples
    --------
    >>> checked_points(np.ones((1, 2), dtype=np.float32)).dtype
    dtype('float64')
    """
    if points.ndim != 2 or not len(points):
        raise ValueError(f"points have shape {points.shape}: give a matrix (n, d) with n ≥ 1")
    rows = points.astype(np.float64, copy=False)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(f"point {int(np.argmin(finite))} is not finite: leave out points with NaN or infinity")
    return rows


def _decomposed(rows: NDArray[np.float64], origin: NDArray[np.float64], rounding: float) -> Span:
    """Decompose the points about an origin; what is no larger than `rounding` times √n counts as zero."""
    count, width = rows.shape
    # Halves first, since the difference of two finite numbers may not be finite.
    centred = rows / 2.0 - origin / 2.0
    peak = float(np.abs(centred).max(initial=0.0))
    if peak == 0.0 or width == 0:
        return Span(origin, np.zeros((count, 0)), np.zeros((0, width)))
    left, sizes, right = svd(centred / peak, full_matrices=False, lapack_driver="gesdd")
    least = max(
        max(count, width) * float(np.finfo(np.float64).eps) * float(sizes[0]), 4.0 * rounding / peak * np.sqrt(count)
    )
    rank = int(np.count_nonzero(sizes > least))
    # Rounding gives a zero row coordinates that are not quite zero.
    left[~centred.any(axis=1)] = 0.0
    axes = (sizes[:rank, None] / np.sqrt(count)) * right[:rank] * peak * 2.0
    return Span(origin, left[:, :rank] * np.sqrt(count), axes)
