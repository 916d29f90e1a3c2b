"""Knows activation functions φ as sampling sees them: the largest |φ| on an interval, and whether a theorem holds.

    bound(z) = max_{|u| ≤ z} |φ(u)|

φ non-negative and non-decreasing has the additive guarantee of the paper: then bound(z) = φ(z). Some have parameters,
on which both can depend: Clip from −1 to 1 is negative somewhere, Clip from 0 to 6 is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

__all__ = ["ACTIVATIONS", "LINEAR", "PARAMETERS", "Activation", "activation_named"]

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Activation:
    """What the sampling needs to know of a function φ.

    Attributes
    ----------
    bound : callable
        Maps z ≥ 0 (any shape, float64) to the largest |φ(u)| with |u| ≤ z.
    guaranteed : bool
        Whether φ is non-negative and non-decreasing, so that the theorem holds.
    homogeneous : bool
        Whether bound(c z) = c bound(z), so that a common scale of all z cancels in probabilities.
    lipschitz : float
        Smallest known L with |φ(u) − φ(v)| ≤ L |u − v|; infinite where there is none.
    """

    bound: Function
    guaranteed: bool
    homogeneous: bool = False
    lipschitz: float = np.inf


# |φ(u)| ≤ |u|, with equality for u ≥ 0.
LINEAR = Activation(lambda z: z, guaranteed=False, homogeneous=True, lipschitz=1.0)

# Constants of Selu as the operator defines them (Klambauer et al. 2017, section 2).
SELU_GAMMA, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

# exp of it is the root of the largest float64: its product with a weight stays finite.
LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max)) / 2.0


def _clip(low: float, high: float) -> Activation:
    """φ(u) = min(max(u, low), high)."""

    def bound(z: Floats) -> Floats:
        largest: Floats = np.maximum(np.abs(np.clip(z, low, high)), np.abs(np.clip(-z, low, high)))
        return largest

    return Activation(bound, guaranteed=low >= 0.0, lipschitz=1.0)


def _hard_sigmoid(alpha: float, beta: float) -> Activation:
    """φ(u) = min(max(α u + β, 0), 1)."""
    slope = abs(alpha)
    return Activation(lambda z: np.clip(slope * z + beta, 0.0, 1.0), guaranteed=alpha >= 0.0, lipschitz=slope)


def _leaky(slope: float) -> Activation:
    """φ(u) = u for u ≥ 0, else slope · u."""
    largest = max(1.0, abs(slope))
    guaranteed = slope == 0.0
    return Activation(lambda z: largest * z, guaranteed=guaranteed, homogeneous=True, lipschitz=largest)


def _elu(alpha: float) -> Activation:
    """φ(u) = u for u ≥ 0, else α (exp(u) − 1)."""
    bound: Function = lambda z: np.maximum(z, -abs(alpha) * np.expm1(-z))  # noqa: E731
    return Activation(bound, guaranteed=alpha == 0.0, homogeneous=abs(alpha) <= 1.0, lipschitz=max(1.0, abs(alpha)))


def _celu(alpha: float) -> Activation:
    """φ(u) = max(u, 0) + min(α (exp(u/α) − 1), 0); between 0 and u for u < 0 where α > 0."""
    if alpha > 0.0:
        return LINEAR
    bound: Function = lambda z: np.maximum(z, np.expm1(np.minimum(-z / alpha, LARGEST_EXPONENT)) * -alpha)  # noqa: E731
    return Activation(bound, guaranteed=False)


def _selu(alpha: float, gamma: float) -> Activation:
    """φ(u) = γ u for u ≥ 0, else γ α (exp(u) − 1)."""
    scale, steep = abs(gamma), abs(alpha)
    return Activation(
        lambda z: scale * np.maximum(z, -steep * np.expm1(-z)), guaranteed=False, lipschitz=scale * max(1.0, steep)
    )


def _thresholded(alpha: float) -> Activation:
    """φ(u) = u for u > α, else 0."""
    if alpha < 0.0:
        return Activation(lambda z: z, guaranteed=False, homogeneous=True)
    return Activation(lambda z: np.where(z > alpha, z, 0.0), guaranteed=True)


def _swish(alpha: float) -> Activation:
    """φ(u) = u / (1 + exp(−α u)), of slope at most 1.1 whatever α."""
    return Activation(lambda z: z * expit(abs(alpha) * z), guaranteed=False, lipschitz=1.1)


# With the customary parameters: those of the operator where they are not said (Clip: 0 to 6; PRelu: slope at most 1).
ACTIVATIONS: Mapping[str, Activation] = {
    "Relu": Activation(lambda z: z, guaranteed=True, homogeneous=True, lipschitz=1.0),
    "Clip": _clip(0.0, 6.0),
    "Sigmoid": Activation(lambda z: expit(z), guaranteed=True, lipschitz=0.25),
    "HardSigmoid": _hard_sigmoid(0.2, 0.5),
    "Softplus": Activation(lambda z: np.logaddexp(0.0, z), guaranteed=True, lipschitz=1.0),
    "Exp": Activation(lambda z: np.exp(np.minimum(z, LARGEST_EXPONENT)), guaranteed=True),
    "ThresholdedRelu": _thresholded(1.0),
    "": LINEAR,
    "Identity": LINEAR,
    "Abs": LINEAR,
    "LeakyRelu": _leaky(0.01),
    "PRelu": _leaky(-1.0),
    "Elu": _elu(1.0),
    "Celu": LINEAR,
    "Selu": _selu(SELU_ALPHA, SELU_GAMMA),
    "Gelu": Activation(lambda z: z * ndtr(z), guaranteed=False, lipschitz=1.13),
    "Swish": _swish(1.0),
    "HardSwish": Activation(lambda z: z * np.minimum(z / 6.0 + 0.5, 1.0), guaranteed=False, lipschitz=1.5),
    "Mish": Activation(lambda z: z * np.tanh(np.logaddexp(0.0, z)), guaranteed=False, lipschitz=1.1),
    "Tanh": Activation(lambda z: np.tanh(z), guaranteed=False, lipschitz=1.0),
    "Erf": Activation(lambda z: erf(z), guaranteed=False, lipschitz=2.0 / np.sqrt(np.pi)),
    "Softsign": Activation(lambda z: z / (1.0 + z), guaranteed=False, lipschitz=1.0),
}

_MADE: Mapping[str, Callable[..., Activation]] = {
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "PRelu": _leaky,
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "ThresholdedRelu": _thresholded,
    "Swish": _swish,
}

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "PRelu": ("slope",),
    "Elu": ("alpha",),
    "Celu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "ThresholdedRelu": ("alpha",),
    "Swish": ("alpha",),
}
"""Names of the parameters of those that have any, in the order that `activation_named` takes them."""


def activation_named(name: str, parameters: tuple[float, ...] = ()) -> Activation:
    """Look an activation up; a name that is not in the table is taken to grow linearly, without guarantee.

    Parameters
    ----------
    name : str
        Key of `ACTIVATIONS`, "" where there is no activation.
    parameters : tuple of float
        Its parameters as `PARAMETERS` names them; of several slopes of a PRelu, the one of largest magnitude. Empty
        for the customary ones.

    Returns
    -------
    Activation

    Examples
    --------
    >>> activation_named("Relu").guaranteed, activation_named("Tanh").guaranteed, activation_named("?").guaranteed
    (True, False, False)
    >>> activation_named("Clip", (0.0, 1.0)).guaranteed, activation_named("Clip", (-1.0, 1.0)).guaranteed
    (True, False)
    """
    if parameters and name in _MADE:
        return _MADE[name](*parameters)
    return ACTIVATIONS.get(name, LINEAR)
