"""Knows John's theorem: the enclosing ellipsoid, shrunk about its centre, lies within the points' convex hull; and why.

With the design u of the enclosing ellipsoid, c = Σ u p, S = Σ u (p − c)(p − c)ᵀ and D the largest (p − c)ᵀ S⁻¹ (p − c),

    E = {c + y : yᵀ S⁻¹ y ≤ D}  holds all points,      E / D = {c + y : yᵀ S⁻¹ y ≤ 1 / D}  lies in their hull

since c + y = Σ λ_i p_i with the weights λ_i = u_i (1 + (p_i − c)ᵀ S⁻¹ y): Σ λ = 1 and Σ λ p = c + S S⁻¹ y for *any* u,
and λ ≥ 0 by Cauchy and Schwarz. At the optimum D = r, which is the theorem; short of it D is still exact, and
no linear programme is needed. Centred: with signed weights λ_i = u_i p_iᵀ V⁻¹ y, Σ λ p = y and

    Σ |λ| ≤ √(Σ u (pᵀ V⁻¹ y)²) = √(yᵀ V⁻¹ y),   so that E / √D = {y : yᵀ V⁻¹ y ≤ 1} lies in the hull of ±P
"""

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.ellipsoid import Ellipsoid

__all__ = ["end_points", "hull_weights", "inner_ellipsoid", "shrinkage"]

Floats = NDArray[np.float64]


def shrinkage(ellipsoid: Ellipsoid, *, centred: bool = False) -> float:
    """Give the factor by which an enclosing ellipsoid is divided to lie in the hull.

    Parameters
    ----------
    ellipsoid : Ellipsoid
    centred : bool
        Whether it was made centred, and the hull is that of the points and their negatives.

    Returns
    -------
    float
        D, which is r (1 + gap); centred, √D.

    Examples
    --------
    >>> from onnxprune.coreset.ellipsoid import enclosing_ellipsoid
    >>> round(shrinkage(enclosing_ellipsoid(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))), 3)
    2.0
    """
    return float(np.sqrt(ellipsoid.spread)) if centred else ellipsoid.spread


def inner_ellipsoid(ellipsoid: Ellipsoid, *, centred: bool = False) -> tuple[Floats, Floats]:
    """Give John's ellipsoid, which lies within the hull of the points.

    Parameters
    ----------
    ellipsoid : Ellipsoid
        The enclosing one.
    centred : bool
        Whether it was made centred, and the hull is that of the points and their negatives.

    Returns
    -------
    centre : ndarray of float64 (r,)
    shape : ndarray of float64 (r, r)
        The set is (y − centre)ᵀ · shape · (y − centre) ≤ 1.

    References
    ----------
    F. John, "Extremum problems with inequalities as subsidiary conditions", 1948, section 4.

    Examples
    --------
    >>> from onnxprune.coreset.ellipsoid import enclosing_ellipsoid
    >>> inner_ellipsoid(enclosing_ellipsoid(np.array([[-1.0], [3.0]])))
    (array([1.]), array([[0.25]]))
    """
    return ellipsoid.centre, ellipsoid.shape * shrinkage(ellipsoid, centred=centred) ** 2


def end_points(ellipsoid: Ellipsoid, *, centred: bool = False) -> Floats:
    """Give both ends of every axis of John's ellipsoid.

    Parameters
    ----------
    ellipsoid : Ellipsoid
        The enclosing one.
    centred : bool
        Whether it was made centred; the ends lie opposite then, v and −v.

    Returns
    -------
    ndarray of float64 (2r, r)
        The ends of the first axis, those of the second, …

    Examples
    --------
    >>> from onnxprune.coreset.ellipsoid import enclosing_ellipsoid
    >>> end_points(enclosing_ellipsoid(np.array([[-1.0], [3.0]]))).round(9).tolist()
    [[3.0], [-1.0]]
    """
    centre, shape = inner_ellipsoid(ellipsoid, centred=centred)
    squares, directions = np.linalg.eigh(shape)
    half_axes = (directions / np.sqrt(squares)).T
    return np.stack([centre + half_axes, centre - half_axes], axis=1).reshape(-1, centre.size)


def hull_weights(points: Floats, ellipsoid: Ellipsoid, target: Floats, *, centred: bool = False) -> Floats:
    """Write a point of John's ellipsoid as a convex combination of the points.

    Parameters
    ----------
    points : ndarray of float64 (n, r)
        What the ellipsoid encloses.
    ellipsoid : Ellipsoid
    target : ndarray of float64 (r,)
        A point of John's ellipsoid.
    centred : bool
        Whether the ellipsoid was made centred.

    Returns
    -------
    ndarray of float64 (n,)
        Convex: non-negative, of sum 1, and the combination is the target. Centred: signed, of absolute values that sum
        to at most 1. Zero beyond the ellipsoid's design.

    Raises
    ------
    ValueError
        If the target is not in John's ellipsoid.

    Examples
    --------
    >>> from onnxprune.coreset.ellipsoid import enclosing_ellipsoid
    >>> points = np.array([[-1.0], [3.0], [0.0]])
    >>> hull_weights(points, enclosing_ellipsoid(points), np.array([2.0])).round(9).tolist()
    [0.25, 0.75, 0.0]
    """
    centre, shape = inner_ellipsoid(ellipsoid, centred=centred)
    offset = target - centre
    if not offset @ shape @ offset <= 1.0 + 1e-9:
        raise ValueError("the target lies outside of the inner ellipsoid: it may lie outside of the hull too")
    support = np.flatnonzero(ellipsoid.weights)
    heights = (points[support] - centre) @ (ellipsoid.shape @ offset) * ellipsoid.spread
    found = np.zeros(len(points))
    if centred:
        found[support] = ellipsoid.weights[support] * heights
        return found
    found[support] = np.maximum(ellipsoid.weights[support] * (1.0 + heights), 0.0)
    shares: Floats = found / found.sum()
    return shares
