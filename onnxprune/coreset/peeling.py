"""Knows how much a point can matter to Σ_p |pᵀx|, by taking L∞ coresets away one after the other.

    Q = P, i = 1
    while |Q| ≥ 2 r²:   S_i = L∞ coreset of Q;   s(p) = 2 r^1.5 / i for p in S_i;   Q ← Q \\ S_i;   i ← i + 1
    s(p) = 2 r^1.5 / i for what is left

s(p) bounds the share |pᵀx| / Σ_q |qᵀx| for every x: a point of the i-th layer is, up to the factor, no larger than some
point of each layer before it. Points that are zero matter nothing: they are laid aside, with s = 0.

The loop can only run where n ≥ 2 r². Where it cannot, every bound is the same, and sampling by it would be uniform
sampling: the result says so.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.linf import linf_coreset
from onnxprune.coreset.norms import Reals
from onnxprune.coreset.span import affine_span, checked_points

__all__ = ["Peeled", "Peeling", "peel"]


class Peeled(Enum):
    """How far peeling came."""

    LAYERS = "at least one layer was peeled off: the bounds tell points apart"
    NONE = "there are fewer than 2 r² points that are not zero: no layer could be peeled off, and all bounds are equal"


@dataclass(frozen=True)
class Peeling:
    """The layers of a set of points.

    Attributes
    ----------
    layers : ndarray of int64 (n,)
        The round i in which a point was taken, from 1; one more for what was left, two more for zeros.
    sensitivities : ndarray of float64 (n,)
        2 r^1.5 / i, zero for zeros; no share is above 1, but the bound may be.
    rank : int
        r, at least 1.
    rounds : int
        Number of layers that were peeled off.
    status : Peeled
    """

    layers: NDArray[np.int64]
    sensitivities: NDArray[np.float64]
    rank: int
    rounds: int
    status: Peeled

    @property
    def total(self) -> float:
        """Sum t of the sensitivities."""
        return float(self.sensitivities.sum())


def peel(points: Reals) -> Peeling:
    """Bound the sensitivity of every point by peeling off L∞ coresets.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        Of rank r ≲ √(n / 2) / 2 for the bounds to mean something: reduce the rank first (`reduction`).

    Returns
    -------
    Peeling

    Raises
    ------
    ValueError
        If `points` is no matrix, is empty or not finite.

    References
    ----------
    M. Tukan, L. Mualem, A. Maalouf, arXiv 2209.08554, algorithm 2; K. Varadarajan, X. Xiao, "On the sensitivity of
    shape fitting problems", FSTTCS 2012, lemma 3.1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = peel(rng.standard_normal((200, 2)))
    >>> found.rank, found.rounds > 10, int(found.layers[np.argmax(found.sensitivities)])
    (2, True, 1)
    >>> peel(rng.standard_normal((300, 300))).status.name
    'NONE'
    """
    rows = checked_points(points)
    left = np.flatnonzero(rows.any(axis=1))
    rank = max(affine_span(rows[left]).rank, 1) if left.size else 1
    layers = np.zeros(len(rows), dtype=np.int64)
    layer = 1
    while left.size >= 2 * rank**2:
        found = linf_coreset(rows[left])
        layers[left[found.indices]] = layer
        left = np.delete(left, found.indices)
        layer += 1
    layers[left] = layer
    zeros = layers == 0
    sensitivities = np.where(zeros, 0.0, 2.0 * rank**1.5 / np.maximum(layers, 1))
    layers[zeros] = layer + 1
    return Peeling(layers, sensitivities, rank, layer - 1, Peeled.LAYERS if layer > 1 else Peeled.NONE)
