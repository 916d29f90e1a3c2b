"""Knows how much a term of Σ_p w_i(p) φ(pᵀx) can contribute at most, over all sums i and all x in a ball.

    s(p) = max_i |w_i(p)| · φ(β‖p‖₂),   pr(p) = s(p) / Σ_q s(q),   ‖x‖₂ ≤ β

For φ non-negative and non-decreasing, φ(β‖p‖) is the largest φ(pᵀx): these have the additive guarantee of the paper.
For other φ the table of activations has the largest |φ| on [−β‖p‖, β‖p‖] instead: s(p) still bounds the term and
sampling by pr is still unbiased, but the theorem does not cover it.

Where a sum reads a point s times, each time at another x, w_i(p) is a vector and |w_i(p)| its sum of absolute
values: |Σ_j w_ij(p) φ(pᵀx_j)| ≤ ‖w_i(p)‖₁ · max_j |φ(pᵀx_j)|.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.activations import Activation, activation_named
from onnxprune.coreset.norms import Reals, row_norms

__all__ = ["masses", "probabilities", "sensitivities"]


CHUNK = 1 << 20
"""Weights that are looked at together."""


def sensitivities(
    points: Reals, weights: Reals, activation: str | Activation, *, beta: float = 1.0
) -> NDArray[np.float64]:
    """Give s(p) = max_i |w_i(p)| · φ(β‖p‖₂), the most that p can contribute to any of the sums.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        The points p, one per row, with the bias as a coordinate of its own (x then has a 1 there).
    weights : ndarray of float32 or float64 (n, k) or (n, k, s)
        w_i(p) of the k sums; with a third axis, the s weights with which sum i reads p at s different x.
    activation : str or Activation
        φ, or its name in `ACTIVATIONS`.
    beta : float
        Radius of the ball of x. It cancels in the probabilities where φ is homogeneous (Relu, none).

    Returns
    -------
    ndarray of float64 (n,)
        Zero where every weight is zero, or where p and φ(0) are.

    Raises
    ------
    ValueError
        If the shapes do not match or `beta` is not positive.

    References
    ----------
    B. Mussay, M. Osadchy, V. Braverman, S. Zhou, D. Feldman, "Data-Independent Neural Pruning via Coresets",
    ICLR 2020, arXiv 1907.04018, Algorithm 1.

    Examples
    --------
    >>> points = np.array([[3.0, 4.0], [1.0, 0.0]])
    >>> weights = np.array([[1.0, -2.0], [0.5, 0.0]])
    >>> sensitivities(points, weights, "Relu").tolist()
    [10.0, 0.5]
    """
    sums = _checked(points, weights, beta)
    largest = np.zeros(len(sums))
    for part, magnitudes in _magnitudes(sums):
        largest[part] = magnitudes.max(axis=1, initial=0.0)
    return largest * _named(activation).bound(beta * row_norms(points))


def masses(
    points: Reals, weights: Reals, activation: str | Activation, shares: NDArray[np.float64], *, beta: float = 1.0
) -> NDArray[np.float64]:
    """Give Σ_p |a(p)| |w_i(p)| φ(β‖p‖₂) for every sum i: what a change of each w_i(p) by a(p) times it does at most.

    With a(p) = 1 where p is left out and 0 elsewhere this bounds the error of leaving out; it holds for every φ.

    Parameters
    ----------
    points, weights, activation, beta
        As in `sensitivities`.
    shares : ndarray of float64 (n,) or (n, c)
        a(p), one column for each of several changes.

    Returns
    -------
    ndarray of float64 (k,) or (c, k)

    Raises
    ------
    ValueError
        If the shapes do not match or `beta` is not positive.

    Examples
    --------
    >>> points, weights = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[1.0, -2.0], [0.5, 0.0]])
    >>> masses(points, weights, "Relu", np.array([0.0, 1.0])).tolist()
    [0.5, 0.0]
    """
    sums = _checked(points, weights, beta)
    most = np.abs(shares.T) * _named(activation).bound(beta * row_norms(points))
    total = np.zeros((*most.shape[:-1], sums.shape[1]))
    for part, magnitudes in _magnitudes(sums):
        total += most[..., part] @ magnitudes
    return total


def _named(activation: str | Activation) -> Activation:
    return activation_named(activation) if isinstance(activation, str) else activation


def _checked(points: Reals, weights: Reals, beta: float) -> Reals:
    """Return the weights (n, k), or (n, k, s) with s > 1, after checking that all fits together."""
    if weights.ndim not in (2, 3) or len(weights) != len(points):
        raise ValueError(f"{len(points)} points have weights of shape {weights.shape}: give (n, k) or (n, k, s)")
    if not beta > 0.0:
        raise ValueError(f"beta = {beta}: the radius of the ball of inputs is positive")
    return weights[:, :, 0] if weights.ndim == 3 and weights.shape[2] == 1 else weights


def _magnitudes(sums: Reals) -> Iterator[tuple[slice, Reals]]:
    """Yield Σ_s |w_is(p)| (points, k) of some points at a time: all would take as much memory as the weights."""
    count = max(1, CHUNK * len(sums) // max(1, sums.size))
    for start in range(0, len(sums), count):
        magnitudes = np.abs(sums[start : start + count])
        if magnitudes.ndim == 3:
            magnitudes = magnitudes.sum(axis=2, dtype=np.float64)
        yield slice(start, start + count), magnitudes


def probabilities(sensitivity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give pr(p) = s(p) / Σ_q s(q), at any scale of s; all alike where every s is zero.

    Parameters
    ----------
    sensitivity : ndarray of float64 (n,)
        Finite and non-negative.

    Returns
    -------
    ndarray of float64 (n,)
        Sums to 1.

    Raises
    ------
    ValueError
        If `sensitivity` is empty, negative or not finite.

    Examples
    --------
    >>> probabilities(np.array([3.0, 1.0, 0.0])).tolist(), probabilities(np.zeros(2)).tolist()
    ([0.75, 0.25, 0.0], [0.5, 0.5])
    """
    if sensitivity.size == 0 or not (np.isfinite(sensitivity).all() and sensitivity.min() >= 0.0):
        raise ValueError("sensitivities are a non-empty vector of finite, non-negative numbers")
    peak = sensitivity.max()
    scaled = sensitivity / peak if peak > 0.0 else np.ones_like(sensitivity)
    normalised: NDArray[np.float64] = scaled / scaled.sum()
    return normalised
