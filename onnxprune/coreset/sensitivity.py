"""Knows how much a term of Σ_p w_i(p) φ(pᵀx) can contribute at most, over all sums i and all x in a ball.

    s(p) = max_i |w_i(p)| · φ(β‖p‖₂),   pr(p) = s(p) / Σ_q s(q),   ‖x‖₂ ≤ β

For φ non-negative and non-decreasing, φ(β‖p‖) is the largest φ(pᵀx): these have the additive guarantee of the paper.
For other φ the table below has the largest |φ| on [−β‖p‖, β‖p‖] instead: s(p) still bounds the term and
sampling by pr is still unbiased, but the theorem does not cover it.

Where a sum reads a point s times, each time at another x, w_i(p) is a vector and |w_i(p)| its sum of absolute
values: |Σ_j w_ij(p) φ(pᵀx_j)| ≤ ‖w_i(p)‖₁ · max_j |φ(pᵀx_j)|.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from onnxprune.coreset.norms import Reals, row_norms

__all__ = ["ACTIVATIONS", "Activation", "activation_named", "probabilities", "sensitivities"]


@dataclass(frozen=True)
class Activation:
    """What the sampling needs to know of a function φ.

    Attributes
    ----------
    bound : callable
        Maps z ≥ 0 (any shape, float64) to the largest |φ(u)| with |u| ≤ z.
    guaranteed : bool
        Whether φ is non-negative and non-decreasing, so that the theorem holds.
    """

    bound: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    guaranteed: bool


CHUNK = 1 << 20
"""Weights that are looked at together."""

# |φ(u)| ≤ |u|, with equality for u ≥ 0.
LINEAR = Activation(lambda z: z, guaranteed=False)

# Constants of Selu as the operator defines them (Klambauer et al. 2017, section 2).
SELU_GAMMA, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

# exp of it is the root of the largest float64: its product with a weight stays finite.
LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max)) / 2.0

# Parameters are the customary ones (Clip: 0 to 6; Elu, Celu: α = 1; LeakyRelu, PRelu: slope at most 1).
ACTIVATIONS: Mapping[str, Activation] = {
    "Relu": Activation(lambda z: z, guaranteed=True),
    "Clip": Activation(lambda z: np.minimum(z, 6.0), guaranteed=True),
    "Sigmoid": Activation(lambda z: expit(z), guaranteed=True),
    "HardSigmoid": Activation(lambda z: np.minimum(0.2 * z + 0.5, 1.0), guaranteed=True),
    "Softplus": Activation(lambda z: np.logaddexp(0.0, z), guaranteed=True),
    "Exp": Activation(lambda z: np.exp(np.minimum(z, LARGEST_EXPONENT)), guaranteed=True),
    "": LINEAR,
    "Identity": LINEAR,
    "Abs": LINEAR,
    "LeakyRelu": LINEAR,
    "PRelu": LINEAR,
    "Elu": LINEAR,
    "Celu": LINEAR,
    "Selu": Activation(lambda z: SELU_GAMMA * np.maximum(z, -SELU_ALPHA * np.expm1(-z)), guaranteed=False),
    "Gelu": Activation(lambda z: z * ndtr(z), guaranteed=False),
    "Swish": Activation(lambda z: z * expit(z), guaranteed=False),
    "HardSwish": Activation(lambda z: z * np.minimum(z / 6.0 + 0.5, 1.0), guaranteed=False),
    "Mish": Activation(lambda z: z * np.tanh(np.logaddexp(0.0, z)), guaranteed=False),
    "Tanh": Activation(lambda z: np.tanh(z), guaranteed=False),
    "Erf": Activation(lambda z: erf(z), guaranteed=False),
    "Softsign": Activation(lambda z: z / (1.0 + z), guaranteed=False),
}


def activation_named(name: str) -> Activation:
    """Look an activation up; a name that is not in the table is taken to grow linearly, without guarantee.

    Parameters
    ----------
    name : str
        Key of `ACTIVATIONS`, "" where there is no activation.

    Returns
    -------
    Activation

    Examples
    --------
    >>> activation_named("Relu").guaranteed, activation_named("Tanh").guaranteed, activation_named("?").guaranteed
    (True, False, False)
    """
    return ACTIVATIONS.get(name, LINEAR)


def sensitivities(points: Reals, weights: Reals, activation: str, *, beta: float = 1.0) -> NDArray[np.float64]:
    """Give s(p) = max_i |w_i(p)| · φ(β‖p‖₂), the most that p can contribute to any of the sums.

    Parameters
    ----------
    points : ndarray of float32 or float64 (n, d)
        The points p, one per row, with the bias as a coordinate of its own (x then has a 1 there).
    weights : ndarray of float32 or float64 (n, k) or (n, k, s)
        w_i(p) of the k sums; with a third axis, the s weights with which sum i reads p at s different x.
    activation : str
        Name of φ in `ACTIVATIONS`.
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
    if weights.ndim not in (2, 3) or len(weights) != len(points):
        raise ValueError(f"{len(points)} points have weights of shape {weights.shape}: give (n, k) or (n, k, s)")
    if not beta > 0.0:
        raise ValueError(f"beta = {beta}: the radius of the ball of inputs is positive")
    sums = weights[:, :, 0] if weights.ndim == 3 and weights.shape[2] == 1 else weights
    largest = np.zeros(len(sums))
    # Some points at a time, since all magnitudes would take as much memory as the weights.
    count = max(1, CHUNK * len(sums) // max(1, sums.size))
    for start in range(0, len(sums), count):
        magnitudes = np.abs(sums[start : start + count])
        if magnitudes.ndim == 3:
            magnitudes = magnitudes.sum(axis=2, dtype=np.float64)
        largest[start : start + count] = magnitudes.max(axis=1, initial=0.0)
    return largest * activation_named(activation).bound(beta * row_norms(points))


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
