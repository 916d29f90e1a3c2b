"""Knows how many draws an importance sample needs for an additive error, and which error a number of draws promises.

    f_i(x) = Σ_p w_i(p) φ(pᵀx),  i = 1 … k;   |w_i(p) φ(pᵀx)| ≤ s(p) for ‖x‖₂ ≤ β;   t = Σ_p s(p),  pr = s / t
    f̃_i(x) = (1/m) Σ_draws X,   X = w_i(p) φ(pᵀx) / pr(p)

The draws of X are independent, with mean f_i(x) and |X| ≤ t. Let A bound Σ_p |w_i(p) φ(pᵀx)| for every i and x, so
A ≤ t and Var X ≤ E X² = Σ (w φ)² t / s ≤ t A. For one x and one i, P(|f̃ − f| ≥ ε) ≤ 2 exp(−m r(ε)), where r may be

    Hoeffding   ε² / (2t²)                       w_i φ of both signs: X spans 2t
                2ε² / t²                         w_i φ ≥ 0 for all p: X spans t
    Bernstein   ε² / (2tA + ⅔(t + A) ε)          both signs: |X − f| ≤ t + A
                ε² / (2tA + ⅔ t ε)               one sign: |X − f| ≤ t

whichever is larger: both bound the same event. All k outputs together: k times that (union bound).

*All x of the ball at once.* Let φ be L-Lipschitz. f_i is L Σ_p |w_i(p)| ‖p‖-Lipschitz, f̃_i is L t ρ-Lipschitz where
ρ = max_p max_i |w_i(p)| ‖p‖ / s(p), since pr = s/t; so f − f̃ is Λ-Lipschitz with Λ = 2 L t ρ (Relu: s(p) = max |w|
β‖p‖, ρ = 1/β, Λ = 2t/β). A maximal set of points of the ball at mutual distance above η has at most (1 + 2β/η)^d of
them (their balls of radius η/2 are disjoint and lie in one of radius β + η/2) and every x within η of one. With
η = ε/(2Λ), an error of ε/2 on that net is one of ε everywhere:

    P(max_i sup_{‖x‖≤β} |f̃_i − f_i| ≥ ε) ≤ 2k (1 + 4βΛ/ε)^d exp(−m r(ε/2)),   βΛ = 2t for Relu

*Signs split*, as the theorem of Mussay et al. has it: the positive and the negative weights are sampled apart, m draws
each, w_i φ ≥ 0 in both, errors ε each and 2ε together. For an error of ε in all, each may err by ε/2: failure
2 · 2k exp(−m r₁(ε/2)), with Hoeffding's r₁(ε/2) = ε²/(2t²), t the larger of the two totals. Together the two take
twice the draws of |w| where t₊ ≈ t₋ ≈ t (many outputs), and half of them where t₊ ≈ t₋ ≈ t/2 (one output).

What a bound is worth is seen beside A: an error of A is made by leaving out every point.
"""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Sums", "draws_needed", "failure_probability", "guaranteed_error"]

# Halvings of the bracket of an error: as many as float64 has digits, with room.
_HALVINGS = 80


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What a bound depends on: the sums that are to be kept, and on which x.

    Attributes
    ----------
    total : float
        t = Σ s(p), positive; with signs split, the larger of the two.
    mass : float or None
        A ≥ Σ_p |w_i(p) φ(pᵀx)| for every i and x; None, or more than t, is t.
    outputs : int
        Number k of sums.
    signs : {"mixed", "one", "split"}
        Whether terms of a sum have both signs, one, or are sampled apart by sign.
    dimension : int or None
        d, the length of x, for all x of the ball at once; None for one x that does not depend on the draws.
    roughness : float
        βΛ / t, what β times the Lipschitz constant of f − f̃ is of t; 2 for Relu.
    """

    total: float
    mass: float | None = None
    outputs: int = 1
    signs: Literal["mixed", "one", "split"] = "mixed"
    dimension: int | None = None
    roughness: float = 2.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        ValueError
        """
        if not (math.isfinite(self.total) and self.total > 0.0):
            raise ValueError(f"total = {self.total}: the sum of sensitivities is positive and finite")
        if self.mass is not None and not self.mass >= 0.0:
            raise ValueError(f"mass = {self.mass}: a sum of magnitudes is not negative")
        if self.outputs < 1:
            raise ValueError(f"outputs = {self.outputs}: bound at least one sum")
        if self.signs not in ("mixed", "one", "split"):
            raise ValueError(f"signs = {self.signs!r}: choose from mixed, one, split")
        if self.dimension is not None and self.dimension < 1:
            raise ValueError(f"dimension = {self.dimension}: x has at least one coordinate; None is for one x")
        if not self.roughness >= 0.0:
            raise ValueError(f"roughness = {self.roughness}: a Lipschitz constant is not negative")


