"""How channels are chosen: one recipe per paper or baseline, over plain arrays; `METHODS` has them all by name."""

from onnxprune.methods import baselines, mussay, tukan
from onnxprune.methods.interface import Channels, Choice, Guarantee, Method, Sample
from onnxprune.methods.order import balanced, ranking
from onnxprune.methods.recipe import Recipe, table

__all__ = ["METHODS", "Channels", "Choice", "Guarantee", "Method", "Recipe", "Sample", "balanced", "ranking"]

METHODS: dict[str, Recipe] = table(baselines.RECIPES, mussay.RECIPES, tukan.RECIPES)
