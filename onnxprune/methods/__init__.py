"""How channels are chosen: one recipe per paper or baseline, over plain arrays; `METHODS` has them all by name."""

from onnxprune.methods import automatic, baselines, gradients, mussay, signs, submodular, tukan
from onnxprune.methods.interface import Channels, Choice, Guarantee, Method, Sample, Select
from onnxprune.methods.order import balanced, ranking
from onnxprune.methods.recipe import Recipe, table

__all__ = ["METHODS", "Channels", "Choice", "Guarantee", "Method", "Recipe", "Sample", "Select", "balanced", "ranking"]

METHODS: dict[str, Recipe] = table(
    automatic.RECIPES,
    submodular.RECIPES,
    mussay.RECIPES,
    signs.RECIPES,
    tukan.RECIPES,
    gradients.RECIPES,
    baselines.RECIPES,
)
