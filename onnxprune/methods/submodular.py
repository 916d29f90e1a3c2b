"""Knows the greedy of El Halabi et al.: add the channel with which the readers' inputs are best made up for.

    F(S) = ‖AW‖² − min over W̃ of ‖AW − A_S W̃‖²,    F(S) ≥ (1 − e^−γ) F(S*)    for the greedy S

A is what enters the readers, W their weights; several readers add their shares of F. Three forms: *asymmetric* picks
again where a reader is reached with the columns of the pruned prefix, towards the original's result; *sequential* does
so towards what the old weights make of these columns; *layer* looks at the original alone. Greedy steps are followed by
exchanges. Where no reader multiplies by a stored matrix there is no F, and `coreset` orders. A lower bound of γ, from
the eigenvalues of the original's moments, is noted for every group.

References
----------
M. El Halabi, S. Srinivas, S. Lacoste-Julien, "Data-Efficient Structured Pruning via Submodular Optimization", NeurIPS
2022, arXiv 2203.04940.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.layer import Layer
from onnxprune.coreset.selection import exchanged, forward, steps, submodularity
from onnxprune.methods.interface import Channels, Choice
from onnxprune.methods.mussay import coreset
from onnxprune.methods.order import by_rank
from onnxprune.methods.recipe import Recipe

__all__ = ["RECIPES", "submodular", "submodular_layer", "without_data"]

# A share of the optimum that is no news.
_VACUOUS = 1e-3


def without_data(channels: Channels, rng: np.random.Generator) -> Choice:
    """Order as `coreset` does, and say so."""
    reason = "no data says what its readers make of it, so it is ordered as coreset does"
    return replace(coreset(channels, rng), notes=(reason,))


def submodular_layer(channels: Channels, rng: np.random.Generator) -> Choice:
    """Order by greedy addition on the original's activations.

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
    order = forward(channels.layers, channels.worth, channels.count)
    return Choice(order, by_rank(order), notes=(_guarantee(channels),))


def _guarantee(channels: Channels) -> str:
    """Say what is certain of the greedy order, on the activations that it was found on."""
    if channels.rows is not None:
        return "greedy addition has no guarantee, since as many channels of every row have to stay"
    gamma = submodularity(channels.layers)
    if gamma is None:
        return "γ is not estimated, since a reader is too wide"
    most = steps(channels.count)
    share = -np.expm1(-gamma / most)
    at_once = f", up to {most} channels at once," if most > 1 else ""
    vacuous = " (vacuous)" if share < _VACUOUS else ""
    return (
        f"γ is {gamma:.2g} at least: greedy addition{at_once} makes up for {share:.2%} at least of what the best "
        f"channels of any number would{vacuous}"
    )


def submodular(channels: Channels, rng: np.random.Generator) -> Choice:
    """Order likewise; pick again, with exchanges, where the readers are reached.

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
    choice = submodular_layer(channels, rng)
    balanced = channels.rows is not None or not channels.layers
    return choice if balanced else replace(choice, select=_Greedy(channels.count))


class _Greedy:
    """Picks by greedy addition, then exchanges."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, layers: Sequence[Layer], weights: Sequence[float], kept: NDArray[np.int64]) -> NDArray[np.int64]:
        return exchanged(layers, weights, forward(layers, weights, self.count)[: kept.size], self.count)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "submodular",
        "greedy by what readers, solved anew on data, can make up for; AsymInChange (El Halabi et al. 2022)",
        submodular,
        needs_data=True,
        sequence="asym",
    ),
    Recipe(
        "submodular-seq",
        "the same, towards the old weights' result: SeqInChange",
        submodular,
        needs_data=True,
        sequence="seq",
    ),
    Recipe(
        "submodular-layer",
        "the same on the original's activations alone: LayerInChange",
        submodular_layer,
        needs_data=True,
        sequence="layer",
    ),
)
