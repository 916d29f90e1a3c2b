"""Knows the methods that go by derivatives of a loss: what they say of a channel is found out for all groups at once.

A channel's score is how late it goes where each time those go that change the loss least for what they save; see
`salience`. Where nothing is known of a group, `coreset` orders it.
"""

import numpy as np

from onnxprune.methods.interface import Channels, Choice
from onnxprune.methods.order import ranking
from onnxprune.methods.recipe import Recipe
from onnxprune.methods.submodular import without_data

__all__ = ["RECIPES", "by_salience"]


def by_salience(channels: Channels, rng: np.random.Generator) -> Choice:
    """Order by what derivatives say.

    Parameters
    ----------
    channels : Channels
        One group of n channels.
    rng : numpy.random.Generator
        Not used where derivatives are known.

    Returns
    -------
    Choice
    """
    if channels.salience is None:
        return without_data(channels, rng)
    return Choice(ranking(channels.salience), channels.salience, comparable=True)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "fisher",
        "what the loss changes by least, in the mean square, goes first, looked at anew by turns (Crowley et al. 2018)",
        by_salience,
        needs_data=True,
        salience="fisher",
    ),
    Recipe(
        "taylor",
        "the same by its mean magnitude (Molchanov et al. 2017)",
        by_salience,
        needs_data=True,
        salience="taylor",
    ),
    Recipe(
        "taylor-weights",
        "what readers' weights and their gradients say of the loss, squared, by batches (Molchanov et al. 2019)",
        by_salience,
        needs_data=True,
        salience="taylor-weights",
    ),
    Recipe(
        "synflow",
        "what least of ones flows through, weights being their magnitudes, goes first; no data (Tanaka et al. 2020)",
        by_salience,
        salience="synflow",
    ),
)
