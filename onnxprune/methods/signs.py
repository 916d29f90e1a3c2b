"""Knows the coreset of Mussay et al. as the theorem has it: positive and negative weights of readers are sampled apart.

    w = w⁺ − w⁻,   s_j±(p) = max_i w_ji±(p) · φ(β‖p‖₂),   pr±(p) = mean over readers j of  s_j±(p) / Σ_q s_j±(q)
    m draws from pr⁺ and m from pr⁻;   w̃(p) = w⁺(p) · count⁺(p) / (m pr⁺(p)) − w⁻(p) · count⁻(p) / (m pr⁻(p))

A channel is kept that was drawn for either sign; its weights of the other are then zero. m is the number of draws that
gives the wanted number of distinct channels in expectation. It depends on no sample, so Σ w̃ φ is unbiased.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onnxprune.coreset.norms import Reals
from onnxprune.coreset.sampling import drawable, draws_for
from onnxprune.coreset.split import halves, split_factors
from onnxprune.methods.interface import Channels, Choice, Guarantee, Sample
from onnxprune.methods.mussay import coreset_distinct, importance
from onnxprune.methods.order import ranking
from onnxprune.methods.recipe import Recipe

__all__ = ["RECIPES", "coreset_split"]

_HALVES: tuple[Callable[[Reals], Reals], ...] = (lambda weights: halves(weights)[0], lambda weights: halves(weights)[1])
_ROWS = "equally many channels of every row have to stay, so they are drawn as coreset-distinct does"


def coreset_split(channels: Channels, rng: np.random.Generator) -> Choice:
    """Sample positive and negative weights apart, a number of draws fixed in advance: unbiased.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Read once; `sample` is then a function of the count alone.

    Returns
    -------
    Choice
        `sample(count)` keeps `count` channels in expectation. Where there are rows it is that of `coreset-distinct`.

    References
    ----------
    B. Mussay, M. Osadchy, V. Braverman, S. Zhou, D. Feldman, "Data-Independent Neural Pruning via Coresets",
    ICLR 2020, arXiv 1907.04018, Theorem 7 and the corollary for weights of both signs.

    Examples
    --------
    >>> channels = Channels((np.ones((4, 3)),), None, (np.array([2.0, 1.0, -1.0, -3.0]).reshape(4, 1, 1),), "Relu")
    >>> sample = coreset_split(channels, np.random.default_rng(0)).sample(3)
    >>> sample.kept.tolist(), sample.factors.tolist(), sample.negative.round(2).tolist()
    ([0, 2, 3], [1.5, 0.0, 0.0], [0.0, 2.0, 0.67])
    """
    if channels.rows is not None:
        return replace(coreset_distinct(channels, rng), notes=(_ROWS,))
    apart = np.stack([importance(channels, half) for half in _HALVES])
    if not apart.any():
        apart[0] = importance(channels)
    drawn = apart[apart.any(axis=1)]
    scores = drawn.mean(axis=0)
    living = np.count_nonzero(np.any([drawable(pr) for pr in drawn], axis=0))
    seed = int(rng.integers(2**63))

    def sample(count: int) -> Sample:
        if not 1 <= count <= channels.count:
            raise ValueError(f"count = {count}: give a number from 1 to {channels.count}")
        if count >= living:
            return Sample(np.sort(ranking(scores)[:count]), np.ones(count))
        draws = draws_for(drawn, count)
        positive, negative = split_factors(apart, draws, np.random.default_rng(seed))
        kept = np.flatnonzero(positive + negative).astype(np.int64)
        return Sample(kept, positive[kept], draws, negative[kept])

    return Choice(ranking(scores), scores, sample, guarantee=Guarantee(apart))


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "coreset-split",
        "the same, positive and negative weights of the readers drawn apart, as the theorem has it",
        coreset_split,
        weighs=True,
    ),
)
