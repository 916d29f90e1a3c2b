"""Which tensor a reader's result is added to, and through what scale: a residual stream, mostly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph.index import Index, attributes
from onnxprune.reconstruct.readers import Reader

__all__ = ["Partner", "partner_of"]

_FOLLOWED = 4
_SMALL_SCALE = 1e-4


@dataclass(frozen=True)
class Partner:
    """An addition that a result goes into.

    Attributes
    ----------
    branch, other, total : str
        The tensor that comes from the result, what it is added to, and the sum.
    scale : ndarray (outputs,)
        What the result is multiplied by on the way, by a BatchNormalization.
    """

    branch: str
    other: str
    total: str
    scale: NDArray[np.float64]


def partner_of(reader: Reader, index: Index, stored: Callable[[str], NDArray[Any]]) -> Partner | None:
    """Follow a reader's result to where it is added to another activation.

    Parameters
    ----------
    reader : Reader
    index : Index
    stored : callable
        Value of an initializer.

    Returns
    -------
    Partner or None
        None where it goes elsewhere first, or nearly vanishes on the way.
    """
    name, scale = reader.result, np.ones(reader.width * reader.form.groups)
    for _ in range(_FOLLOWED):
        edges = index.consumers[name]
        if len(edges) != 1 or name in index.outputs:
            return None
        node = index.nodes[edges[0].node]
        if node.op_type == "BatchNormalization" and {node.input[1], node.input[4]} <= index.weights.keys():
            gamma, variance = stored(node.input[1]), stored(node.input[4])
            if reader.is_deep or gamma.size != scale.size:
                return None  # it scales along another axis than the reader's outputs lie on
            epsilon = attributes(node)["epsilon"].f if "epsilon" in attributes(node) else 1e-5
            scale = scale * gamma / np.sqrt(variance + epsilon)
            name = node.output[0]
            continue
        if node.op_type != "Add" or len(node.input) != 2:
            return None
        other = node.input[1 - edges[0].input]
        usable = other not in index.constants and bool((np.abs(scale) > _SMALL_SCALE).all())
        return Partner(name, other, node.output[0], scale) if usable else None
    return None
