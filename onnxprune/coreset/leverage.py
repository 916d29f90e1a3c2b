"""Knows how much a point can matter to Σ_p |pᵀx|^2 or Σ_p |pᵀx|: leverage scores and ℓ1 Lewis weights.

    ℓ(p) = pᵀ (AᵀA)⁺ p = max_x (pᵀx)² / ‖Ax‖₂²,               Σ ℓ = r, the rank
    w(p) = ( pᵀ (Aᵀ W⁻¹ A)⁺ p )^(1/2),   W = diag(w),          Σ w = r

Lewis weights are the leverage scores of W^(−1/2) A, so that they are a fixed point; the iteration from any positive w
halves the error in log w each time. They are what rows are drawn by where sums of absolute values are to be kept, as
leverage scores are for sums of squares; the bounds hold in every direction, also where peeling cannot run.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from onnxprune.coreset.norms import Reals
from onnxprune.coreset.span import linear_span

__all__ = ["leverage_scores", "lewis_weights"]

# The logarithms' error halves: 50 rounds take any start to the accuracy of float64.
_ROUNDS = 100


def leverage_scores(points: Reals) -> NDArray[np.float64]:
    """Give the leverage of every row.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        Of any rank and scale.

    Returns
    -------
    ndarray of float64 (n,)
        In [0, 1], summing to the rank; zero for a zero row.

    Raises
    ------
    ValueError
        If `points` is no matrix, is empty or not finite.

    References
    ----------
    P. Drineas, M. W. Mahoney, "RandNLA: randomized numerical linear algebra", CACM 59(6), 2016.

    Examples
    --------
    >>> leverage_scores(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 9.0]])).round(12).tolist()
    [0.5, 0.5, 1.0]
    """
    white = linear_span(points).coordinates
    scores: NDArray[np.float64] = np.einsum("ij,ij->i", white, white) / len(white)
    return scores


def lewis_weights(points: Reals, *, accuracy: float = 1e-10) -> NDArray[np.float64]:
    """Give the ℓ1 Lewis weight of every row.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        Of any rank and scale.
    accuracy : float
        Largest relative change at which the iteration stops.

    Returns
    -------
    ndarray of float64 (n,)
        In [0, 1], summing to the rank; zero for a zero row.

    Raises
    ------
    ValueError
        If `points` is no matrix, is empty or not finite, or `accuracy` is below what float64 can tell.

    References
    ----------
    M. B. Cohen, R. Peng, "ℓp Row Sampling by Lewis Weights", STOC 2015, arXiv 1412.0588, section 3.

    Examples
    --------
    >>> lewis_weights(np.array([[1.0], [3.0], [0.0]])).round(9).tolist()
    [0.25, 0.75, 0.0]
    """
    if not accuracy >= 1e-13:
        raise ValueError(f"accuracy = {accuracy}: give at least 1e-13")
    white = linear_span(points).coordinates
    weights = np.zeros(len(white))
    living = np.flatnonzero(white.any(axis=1))
    rows, now = white[living], np.ones(living.size)
    for _ in range(_ROUNDS if living.size else 0):
        # w = (w · leverage of W^(−1/2) A)^(1/2); the orthogonal factor keeps digits that AᵀW⁻¹A would lose.
        orthogonal = qr(rows / np.sqrt(now)[:, None], mode="economic")[0]
        after = np.sqrt(now * np.einsum("ij,ij->i", orthogonal, orthogonal))
        change = float(np.abs(after / now - 1.0).max())
        now = after
        if change <= accuracy:
            break
    weights[living] = now
    return weights
