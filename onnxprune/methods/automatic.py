"""Knows the default: take away, again and again, the channel that the readers, solved anew, miss least.

Taking away from all channels (block-wise optimal brain surgeon) does better than adding to none where more than a few
stay. Where the readers are reached, channels are picked again, with exchanges. Where data says nothing of a group,
`coreset` orders it.

Data that is made up, and like what the network sees in its statistics alone, shows some channels too seldom. Weights
then have as much of a say as the data: taking a channel away costs, beyond what readers miss of it, its share of what
all channels can contribute at most (`mussay.importance`) of all that there is to miss.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.layer import Layer
from onnxprune.coreset.selection import backward, exchanged, forward
from onnxprune.methods.interface import Channels, Choice
from onnxprune.methods.mussay import importance
from onnxprune.methods.order import by_rank
from onnxprune.methods.recipe import Recipe
from onnxprune.methods.submodular import without_data

__all__ = ["RECIPES", "auto"]

# Exchanges at most, and columns of a layer up to which they are worth their time.
_ROUNDS, _WIDE = 32, 1152


def auto(channels: Channels, rng: np.random.Generator) -> Choice:
    """Order by elimination on the original's activations, and by the weights where data is not alike.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Not used.

    Returns
    -------
    Choice
    """
    if not channels.layers:
        return without_data(channels, rng)
    if not channels.alike:
        shares = importance(channels)
        order = backward([layer.anchored(shares) for layer in channels.layers], channels.worth, channels.count)
        return Choice(order, by_rank(order))
    order = backward(channels.layers, channels.worth, channels.count)
    choice = Choice(order, by_rank(order))
    return choice if channels.rows is not None else replace(choice, select=_Again(channels.count))


class _Again:
    """Picks anew, by elimination, by addition, or what was picked on the original, and improves the best by exchanges.

    What is looked at is what the pruned prefix of the network gives.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, layers: Sequence[Layer], weights: Sequence[float], kept: NDArray[np.int64]) -> NDArray[np.int64]:
        if max(len(layer.gram) for layer in layers) > _WIDE:
            return kept
        orders = (find(layers, weights, self.count) for find in (backward, forward))
        starts = [kept, *(np.sort(order[: kept.size]) for order in orders)]
        best = min(starts, key=lambda start: _loss(layers, weights, start))
        return exchanged(layers, weights, best, self.count, rounds=_ROUNDS)


def _loss(layers: Sequence[Layer], weights: Sequence[float], kept: NDArray[np.int64]) -> float:
    return sum(w * layer.loss(layer.solve(kept)) for layer, w in zip(layers, weights, strict=True))


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "auto", "what readers, solved anew on data or on synthetic inputs, miss least goes first", auto, needs_data=True
    ),
)
