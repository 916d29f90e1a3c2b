"""Knows what can be promised of the sums that read a group's channels, once it is known which of them stay.

    f_i(x) = Σ_p w_i(p) φ(pᵀx) over all channels,   f̃_i(x) = Σ_kept a(p) w_i(p) φ(pᵀx),   ‖x‖₂ ≤ β

- for certain: |f_i − f̃_i| ≤ Σ_removed |w_i(p)| φ̄(p) + Σ_kept |a(p) − 1| |w_i(p)| φ̄(p), φ̄(p) = max |φ| on
  [−β‖p‖, β‖p‖]; any choice of channels, any φ, every x of the ball;
- with probability 1 − δ over the draws, where the factors a are those of m independent ones: the additive ε of
  `coreset.bounds`, for the x that one has in mind, and for all x of the ball at once; for all m together. Where
  positive and negative weights are sampled apart and φ can be negative, a draw of each is looked at as one of both.

- where s(p) bounds the share of p in F(x) = Σ_p ω(p) φ(pᵀx), with probability 1 − δ for one x: F̃(x) is (1 ± ε) F(x).
  A draw is F(x) on average and t F(x) at most, t = max s(p) / pr(p) with s(p) ≤ 1, so that by Bernstein
  m ≥ (2t + ⅔ t ε) / ε² · log(2 / δ) draws are enough. ε ≥ 1 is vacuous: zero is as good. It is about F, where every
  term is positive: a sum of both signs has no such factor, whatever is drawn.

None of them says anything where the weights have been solved anew. Leaving all channels out errs by Σ |w_i(p)| φ̄(p) at
most: a bound that is no smaller is vacuous.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.activations import LINEAR, Activation, activation_named
from onnxprune.coreset.bounds import Sums, draws_needed, guaranteed_error
from onnxprune.coreset.norms import Reals
from onnxprune.coreset.sensitivity import masses, sensitivities
from onnxprune.coreset.split import halves
from onnxprune.methods.interface import Channels, Guarantee, Sample
from onnxprune.methods.mussay import lengths

__all__ = ["DELTA", "USEFUL", "Certificate", "Promise", "Relative", "certify"]

DELTA = 0.05
"""Probability with which a promise may fail."""

USEFUL = 0.5
"""ε of a factor 1 ± ε, for which the number of draws is told."""


@dataclass(frozen=True)
class Promise:
    """An additive error that holds but with probability δ.

    Attributes
    ----------
    draws : int
        m.
    delta : float
    epsilon : float
        For one x that does not depend on the draws, all outputs of all readers together.
    epsilon_ball : float or None
        For all x of the ball at once; None where φ has no Lipschitz constant.
    vacuous : bool
        Whether `epsilon` is no smaller than what leaving all channels out could do.
    signs : str
        Which bound it is: "mixed", "one" or "split" as in `coreset.bounds.Sums`; where readers differ, the loosest.
    """

    draws: int
    delta: float
    epsilon: float
    epsilon_ball: float | None
    vacuous: bool
    signs: str


@dataclass(frozen=True)
class Relative:
    """A factor 1 ± ε that holds but with probability δ, of Σ_p ω(p) φ(pᵀx) for one x that does not depend on the draws.

    Attributes
    ----------
    draws : int
        m.
    delta : float
    epsilon : float
    needed : int
        Draws for which ε were `USEFUL`.
    vacuous : bool
        Whether ε is 1 or more.
    obstacle : str
        Why it does not hold for this group; "" where it does.
    """

    draws: int
    delta: float
    epsilon: float
    needed: int
    vacuous: bool
    obstacle: str = ""


@dataclass(frozen=True)
class Certificate:
    """What holds of a group.

    Attributes
    ----------
    activation : str
        φ's name, "" for none.
    covered : bool
        Whether φ is non-negative and non-decreasing, as the theorem of Mussay et al. has it.
    beta : float
        Bound of ‖x‖₂ for which the numbers are.
    error : float
        Additive, for certain, at every output of every reader.
    whole : float
        The same, were all channels left out.
    promise : Promise or None
        Where factors come from draws whose number was fixed.
    relative : Relative or None
        Likewise, where the method bounds shares.
    """

    activation: str
    covered: bool
    beta: float
    error: float
    whole: float
    promise: Promise | None = None
    relative: Relative | None = None

    @property
    def vacuous(self) -> bool:
        """Tell whether the certain bound says no more than leaving everything out would."""
        return bool(self.error >= self.whole)


def certify(channels: Channels, sample: Sample, guarantee: Guarantee | None = None) -> Certificate:
    """Bound what keeping some channels does to the sums that read them.

    Parameters
    ----------
    channels : Channels
        One group of n channels with readers; each is φ of one sum.
    sample : Sample
        What stays, with factors (empty for ones).
    guarantee : Guarantee, optional
        How it was drawn.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> channels = Channels((np.array([[3.0], [1.0]]),), None, (np.array([[[1.0]], [[-1.0]]]),), "Relu")
    >>> found = certify(channels, Sample(np.array([0]), np.empty(0)))
    >>> found.error, found.whole, found.vacuous
    (1.0, 4.0, False)
    """
    activation = activation_named(channels.activation, channels.parameters)
    rows, beta = lengths(channels)[:, None], channels.beta
    changes = _changes(sample, channels.count)
    worst = Certificate(channels.activation, activation.guaranteed, beta, 0.0, 0.0)
    sums = []
    for reader in channels.outgoing:
        parts = zip(_parts(reader, len(changes)), changes, strict=True)
        errors, wholes = np.sum([masses(rows, part, activation, both, beta=beta) for part, both in parts], axis=0)
        error, whole = float(errors.max(initial=0.0)), float(wholes.max(initial=0.0))
        worst = replace(worst, error=max(worst.error, error), whole=max(worst.whole, whole))
        if guarantee is not None and sample.draws and whole > 0.0:
            sums.append(_sums(channels, reader, activation, guarantee, whole))
    if guarantee is not None and guarantee.shares is not None and sample.draws:
        worst = replace(worst, relative=_relative(guarantee, guarantee.shares, sample.draws))
    known = [item for item in sums if item is not None]
    if not known or len(known) < len(sums):
        return worst
    return replace(worst, promise=_promise(known, sample.draws, worst.whole))


def _parts(reader: Reals, number: int) -> tuple[Reals, ...]:
    """Return a reader's weights, or positive and negative ones apart."""
    return (reader,) if number == 1 else halves(reader)