def _log_events(sums: Sums, share: float) -> float:
    """Return the log of how many events must not happen, for an error of `share` times t."""
    parts = 2 if sums.signs == "split" else 1
    net = 0.0 if sums.dimension is None else sums.dimension * math.log1p(4.0 * sums.roughness / share)
    return math.log(2.0 * sums.outputs * parts) + net


def _rate(sums: Sums, share: float) -> float:
    """Return r, for an error of `share` times t: each of the events has probability exp(−m r) at most."""
    each = share / (1.0 if sums.dimension is None else 2.0) / (2.0 if sums.signs == "split" else 1.0)
    mass = 1.0 if sums.mass is None else min(sums.mass / sums.total, 1.0)
    mixed = sums.signs == "mixed"
    hoeffding = each**2 / 2.0 if mixed else 2.0 * each**2
    bernstein = each**2 / (2.0 * mass + 2.0 / 3.0 * (1.0 + mass if mixed else 1.0) * each)
    return max(hoeffding, bernstein)


def failure_probability(sums: Sums, *, draws: int, epsilon: float) -> float:
    """Bound the probability that any of the sums is off by ε or more.

    Parameters
    ----------
    sums : Sums
    draws : int
        m, fixed in advance; for each sign, where they are split.
    epsilon : float
        Positive, in the units of t.

    Returns
    -------
    float
        At most 1.

    Raises
    ------
    ValueError
        If `draws` or `epsilon` is not positive.

    References
    ----------
    W. Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58, 1963, Theorem 2;
    S. Boucheron, G. Lugosi, P. Massart, "Concentration Inequalities", 2013, Corollary 2.11 (Bernstein);
    R. Vershynin, "High-Dimensional Probability", 2018, Corollary 4.2.13 (nets of balls).

    Examples
    --------
    >>> round(failure_probability(Sums(total=1.0), draws=1000, epsilon=0.1), 4)
    0.0135
    """
    _check_positive(draws=draws, epsilon=epsilon)
    share = epsilon / sums.total
    return min(1.0, math.exp(min(0.0, _log_events(sums, share) - draws * _rate(sums, share))))


def draws_needed(sums: Sums, *, epsilon: float, delta: float) -> int:
    """Give the number of draws with which no sum is off by ε or more, but with probability δ.

    Parameters
    ----------
    sums : Sums
    epsilon : float
        Positive, in the units of t.
    delta : float
        Between 0 and 1, both excluded.

    Returns
    -------
    int
        m; for each sign, where they are split.

    Raises
    ------
    ValueError
        If `epsilon` is not positive, or `delta` no probability.

    References
    ----------
    As `failure_probability`, of which this is the inverse; the form of the statement is Theorem 7 of B. Mussay et al.,
    "Data-Independent Neural Pruning via Coresets", ICLR 2020, which leaves the constant unsaid.

    Examples
    --------
    >>> draws_needed(Sums(total=1.0), epsilon=0.1, delta=0.05)
    738
    >>> draws_needed(Sums(total=1.0, dimension=10), epsilon=0.1, delta=0.05)
    38107
    """
    _check_positive(epsilon=epsilon)
    _check_delta(delta)
    share = epsilon / sums.total
    return max(1, math.ceil((_log_events(sums, share) - math.log(delta)) / _rate(sums, share)))


def guaranteed_error(sums: Sums, *, draws: int, delta: float) -> float:
    """Give the error ε that no sum exceeds, but with probability δ.

    Parameters
    ----------
    sums : Sums
    draws : int
        m, fixed in advance; for each sign, where they are split.
    delta : float
        Between 0 and 1, both excluded.

    Returns
    -------
    float
        In the units of t; beyond `mass` it says nothing.

    Raises
    ------
    ValueError
        If `draws` is not positive, or `delta` no probability.

    Examples
    --------
    >>> round(guaranteed_error(Sums(total=1.0), draws=738, delta=0.05), 4)
    0.1
    """
    _check_positive(draws=draws)
    _check_delta(delta)

    def holds(share: float) -> bool:
        return _log_events(sums, share) - draws * _rate(sums, share) <= math.log(delta)

    low, high = 0.0, 1.0
    while not holds(high):
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high * sums.total


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} = {value}: give a positive number")


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta = {delta}: a probability of failure lies between 0 and 1, both excluded")
