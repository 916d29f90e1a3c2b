"""Knows the coreset of Mussay et al.: a channel is worth what it can contribute at most to any output of its readers.

    s_j(p) = max_i |w_ji(p)| · φ(β‖p‖₂)                    for reader j, β = 1 (it cancels for Relu)
    pr(p)  = mean over readers j of  s_j(p) / Σ_q s_j(q)   every reader is to be preserved alike
    draw m channels with replacement;  w̃(p) = w(p) · count(p) / (m · pr(p))

p is the channel's incoming weights with its bias appended. A channel with several writers (of a residual stream) is
their sum, its row the rows of all of them side by side. Readers with no weight but zero have no say. Without writers
‖p‖, without readers |w| is the same for all. Published is one writer and one reader, where all this is the paper's.

Three forms, the same scores:

- `coreset`: no sampling, descending pr, weights untouched (to be refitted);
- `coreset-sampled`: m is the number of draws that gives the wanted number of distinct channels in expectation. It
  depends on no sample, so Σ w̃ φ is unbiased; how many channels are kept varies around the wanted number;
- `coreset-distinct`: draws until the wanted number is reached, as the authors' program does: the number is exact, the
  weights are slightly biased by the stopping time, and the samples of one call are nested.

The theorem samples positive and negative weights apart (error 2ε): `methods.signs` does. The authors' program, and all
three forms here, sample by |w| and keep the signs; that is unbiased too, and `coreset.bounds` has its constants.

*Layer order.* The conference paper goes from the last layer to the first, the journal version from the first to the
last: a layer's rows p have then lost the columns of channels that went before it, or its readers the outputs that went
behind. Without a wish (`--layer-order`) every group is scored by the weights as they are; on a trained LeNet-300-100
either order keeps 88 % or more of the same channels where three in ten stay, 70 % or more where one in ten does.

Where a group has rows (equally many channels of each must stay), both sample each row by itself until its number of
distinct channels is reached. Where no fewer are wanted than have pr > 0, nothing is estimated: all those are kept
with factor one, and the number is made up along the order.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.activations import activation_named
from onnxprune.coreset.norms import Reals, row_norms
from onnxprune.coreset.sampling import draw, draw_distinct, drawable, draws_for, importance_factors
from onnxprune.coreset.sensitivity import probabilities, sensitivities
from onnxprune.methods.interface import Channels, Choice, Guarantee, Sample
from onnxprune.methods.order import ranking
from onnxprune.methods.recipe import Recipe

__all__ = ["RECIPES", "coreset", "coreset_distinct", "coreset_sampled", "importance", "lengths", "sampled", "tame"]

Sampler = Callable[[NDArray[np.float64], int, np.random.Generator], Sample]


def importance(channels: Channels, part: Callable[[Reals], Reals] | None = None) -> NDArray[np.float64]:
    """Give the probability pr of each channel of one group.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    part : callable, optional
        What of a reader's weights to look at; all of them by default.

    Returns
    -------
    ndarray of float64 (n,)
        Sums to 1; zero for a channel that no reader uses, or that is zero by itself (its row and φ(0) are). Where all
        channels are so they are all alike, but zero if only a part of the weights is looked at.

    References
    ----------
    B. Mussay, M. Osadchy, V. Braverman, S. Zhou, D. Feldman, "Data-Independent Neural Pruning via Coresets",
    ICLR 2020, arXiv 1907.04018, Algorithm 1; B. Mussay, D. Feldman, S. Zhou, V. Braverman, M. Osadchy,
    "Data-Independent Structured Pruning of Neural Networks via Coresets", arXiv 2008.08316.

    Examples
    --------
    >>> importance(Channels((np.array([[3.0], [1.0]]),), None, (np.array([[[1.0]], [[-1.0]]]),), "Relu")).tolist()
    [0.75, 0.25]
    """
    rows = lengths(channels)[:, None]
    readers = channels.outgoing or (np.ones((channels.count, 1, 1)),)
    activation = activation_named(channels.activation, channels.parameters)
    looked_at = (tame(reader) if part is None else part(tame(reader)) for reader in readers)
    per_reader = [sensitivities(rows, weights, activation, beta=channels.beta) for weights in looked_at]
    shares = [probabilities(sensitivity) for sensitivity in per_reader if sensitivity.any()]
    none = np.zeros(channels.count)
    return np.mean(shares, axis=0) if shares else none if part is not None else probabilities(none)


def lengths(channels: Channels) -> NDArray[np.float64]:
    """Give ‖p‖₂ of the rows p: all writers side by side, then the bias.

    Parameters
    ----------
    channels : Channels
        One group of n channels.

    Returns
    -------
    ndarray of float64 (n,)
        Ones where nothing is known to write.

    Examples
    --------
    >>> lengths(Channels((np.array([[3.0], [1.0]]),), np.array([4.0, 0.0]), ())).tolist()
    [5.0, 1.0]
    """
    if not channels.incoming:
        return np.ones(channels.count)
    parts = [row_norms(rows) for rows in channels.incoming]
    return row_norms(np.column_stack(parts if channels.bias is None else [*parts, channels.bias]))


def coreset(channels: Channels, rng: np.random.Generator) -> Choice:
    """Rank by descending probability, without sampling.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Not used.

    Returns
    -------
    Choice
        Scores are the probabilities.

    Examples
    --------
    >>> channels = Channels((np.array([[1.0], [3.0]]),), None, (np.array([[[1.0]], [[1.0]]]),), "Relu")
    >>> coreset(channels, np.random.default_rng(0)).order.tolist()
    [1, 0]
    """
    scores = importance(channels)
    return Choice(ranking(scores), scores)


def coreset_sampled(channels: Channels, rng: np.random.Generator) -> Choice:
    """Sample a number of draws fixed in advance, with the published weights: unbiased.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Read once; `sample` is then a function of the count alone.

    Returns
    -------
    Choice
        `sample(count)` keeps `count` channels in expectation (exactly, where there are rows).

    Examples
    --------
    >>> channels = Channels((np.ones((50, 3)),), None, (np.ones((50, 2, 1)),), "Relu")
    >>> sample = coreset_sampled(channels, np.random.default_rng(0)).sample
    >>> sample(25).kept.size, round(float(sample(25).factors.sum()), 6)
    (22, 50.0)
    """
    return sampled(importance(channels), channels.rows, rng)


def coreset_distinct(channels: Channels, rng: np.random.Generator) -> Choice:
    """Sample until the wanted number of distinct channels is reached, as the authors' program does.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Read once; `sample` is then a function of the count alone.

    Returns
    -------
    Choice
        `sample(count)` keeps exactly `count` channels.

    Examples
    --------
    >>> channels = Channels((np.ones((50, 3)),), None, (np.ones((50, 2, 1)),), "Relu")
    >>> coreset_distinct(channels, np.random.default_rng(0)).sample(25).kept.size
    25
    """
    return sampled(importance(channels), channels.rows, rng, _distinct_draws)


def tame(reader: Reals) -> Reals:
    """Take out the scale of one reader, which cancels, where its sums could overflow or vanish."""
    peak = max(float(reader.max(initial=0.0)), -float(reader.min(initial=0.0)))
    return reader if peak == 0.0 or 1e-25 < peak < 1e25 else reader.astype(np.float64) / peak


def _sample(pr: NDArray[np.float64], count: int, sampler: Sampler, rng: np.random.Generator) -> Sample:
    """Sample, unless `count` is enough for every point that can be drawn at all."""
    if count < np.count_nonzero(drawable(pr)):
        return sampler(pr, count, rng)
    return Sample(np.sort(ranking(pr)[:count]), np.ones(count))


def _fixed_draws(pr: NDArray[np.float64], count: int, rng: np.random.Generator) -> Sample:
    """Draw as often as gives `count` distinct points in expectation."""
    draws = draws_for(pr, count)
    return replace(_weighted(draw(pr, draws, rng), pr, draws), draws=draws)


def _distinct_draws(pr: NDArray[np.float64], count: int, rng: np.random.Generator) -> Sample:
    """Draw until `count` distinct points have been seen."""
    counts, draws = draw_distinct(pr, count, rng)
    return _weighted(counts, pr, draws)


def _weighted(counts: NDArray[np.int64], pr: NDArray[np.float64], draws: int) -> Sample:
    """Return the drawn points with their factors count / (m · pr)."""
    kept = np.flatnonzero(counts).astype(np.int64)
    return Sample(kept, importance_factors(counts, pr, draws)[kept])


def sampled(
    scores: NDArray[np.float64],
    rows: NDArray[np.int64] | None,
    rng: np.random.Generator,
    sampler: Sampler = _fixed_draws,
) -> Choice:
    """Choose by importance sampling, or from each row by itself where there are rows.

    Parameters
    ----------
    scores : ndarray of float64 (n,)
        Probabilities.
    rows : ndarray of int64 (n,) or None
        `Channels.rows`.
    rng : numpy.random.Generator
        Read once.
    sampler : callable
        Draws from probabilities; by default a number of draws fixed in advance.

    Returns
    -------
    Choice
        Ordered by descending score.
    """
    seed = int(rng.integers(2**63))
    rows = np.zeros(scores.size, dtype=np.int64) if rows is None else rows
    members = [np.flatnonzero(rows == row) for row in np.unique(rows)]
    chosen = sampler if len(members) == 1 else _distinct_draws

    def sample(count: int) -> Sample:
        largest = len(members) * min(row.size for row in members)
        if not 1 <= count <= largest or count % len(members):
            raise ValueError(f"count = {count}: give a multiple of {len(members)} from {len(members)} to {largest}")
        share = count // len(members)
        parts = [
            _sample(probabilities(scores[row]), share, chosen, np.random.default_rng([seed, index]))
            for index, row in enumerate(members)
        ]
        kept = np.concatenate([row[part.kept] for row, part in zip(members, parts, strict=True)])
        factors = np.concatenate([part.factors for part in parts])
        ascending = np.argsort(kept)
        draws = parts[0].draws if len(parts) == 1 else 0
        return Sample(kept[ascending].astype(np.int64), factors[ascending], draws)

    promised = Guarantee(probabilities(scores)) if chosen is _fixed_draws else None
    return Choice(ranking(scores), scores, sample, guarantee=promised)


RECIPES: tuple[Recipe, ...] = (
    Recipe("coreset", "largest possible contribution to any output of the readers first (Mussay et al. 2020)", coreset),
    Recipe(
        "coreset-sampled",
        "the same by importance sampling, with the published, unbiased weights",
        coreset_sampled,
        weighs=True,
    ),
    Recipe("coreset-distinct", "the same, drawn until the number of channels is exact", coreset_distinct, weighs=True),
)
