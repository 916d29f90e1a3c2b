"""Knows the sample of the theorem of Mussay et al. as it is stated: positive and negative weights are sampled apart.

    w = w⁺ − w⁻,   s±(p) = max_i w_i±(p) · φ(β‖p‖₂),   pr± = s± / t±,   t± = Σ s±
    m draws from pr⁺ and m from pr⁻;   w̃_i(p) = w_i⁺(p) · count⁺(p) / (m pr⁺(p)) − w_i⁻(p) · count⁻(p) / (m pr⁻(p))

For φ ≥ 0 each half is a sum of terms of one sign, kept to ε but with probability δ; together they err by 2ε at most,
but with probability 2δ (`bounds.Sums` with signs "split" takes both into account). A point that is kept has two factors
then, one for either sign. A channel of a network has one for all that reads it, so that `methods.mussay` samples by
|w|, unbiased likewise; this form is for sums of one's own. Several readings of a point by one sum (`sensitivity`) may
differ in sign, and have no split.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.activations import Activation
from onnxprune.coreset.norms import Reals
from onnxprune.coreset.sampling import draw, importance_factors
from onnxprune.coreset.sensitivity import probabilities, sensitivities

__all__ = ["SplitSample", "split_sample"]


@dataclass(frozen=True)
class SplitSample:
    """New weights of all points, most of them zero.

    Attributes
    ----------
    weights : ndarray of float64 (n, k)
        w̃; of the sign of w, or zero.
    factors : ndarray of float64 (2, n)
        count / (m pr) of the positive and of the negative weights.
    totals : tuple of float
        t⁺ and t⁻; zero where there is no such weight. The larger is `bounds.Sums.total`.
    draws : int
        m, of each sign.
    """

    weights: NDArray[np.float64]
    factors: NDArray[np.float64]
    totals: tuple[float, float]
    draws: int


def split_sample(
    points: Reals,
    weights: Reals,
    activation: str | Activation,
    *,
    draws: int,
    rng: np.random.Generator,
    beta: float = 1.0,
) -> SplitSample:
    """Sample the positive and the negative weights apart.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        The points p, with the bias as a coordinate of its own.
    weights : ndarray of float32 or float64 (n, k)
        w_i(p) of the k sums.
    activation : str or Activation
        φ, or its name in `ACTIVATIONS`.
    draws : int
        m, of each sign; `bounds.draws_needed` gives it from ε and δ.
    rng : numpy.random.Generator
    beta : float
        Radius of the ball of x.

    Returns
    -------
    SplitSample

    Raises
    ------
    ValueError
        If `weights` is no matrix of one row per point, or `draws` or `beta` is not positive.

    References
    ----------
    B. Mussay, M. Osadchy, V. Braverman, S. Zhou, D. Feldman, "Data-Independent Neural Pruning via Coresets",
    ICLR 2020, arXiv 1907.04018, Theorem 7 and the corollary for weights of both signs.

    Examples
    --------
    >>> points, weights = np.eye(3), np.array([[2.0], [-1.0], [0.0]])
    >>> split_sample(points, weights, "Relu", draws=5, rng=np.random.default_rng(0)).weights.tolist()
    [[2.0], [-1.0], [0.0]]
    """
    if weights.ndim != 2:
        raise ValueError(f"weights have shape {weights.shape}: give one row per point and one column per sum")
    signed = weights.astype(np.float64)
    halves = np.maximum(signed, 0.0), np.maximum(-signed, 0.0)
    factors, totals = np.zeros((2, len(points))), []
    for number, half in enumerate(halves):
        sensitivity = sensitivities(points, half, activation, beta=beta)
        totals.append(float(sensitivity.sum()))
        if sensitivity.any():
            pr = probabilities(sensitivity)
            factors[number] = importance_factors(draw(pr, draws, rng), pr, draws)
    found = halves[0] * factors[0][:, None] - halves[1] * factors[1][:, None]
    return SplitSample(found + 0.0, factors, (totals[0], totals[1]), draws)
