"""Knows the methods every other one is compared with: chance, place, and the norm of a channel's incoming weights.

    l1: Σ_j |p_j|        l2: √(Σ_j p_j²)        p = the incoming weights of the channel, without bias

The weights of several writers are one long row, so their l1 norms add up and so do the squares of their l2 norms.
Without a writer the outgoing weights are measured; without either all channels score alike.
"""

from collections.abc import Iterator

import numpy as np

from onnxprune.coreset.norms import Reals, row_norms
from onnxprune.methods.interface import Channels, Choice
from onnxprune.methods.order import by_rank, ranking
from onnxprune.methods.recipe import Recipe

__all__ = ["RECIPES", "chance", "first", "l1_norm", "l2_norm"]


def chance(channels: Channels, rng: np.random.Generator) -> Choice:
    """Rank by independent uniform scores.

    Parameters
    ----------
    channels : Channels
        One group of n channels; only their number matters.
    rng : numpy.random.Generator

    Returns
    -------
    Choice
        Scores in [0, 1).

    Examples
    --------
    >>> channels = Channels(incoming=(np.ones((4, 2)),), bias=None, outgoing=())
    >>> sorted(chance(channels, np.random.default_rng(0)).order.tolist())
    [0, 1, 2, 3]
    """
    scores = rng.random(channels.count)
    return Choice(ranking(scores), scores)


def first(channels: Channels, rng: np.random.Generator) -> Choice:
    """Rank by place: what a network would have that had been made thinner.

    Parameters
    ----------
    channels : Channels
        One group of n channels; only their number matters.
    rng : numpy.random.Generator
        Not used.

    Returns
    -------
    Choice

    References
    ----------
    E. Crowley, J. Turner, A. Storkey, M. O'Boyle, "Pruning neural networks: is it time to nip it in the bud?", 2018,
    arXiv 1810.04622, section 3.

    Examples
    --------
    >>> channels = Channels(incoming=(np.ones((3, 2)),), bias=None, outgoing=())
    >>> first(channels, np.random.default_rng(0)).order.tolist()
    [0, 1, 2]
    """
    order = np.arange(channels.count)
    return Choice(order, by_rank(order))


def l1_norm(channels: Channels, rng: np.random.Generator) -> Choice:
    """Rank by the sum of the absolute incoming weights.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Not used.

    Returns
    -------
    Choice

    References
    ----------
    H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017,
    arXiv 1608.08710, section 3.1.

    Examples
    --------
    >>> channels = Channels(incoming=(np.array([[1.0, -1.0], [0.0, 3.0]]),), bias=None, outgoing=())
    >>> l1_norm(channels, np.random.default_rng(0)).scores.tolist()
    [2.0, 3.0]
    """
    scores = np.sum([np.abs(matrix).sum(axis=1, dtype=np.float64) for matrix in _measured(channels)], axis=0)
    return Choice(ranking(scores), scores)


def l2_norm(channels: Channels, rng: np.random.Generator) -> Choice:
    """Rank by the Euclidean norm of the incoming weights.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Not used.

    Returns
    -------
    Choice

    References
    ----------
    Y. He, G. Kang, X. Dong, Y. Fu, Y. Yang, "Soft Filter Pruning for Accelerating Deep Convolutional Neural
    Networks", IJCAI 2018, arXiv 1808.06866, section 3.2.

    Examples
    --------
    >>> channels = Channels(incoming=(np.array([[3.0], [0.0]]), np.array([[4.0], [1.0]])), bias=None, outgoing=())
    >>> l2_norm(channels, np.random.default_rng(0)).scores.tolist()
    [5.0, 1.0]
    """
    scores = row_norms(np.stack([row_norms(matrix) for matrix in _measured(channels)], axis=1))
    return Choice(ranking(scores), scores)


def _measured(channels: Channels) -> Iterator[Reals]:
    """Yield the matrices (n, d) whose rows are measured: incoming, else outgoing, else ones."""
    for array in channels.incoming or channels.outgoing or (np.ones((channels.count, 1)),):
        yield array.reshape(len(array), -1)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "thinner",
        "the first channels of every group, all groups thinned alike, as if it had been made so (Crowley et al. 2018)",
        first,
        blind=True,
        allocation="uniform",
    ),
    Recipe("random", "channels at random, the baseline of baselines", chance, random_order=True),
    Recipe("l1", "largest sum of absolute incoming weights first (Li et al. 2017)", l1_norm),
    Recipe("l2", "largest Euclidean norm of the incoming weights first (He et al. 2018)", l2_norm),
)
