"""Knows the weights with which a few inputs stand best for all, in the mean of squares, from moments alone.

    W̃ = argmin ‖A W − A_S W̃‖² + ρ ‖W̃‖²  =  (G_SS + ρ I)⁻¹ T_S
    G = AᵀA,   T = AᵀA W,   ρ = ridge · mean diagonal of G_SS

A (N, n) is what enters a reader and W (n, k) its weights; neither is needed. In the asymmetric form A_S is taken from
a network that is pruned already, G from it, and T = BᵀA W from both.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

__all__ = ["refit"]

Floats = NDArray[np.float64]


def refit(gram: Floats, cross: Floats, kept: NDArray[np.int64], *, ridge: float = 1e-3) -> Floats:
    """Solve for the weights of the inputs that are kept.

    Parameters
    ----------
    gram : ndarray of float64 (n, n)
        G = AᵀA, symmetric; sums or means over samples alike.
    cross : ndarray of float64 (n, k)
        T = AᵀA W, or BᵀA W, in the same units.
    kept : ndarray of int64 (m,)
        Distinct indices of inputs, in the order of the result's rows.
    ridge : float
        ρ over the mean of the kept inputs' diagonal of G; 0 for none.

    Returns
    -------
    ndarray of float64 (m, k)

    Raises
    ------
    ValueError
        If shapes do not match, something is not finite, an index is twice or none there, `ridge` is negative, or the
        kept inputs are linearly dependent and the ridge does not help.

    References
    ----------
    A. E. Hoerl, R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12,
    1970.

    Examples
    --------
    >>> inputs = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0], [2.0, 4.0, 5.0]])
    >>> gram = inputs.T @ inputs
    >>> refit(gram, gram @ np.ones((3, 1)), np.array([0, 2]), ridge=0.0).round(12).tolist()
    [[3.0], [1.0]]
    """
    count = len(gram)
    if gram.shape != (count, count) or cross.ndim != 2 or len(cross) != count:
        raise ValueError(f"moments have shapes {gram.shape} and {cross.shape}: give (n, n) and (n, k)")
    if kept.ndim != 1 or np.unique(kept).size < kept.size or np.any((kept < 0) | (kept >= count)):
        raise ValueError(f"kept inputs are distinct indices from 0 to {count - 1}")
    if not ridge >= 0.0:
        raise ValueError(f"ridge = {ridge}: give a share of the mean diagonal, from 0 on")
    square, target = gram[np.ix_(kept, kept)], cross[kept]
    if not (np.isfinite(square).all() and np.isfinite(target).all()):
        raise ValueError("the moments are not finite: leave out samples with NaN or infinity")
    mean = float(np.mean(np.diagonal(square))) if kept.size else 0.0
    if not mean > 0.0:
        if np.any(target):
            raise ValueError("the kept inputs are zero in every sample, yet have products with the output")
        return np.zeros(target.shape)
    # One scale for both sides, so that neither the squares of tiny inputs vanish nor those of huge ones overflow.
    system = square / mean + ridge * np.eye(kept.size)
    try:
        factor = cho_factor(system, lower=True)
    except LinAlgError as error:
        raise ValueError(_dependent(kept, ridge)) from error
    least, most = float(np.min(np.diagonal(factor[0]))), float(np.max(np.diagonal(factor[0])))
    if least**2 <= kept.size * np.finfo(np.float64).eps * most**2:
        raise ValueError(_dependent(kept, ridge))
    return np.asarray(cho_solve(factor, target / mean))


def _dependent(kept: NDArray[np.int64], ridge: float) -> str:
    return (
        f"the {kept.size} kept inputs are linearly dependent on these samples, and a ridge of {ridge:g} is not enough: "
        "give a larger one (1e-3 is customary), or more samples"
    )
