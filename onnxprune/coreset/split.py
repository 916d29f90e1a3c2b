"""Knows the sample of the theorem of Mussay et al. as it is stated: positive and negative weights are sampled apart.

    w = w⁺ − w⁻,   s±(p) = max_i w_i±(p) · φ(β‖p‖₂),   pr± = s± / t±,   t± = Σ s±
    m draws from pr⁺ and m from pr⁻;   w̃_i(p) = w_i⁺(p) · count⁺(p) / (m pr⁺(p)) − w_i⁻(p) · count⁻(p) / (m pr⁻(p))

For φ ≥ 0 each half is a sum of terms of one sign, kept to ε but with probability δ; together they err by 2ε at most,
but with probability 2δ (`bounds.Sums` with signs "split" takes both into account). A point that is kept has two factors
then, one for either sign, of which one may be zero. Where a sum reads a point several times (`sensitivity`), each of
the weights is in the half of its own sign. `methods.signs` thins networks so.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.activations import Activation
from onnxprune.coreset.norms import Reals
from onnxprune.coreset.sampling import draw, importance_factors
from onnxprune.coreset.sensitivity import probabilities, sensitivities

__all__ = ["SplitSample", "halves", "split_factors", "split_sample"]


@dataclass(frozen=True)
class SplitSample:
    """New weights of all points, most of them zero.

    Attributes
    ----------
    weights : ndarray of float64 (n, k) or (n, k, s)
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


def halves(weights: Reals) -> tuple[Reals, Reals]:
    """Give w⁺ and w⁻, both of them non-negative.

    Examples
    --------
    >>> [half.tolist() for half in halves(np.array([2.0, -1.0]))]
    [[2.0, 0.0], [0.0, 1.0]]
    """
    return np.maximum(weights, 0.0), np.maximum(-weights, 0.0)


def split_factors(probabilities: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw from pr⁺ and from pr⁻ as often, and give the factors count / (m pr).

    Parameters
    ----------
    probabilities : ndarray of float64 (2, n)
        Each sums to 1, or is zero: nothing is drawn from it then.
    draws : int
        m, of each sign.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64 (2, n)
        Zero for what was not drawn.

    Examples
    --------
    >>> split_factors(np.array([[1.0, 0.0], [0.0, 0.0]]), 5, np.random.default_rng(0)).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    factors = np.zeros(probabilities.shape)
    for number, pr in enumerate(probabilities):
        if pr.any():
            factors[number] = importance_factors(draw(pr, draws, rng), pr, draws)
    return factors


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
    weights : ndarray of float32 or float64 (n, k) or (n, k, s)
        w_i(p) of the k sums, as in `sensitivities`.
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
        If the shapes do not match, or `draws` or `beta` is not positive.

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
    parts = halves(weights.astype(np.float64))
    both = [sensitivities(points, part, activation, beta=beta) for part in parts]
    pr = np.stack([probabilities(each) if each.any() else each for each in both])
    factors = split_factors(pr, draws, rng)
    positive, negative = factors.reshape(2, -1, *[1] * (weights.ndim - 1))
    totals = float(both[0].sum()), float(both[1].sum())
    return SplitSample(parts[0] * positive - parts[1] * negative + 0.0, factors, totals, draws)
