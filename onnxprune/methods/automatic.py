"""Knows the default: take away, again and again, the channel that the readers, solved anew, miss least.

Taking away from all channels (block-wise optimal brain surgeon) does better than adding to none where more than a few
stay. Where data says nothing of a group, `coreset` orders it.
"""

import numpy as np

from onnxprune.coreset.selection import backward
from onnxprune.methods.interface import Channels, Choice
from onnxprune.methods.recipe import Recipe
from onnxprune.methods.submodular import by_rank, without_data

__all__ = ["RECIPES", "auto"]


def auto(channels: Channels, rng: np.random.Generator) -> Choice:
    """Order by elimination on the original's activations.

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
    order = backward(channels.layers, channels.worth, channels.count)
    return Choice(order, by_rank(order))


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "auto", "what readers, solved anew on data or on synthetic inputs, miss least goes first", auto, needs_data=True
    ),
)
