"""What a reader's result is scaled by next, and which tensor it is then added to: a residual stream, mostly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph.index import Index, attributes
from onnxprune.reconstruct.readers import Reader

__all__ = ["Partner", "partner_of", "scale_behind"]

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


def scale_behind(reader: Reader, index: Index, stored: Callable[[str], NDArray[Any]]) -> NDArray[np.float64]:
    """How much each output of a reader is multiplied by next, by a BatchNormalization: positive, (g, k); else ones.

    Parameters
    ----------
    reader, index, stored
        See `partner_of`.
    """
    found = _followed(reader, reader.result, index, stored)
    scale = np.ones(reader.width * reader.form.groups) if found is None else np.abs(found)
    return np.maximum(scale, _SMALL_SCALE * (scale.max() or 1.0)).reshape(reader.form.groups, -1)


def _followed(
    reader: Reader, name: str, index: Index, stored: Callable[[str], NDArray[Any]]
) -> NDArray[np.float64] | None:
    """What the only reader of a tensor multiplies it by, a BatchNormalization along the reader's outputs; else None."""
    edges = index.consumers[name]
    if len(edges) != 1 or name in index.outputs:
        return None
    node = index.nodes[edges[0].node]
    if node.op_type != "BatchNormalization" or not {node.input[1], node.input[4]} <= index.weights.keys():
        return None
    gamma, variance = stored(node.input[1]), stored(node.input[4])
    if reader.is_deep or gamma.size != reader.width * reader.form.groups:
        return None  # it scales along another axis than the reader's outputs lie on
    epsilon = attributes(node)["epsilon"].f if "epsilon" in attributes(node) else 1e-5
    found: NDArray[np.float64] = gamma / np.sqrt(variance + np.float64(epsilon))
    return found


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
    while (factor := _followed(reader, name, index, stored)) is not None:
        name, scale = index.nodes[index.consumers[name][0].node].output[0], scale * factor
    edges = index.consumers[name]
    node = index.nodes[edges[0].node] if len(edges) == 1 and name not in index.outputs else None
    if node is None or node.op_type != "Add" or len(node.input) != 2:
        return None
    other = node.input[1 - edges[0].input]
    usable = other not in index.constants and bool((np.abs(scale) > _SMALL_SCALE).all())
    return Partner(name, other, node.output[0], scale) if usable else None
