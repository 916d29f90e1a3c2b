"""Knows the ellipsoid of least volume around points (Löwner's), centred at zero or free, with a certificate.

Centred, of the points ±p in R^r (dual: D-optimal design), with u ≥ 0 and Σ u = 1:

    maximise log det V(u),   V(u) = Σ u_i p_i p_iᵀ,   κ_i = p_iᵀ V(u)⁻¹ p_i,   Σ u_i κ_i = r
    E = {y : yᵀ V⁻¹ y ≤ max κ},   optimal where max κ = r

Free: the same for the lifted points (p, 1) in R^(r+1). With c = Σ u p and S = Σ u (p − c)(p − c)ᵀ,

    (p − c)ᵀ S⁻¹ (p − c) = κ − 1,   E = {y : (y − c)ᵀ S⁻¹ (y − c) ≤ max κ − 1}

*Certificate*: whatever u is, E holds all points, and since det S(u) is at most its maximum,

    vol(E) ≤ (1 + gap)^(r/2) · least volume,   gap = (largest distance by S) / r − 1

Ascent (m = r or r + 1): with the point of the largest κ, or of the smallest with u > 0 (an *away step*; whichever
violates κ = m more), u ← (1 − λ) u + λ e_j, λ = (κ_j − m) / (m (κ_j − 1)), never below −u_j / (1 − u_j). Updates

    V⁻¹ ← (V⁻¹ − t (V⁻¹p_j)(V⁻¹p_j)ᵀ) / (1 − λ),   κ_i ← (κ_i − t (p_iᵀ V⁻¹ p_j)²) / (1 − λ),   t = λ / (1 − λ + λ κ_j)

cost O(m² + n m) a step, and are refreshed from the moments. Start: extreme points along r orthogonal directions.
Steps are taken over a *working set*, the points of the largest κ and those with u > 0; then all are looked at anew.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.norms import Reals
from onnxprune.coreset.span import affine_span, linear_span

__all__ = ["Ellipsoid", "Status", "enclosing_ellipsoid", "white_ellipsoid"]

Floats = NDArray[np.float64]

# Steps between refreshes: rounding of as many rank-one updates stays below 1e-12, and O(n m²) is spread over them.
_REFRESH = 200
# Points that are always worked on together; below, choosing among them costs more than it saves.
_WORKING = 1000
# Extents whose squares, and those of axes a million times shorter, stay within float64.
_SMALLEST = 1e-140


class Status(Enum):
    """How a computation ended."""

    OPTIMAL = "the gap is within the accuracy asked for"
    EXHAUSTED = "the most iterations allowed were taken; the ellipsoid holds all points, and its gap says how far it is"


@dataclass(frozen=True)
class Ellipsoid:
    """The set of y with (y − centre)ᵀ · shape · (y − centre) ≤ 1, and the design that it comes from.

    Attributes
    ----------
    centre : ndarray of float64 (r,)
        Σ u p; zero where the ellipsoid was to be centred.
    shape : ndarray of float64 (r, r)
        Symmetric, positive definite; S⁻¹ / spread.
    weights : ndarray of float64 (n,)
        The design u, non-negative, summing to 1; its support are points on the boundary, to the gap.
    spread : float
        Largest squared distance (p − c)ᵀ S⁻¹ (p − c) of a point; r at the optimum.
    gap : float
        spread / r − 1: the volume is at most (1 + gap)^(r/2) times the least one.
    iterations : int
        Steps taken.
    status : Status
    """

    centre: Floats
    shape: Floats
    weights: Floats
    spread: float
    gap: float
    iterations: int
    status: Status


def enclosing_ellipsoid(
    points: Reals, *, centred: bool = False, accuracy: float = 1e-4, iterations: int = 100_000
) -> Ellipsoid:
    """Give the ellipsoid of least volume that holds all points.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, r)
        They fill R^r: not all in one hyperplane (free), or in one through zero (centred).
    centred : bool
        Whether the centre is to be zero, so that −p is held with p.
    accuracy : float
        Largest gap.
    iterations : int
        Most steps.

    Returns
    -------
    Ellipsoid

    Raises
    ------
    ValueError
        If the points do not fill the space, are not finite or beyond 1e±140, or an option is not positive.

    References
    ----------
    L. G. Khachiyan, "Rounding of polytopes in the real number model of computation", Math. Oper. Res. 21(2), 1996;
    P. Kumar, E. A. Yıldırım, "Minimum-volume enclosing ellipsoids and core sets", JOTA 126(1), 2005, algorithm 3.1;
    M. J. Todd, E. A. Yıldırım, "On Khachiyan's algorithm for the computation of minimum-volume enclosing ellipsoids",
    Discrete Appl. Math. 155(13), 2007, algorithm 4.2.

    Examples
    --------
    >>> square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> enclosing_ellipsoid(square + 3.0).centre.round(12).tolist()
    [3.0, 3.0]
    >>> enclosing_ellipsoid(square, centred=True).shape.round(12).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    span = linear_span(points) if centred else affine_span(points)
    if span.rank < points.shape[1] or not span.rank:
        raise ValueError(
            f"{len(points)} points of {points.shape[1]} coordinates fill {span.rank} dimensions only: take the "
            "coordinates in their span (coreset.span)"
        )
    white = white_ellipsoid(span.coordinates, centred=centred, accuracy=accuracy, iterations=iterations)
    size = float(np.abs(span.axes).max())
    if not _SMALLEST < size < 1.0 / _SMALLEST:
        raise ValueError(f"points extend over {size:.0e}, whose square float64 cannot hold: divide them by that")
    inverse = np.linalg.inv(span.axes)
    shape = inverse @ white.shape @ inverse.T
    return Ellipsoid(
        span.origin + white.centre @ span.axes,
        (shape + shape.T) / 2.0,
        white.weights,
        white.spread,
        white.gap,
        white.iterations,
        white.status,
    )