def _changes(sample: Sample, count: int) -> NDArray[np.float64]:
    """Return |a(p) − 1|, and 1 beside it, for all weights or for positive and negative ones apart; (1 or 2, n, 2)."""
    factors = [sample.factors, sample.negative] if sample.negative.size else [sample.factors]
    changes = np.ones((len(factors), count, 2))
    for change, own in zip(changes, factors, strict=True):
        change[sample.kept, 0] = own - 1.0 if own.size else 0.0
    return changes


def _sums(channels: Channels, reader: Reals, activation: Activation, guarantee: Guarantee, mass: float) -> Sums | None:
    """What the bound of one reader depends on: pr need not be its own s / t, so t is max s(p) / pr(p).

    None where something that counts can never be drawn.
    """
    rows, beta, pr = lengths(channels)[:, None], channels.beta, np.atleast_2d(guarantee.probabilities)
    parts = _parts(reader, len(pr))
    totals = [
        _largest(sensitivities(rows, part, activation, beta=beta), own) for part, own in zip(parts, pr, strict=True)
    ]
    if not np.isfinite(totals).all():
        return None
    apart = activation.guaranteed and len(parts) > 1
    one = activation.guaranteed and len(parts) == 1 and float(reader.min()) >= 0.0
    total = max(totals) if apart else sum(totals)
    drawn = [_largest(sensitivities(rows, part, LINEAR), own) for part, own in zip(parts, pr, strict=True)]
    slopes = float(sensitivities(rows, reader, LINEAR).sum()) + sum(drawn)
    width = sum(matrix.shape[1] for matrix in channels.incoming)
    return Sums(
        total=total,
        mass=mass,
        outputs=reader.shape[1],
        signs="split" if apart else "one" if one else "mixed",
        dimension=max(width * reader.shape[2], 1),
        roughness=activation.lipschitz * beta * slopes / total,
    )


def _relative(guarantee: Guarantee, shares: NDArray[np.float64], draws: int) -> Relative | None:
    """Return what a bound of shares promises; F(x) is 1, and a share is never more."""
    total = _largest(np.minimum(shares, 1.0), guarantee.probabilities)
    if not 0.0 < total < np.inf:
        return None
    sums = Sums(total=total, mass=1.0, signs="one")
    delta = 6.0 * DELTA / (np.pi * draws) ** 2
    epsilon = guaranteed_error(sums, draws=draws, delta=delta)
    needed = draws_needed(sums, epsilon=USEFUL, delta=DELTA)
    return Relative(draws, DELTA, epsilon, needed, epsilon >= 1.0, guarantee.obstacle)


def _largest(values: NDArray[np.float64], pr: NDArray[np.float64]) -> float:
    """Return max values / pr over what has any value; infinite where that is never drawn."""
    with np.errstate(divide="ignore"):
        return float((values[values > 0.0] / pr[values > 0.0]).max(initial=0.0))


def _promise(sums: list[Sums], draws: int, whole: float) -> Promise:
    """Return what holds for all readers together, whatever number of draws the budget has settled on.

    It may have tried others before: number m may fail with probability 6δ / (π²m²), so all of them with δ.
    """
    outputs = sum(item.outputs for item in sums)
    ball = [replace(item, outputs=outputs) for item in sums]
    one = [replace(item, dimension=None) for item in ball]
    delta = 6.0 * DELTA / (np.pi * draws) ** 2
    epsilon = max(guaranteed_error(item, draws=draws, delta=delta) for item in one)
    smooth = all(np.isfinite(item.roughness) for item in sums)
    everywhere = max(guaranteed_error(item, draws=draws, delta=delta) for item in ball) if smooth else None
    signs = next(kind for kind in ("mixed", "split", "one") if any(item.signs == kind for item in sums))
    return Promise(draws, DELTA, epsilon, everywhere, epsilon >= whole, signs)
