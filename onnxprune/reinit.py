"""A pruned network with fresh weights: the architecture is the result, and is to be trained from scratch."""

from typing import Any

import numpy as np

from onnxprune.calibrate.feeds import random_feeds
from onnxprune.errors import ModelError
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import choose_providers
from onnxprune.options import Options
from onnxprune.rewrite import redraw
from onnxprune.shapes.infer import infer_shapes
from onnxprune.validate import outputs_of

__all__ = ["reinitialise"]


def reinitialise(model: Model, options: Options) -> dict[str, Any]:
    """Draw all weights anew, in place, and see what the network makes of random inputs.

    Parameters
    ----------
    model : Model
    options : Options

    Returns
    -------
    dict
        What was drawn and how, what stays, and how large outputs are: {"seed", "drawn", "stays", "outputs"}; the
        standard deviation of each output, None where it cannot be told or is not finite.

    Raises
    ------
    RefusedError
        If weights are integers.
    """
    index = Index(model.proto)
    shapes = infer_shapes(index, model.skeleton(), options.input_shapes)
    fresh = redraw(model, index, shapes, options.seed)
    feeds = random_feeds(index, shapes, np.random.default_rng([options.seed, 1]))
    try:
        (found,) = outputs_of(model.copy(), index.outputs, [feeds], choose_providers(options.providers))
    except ModelError:
        found = {}
    spread = {
        name: float(value.std()) if value.dtype.kind == "f" and value.size and np.isfinite(value).all() else None
        for name, value in found.items()
    }
    return {"seed": options.seed, "drawn": dict(fresh.drawn), "stays": list(fresh.stays), "outputs": spread}