def white_ellipsoid(
    points: Floats, *, centred: bool = False, accuracy: float = 1e-4, iterations: int = 100_000
) -> Ellipsoid:
    """Give the ellipsoid of least volume around points that are white already, as `span.affine_span` makes them.

    Parameters
    ----------
    points : ndarray of float64 (n, r)
        Of rank r ≥ 1 and of moderate scale; this is not checked.
    centred, accuracy, iterations
        See `enclosing_ellipsoid`.

    Returns
    -------
    Ellipsoid

    Raises
    ------
    ValueError
        If an option is not positive.

    Examples
    --------
    >>> white_ellipsoid(np.array([[-1.0], [0.0], [1.0]])).weights.tolist()
    [0.5, 0.0, 0.5]
    """
    if not accuracy > 0.0 or iterations < 1:
        raise ValueError(f"accuracy = {accuracy}, iterations = {iterations}: both are positive")
    count, rank = points.shape
    design = points if centred else np.column_stack([points, np.ones(count)])
    weights = np.zeros(count)
    start = _extremes(points, centred=centred)
    weights[start] = 1.0 / start.size
    weights, steps = _maximised(design, weights, accuracy * rank / design.shape[1], iterations)
    centre = np.zeros(rank) if centred else weights @ points
    shifted = points - centre
    inverse = _inverse(_moments(shifted, weights))
    distances = np.einsum("ij,ij->i", shifted @ inverse, shifted)
    spread = float(distances.max())
    gap = max(spread / rank - 1.0, 0.0)
    # The same number from another formula: let rounding not turn what was found optimal into exhaustion.
    status = Status.OPTIMAL if gap <= accuracy * (1.0 + 1e-6) + 1e-12 else Status.EXHAUSTED
    return Ellipsoid(centre, inverse / spread, weights, spread, gap, steps, status)


