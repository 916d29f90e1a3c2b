"""Knows the L∞ coreset: few of the points, whose largest |qᵀx| is within a factor of all points', for every x.

With the enclosing ellipsoid E of P (centre c, half axes a_1 … a_r) and John's E / D within the hull, every end point
v_j± = c ± a_j / D is a convex combination of at most r + 1 points K_j± (Carathéodory). S = ∪ K_j± has
|S| ≤ 2 r (r + 1), and

    max_P |pᵀx| ≤ |cᵀx| + √r max_j |a_jᵀx| ≤ (1 + D √r) max_S |qᵀx| ≤ 2 r^1.5 max_S |qᵀx|          (r ≥ 2, D → r)

for every x: c is the middle of v_j+ and v_j−, and a_j is D / 2 times their difference. *Centred* (P and −P are one to
|pᵀx|) there is no c, and one end of each axis is enough: |S| ≤ r (r + 1), and with E = {yᵀ V⁻¹ y ≤ D}, D → r,

    max_P |pᵀx| ≤ √r max_j |a_jᵀx| ≤ √(D r) max_S |qᵀx| → r max_S |qᵀx|

r is the rank of the points, affine or linear: where they lie in a flat, all is done in its coordinates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.caratheodory import caratheodory, fast_caratheodory
from onnxprune.coreset.ellipsoid import Ellipsoid, white_ellipsoid
from onnxprune.coreset.john import end_points, hull_weights
from onnxprune.coreset.norms import Reals
from onnxprune.coreset.span import Span, affine_span, linear_span

__all__ = ["LinfCoreset", "linf_coreset", "size_bound"]

# The theorem needs D ≤ 2r − 1/√r only; a finer ellipsoid makes `factor` smaller at hardly any cost.
_ACCURACY = 1e-2
# From so many points per coordinate on, clustering is worth its rounds.
_CLUSTERED = 8


@dataclass(frozen=True)
class LinfCoreset:
    """A subset that bounds all points in every direction.

    Attributes
    ----------
    indices : ndarray of int64 (m,)
        Ascending.
    factor : float
        max_P |pᵀx| ≤ factor · max_S |qᵀx| for every x; at most 2 r^1.5 (r, centred), to the ellipsoid's gap.
    span : Span
        The points in the coordinates of their flat, of dimension r.
    ellipsoid : Ellipsoid or None
        The enclosing one, in these coordinates; None for r = 0, where all points are one.
    """

    indices: NDArray[np.int64]
    factor: float
    span: Span
    ellipsoid: Ellipsoid | None

    @property
    def rank(self) -> int:
        """Dimension r of the points' flat."""
        return self.span.rank


def size_bound(rank: int, *, centred: bool = False) -> int:
    """Give the most points that an L∞ coreset has: 2 r (r + 1), centred r (r + 1), at least one.

    Parameters
    ----------
    rank : int
    centred : bool

    Returns
    -------
    int

    Examples
    --------
    >>> size_bound(8), size_bound(8, centred=True), size_bound(0)
    (144, 72, 1)
    """
    return max(rank * (rank + 1) * (1 if centred else 2), 1)


def linf_coreset(points: Reals, *, centred: bool = False, accuracy: float = _ACCURACY) -> LinfCoreset:
    """Choose points whose largest |qᵀx| is within a factor of the largest of all, for every x.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        Of any rank.
    centred : bool
        Take the ellipsoid about zero: fewer points and a smaller factor, but nothing about the sign of pᵀx.
    accuracy : float
        Of the ellipsoid.

    Returns
    -------
    LinfCoreset

    Raises
    ------
    ValueError
        If `points` is no matrix, is empty or not finite.

    References
    ----------
    M. Tukan, L. Mualem, A. Maalouf, "Pruning Neural Networks via Coresets and Convex Geometry: Towards No
    Assumptions", NeurIPS 2022, arXiv 2209.08554, algorithm 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = linf_coreset(rng.standard_normal((500, 3)))
    >>> bool(found.indices.size <= size_bound(3)), found.factor <= 2 * 3**1.5
    (True, True)
    """
    span = linear_span(points) if centred else affine_span(points)
    rank = span.rank
    if rank == 0:
        return LinfCoreset(np.zeros(1, dtype=np.int64), 1.0, span, None)
    ellipsoid = white_ellipsoid(span.coordinates, centred=centred, accuracy=accuracy)
    support = np.flatnonzero(ellipsoid.weights)
    design = span.coordinates[support]
    ends = end_points(ellipsoid, centred=centred)
    chosen: set[int] = set()
    for end in ends[:: 2 if centred else 1]:
        shares = hull_weights(span.coordinates, ellipsoid, end, centred=centred)[support]
        # A point with a negative share stands for its negative, which |pᵀx| does not tell from it.
        signs = np.where(shares < 0.0, -1.0, 1.0)[:, None]
        reduce = fast_caratheodory if support.size > _CLUSTERED * (rank + 2) else caratheodory
        chosen.update(support[reduce(design * signs, np.abs(shares)).indices].tolist())
    root = float(np.sqrt(rank))
    factor = root * float(np.sqrt(ellipsoid.spread)) if centred else 1.0 + ellipsoid.spread * root
    return LinfCoreset(np.array(sorted(chosen), dtype=np.int64), factor, span, ellipsoid)
