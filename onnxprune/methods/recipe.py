"""Knows what a row of the table of methods is: a name, a line for --help, a function, and the balance over rows."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.methods.interface import Channels, Choice, Method
from onnxprune.methods.order import balanced

__all__ = ["Recipe", "table"]


@dataclass(frozen=True)
class Recipe:
    """One method, itself callable as one.

    Attributes
    ----------
    name : str
        How the user calls it.
    summary : str
        One line for --help and the README, without a full stop.
    function : Method
        The recipe proper. It need not look at `Channels.rows` for its order: the call below interleaves it.
    random_order : bool
        Whether the order itself, and not only a sample, depends on the generator.
    blind : bool
        Whether it goes by the channels' places alone, whatever they do.
    needs_data : bool
        Whether it looks at `Channels.layers`.
    weighs : bool
        Whether it brings factors for the readers' weights, so that they are not to be solved anew.
    sequence : {"repair", "asym", "seq", "layer"}
        How readers are solved anew after it; see `reconstruct.sequence`.
    allocation : str
        How the share is spread where nobody says so; empty leaves it to what is known.
    salience : str
        Which derivatives it looks at as `Channels.salience`; empty where it looks at none.
    at_rank : callable or None
        Gives the recipe proper for a rank that points are reduced to (`--rank`); None where there is no such thing.
    """

    name: str
    summary: str
    function: Method
    random_order: bool = False
    blind: bool = False
    needs_data: bool = False
    weighs: bool = False
    sequence: str = "repair"
    allocation: str = ""
    salience: str = ""
    at_rank: Callable[[int], Method] | None = None

    @property
    def sees_all(self) -> bool:
        """Tell whether it learns from the network as a whole, and not from one group's weights."""
        return self.needs_data or bool(self.salience)

    def __call__(self, channels: Channels, rng: np.random.Generator) -> Choice:
        """Rank the channels of one group; where it has rows, every prefix that can be balanced is.

        Parameters
        ----------
        channels : Channels
            One group of n channels.
        rng : numpy.random.Generator

        Returns
        -------
        Choice
        """
        choice = self.function(channels, rng)
        if channels.rows is None:
            return choice
        return replace(choice, order=balanced(choice.order, channels.rows))

    def with_rank(self, rank: int) -> "Recipe":
        """Give the same method at a rank that the user chose.

        Parameters
        ----------
        rank : int
            From 1 on.

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            If the method reduces nothing to a rank.
        """
        if self.at_rank is None:
            raise ValueError(f"the method {self.name} reduces nothing to a rank: leave the rank out")
        return replace(self, function=self.at_rank(rank))


def table(*groups: tuple[Recipe, ...]) -> dict[str, Recipe]:
    """Concatenate recipes into a table by name.

    Parameters
    ----------
    *groups : tuple of Recipe
        What the modules export.

    Returns
    -------
    dict of str to Recipe
        In the order given.

    Raises
    ------
    ValueError
        If two recipes have the same name.

    Examples
    --------
    >>> from onnxprune.methods.baselines import RECIPES
    >>> list(table(RECIPES))
    ['thinner', 'random', 'l1', 'l2']
    """
    recipes = [recipe for group in groups for recipe in group]
    named = {recipe.name: recipe for recipe in recipes}
    if len(named) < len(recipes):
        uses = Counter(recipe.name for recipe in recipes)
        twice = [name for name, times in uses.items() if times > 1]
        raise ValueError(f"two methods have the same name: {', '.join(twice)}; rename one")
    return named