def _extremes(points: Floats, *, centred: bool) -> NDArray[np.int64]:
    """Return points that are extreme along orthogonal directions, each orthogonal to what the ones before span."""
    rank = points.shape[1]
    chosen: list[int] = []
    basis = np.zeros((rank, 0))
    for _ in range(rank):
        rest = np.eye(rank) - basis @ basis.T
        direction = rest[:, np.argmax(np.einsum("ij,ij->j", rest, rest))]
        along = points @ direction
        high = int(np.argmax(np.abs(along) if centred else along))
        spanned = points[high]
        chosen.append(high)
        if not centred:
            chosen.append(int(np.argmin(along)))
            spanned = spanned - points[chosen[-1]]
        # Twice is enough against rounding (Kahan and Parlett).
        for _ in range(2):
            spanned = spanned - basis @ (basis.T @ spanned)
        basis = np.column_stack([basis, spanned / np.linalg.norm(spanned)])
    return np.unique(np.array(chosen, dtype=np.int64))


def _maximised(design: Floats, weights: Floats, accuracy: float, limit: int) -> tuple[Floats, int]:
    """Maximise log det Σ u d dᵀ to max κ ≤ (1 + accuracy) m; working set by working set."""
    count, width = design.shape
    steps = 0
    while True:
        kappa = _kappa(design, _inverse(_moments(design, weights)))
        excess = float(kappa.max()) / width - 1.0
        if excess <= accuracy or steps >= limit:
            return weights / weights.sum(), steps
        size = max(_WORKING, 10 * width, 2 * int(np.count_nonzero(weights)))
        working = np.arange(count)
        if size < count:
            largest = np.argpartition(-kappa, size)[:size]
            working = np.union1d(largest, np.flatnonzero(weights))
        # Not finer than the points outside are known to be, since these may change everything.
        wanted = accuracy / 2.0 if working.size == count else max(accuracy / 2.0, excess / 4.0)
        found, taken = _ascended(np.ascontiguousarray(design[working]), weights[working], wanted, limit - steps)
        weights[working] = found
        steps += taken


def _ascended(design: Floats, weights: Floats, accuracy: float, limit: int) -> tuple[Floats, int]:
    """Take steps until κ is within `accuracy` of m at every point, from below where the weight is positive."""
    width = design.shape[1]
    weights = weights / weights.sum()
    inverse, kappa = np.empty(0), np.empty(0)
    for step in range(limit):
        if step % max(_REFRESH, width) == 0:
            inverse = _inverse(_moments(design, weights))
            kappa = _kappa(design, inverse)
        place = int(np.argmax(kappa))
        low = int(np.argmin(np.where(weights > 0.0, kappa, np.inf)))
        violation = max(kappa[place] / width - 1.0, 1.0 - kappa[low] / width)
        if violation <= accuracy:
            return weights, step
        if kappa[place] / width - 1.0 < violation:
            place = low
        value = float(kappa[place])
        rate, dropped = _rate(value, float(weights[place]), width)
        column = inverse @ design[place]
        turn = rate / (1.0 - rate + rate * value)
        kappa = (kappa - turn * np.square(design @ column)) / (1.0 - rate)
        inverse = (inverse - turn * np.outer(column, column)) / (1.0 - rate)
        weights = (1.0 - rate) * weights
        weights[place] = 0.0 if dropped else weights[place] + rate
    return weights, limit


def _rate(kappa: float, weight: float, width: int) -> tuple[float, bool]:
    """Return the best λ along one point, and whether the point loses all its weight."""
    if kappa >= width:
        return (kappa - width) / (width * (kappa - 1.0)), False
    drop = -weight / (1.0 - weight)
    best = (kappa - width) / (width * (kappa - 1.0)) if kappa > 1.0 else -np.inf
    return max(best, drop), best <= drop


def _moments(design: Floats, weights: Floats) -> Floats:
    """Return Σ u d dᵀ, from the points that have a weight."""
    support = np.flatnonzero(weights)
    moments: Floats = (design[support] * weights[support, None]).T @ design[support]
    return moments


def _inverse(moments: Floats) -> Floats:
    inverse = np.linalg.inv(moments)
    symmetric: Floats = (inverse + inverse.T) / 2.0
    return symmetric


def _kappa(design: Floats, inverse: Floats) -> Floats:
    kappa: Floats = np.einsum("ij,ij->i", design @ inverse, design)
    return kappa
