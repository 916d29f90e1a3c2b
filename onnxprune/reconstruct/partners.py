"""What a reader's result is scaled by next, and which tensor it is then added to: a residual stream, mostly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph.index import Index, attributes
from onnxprune.reconstruct.readers import Reader

__all__ = ["NEGLIGIBLE", "Partner", "Stored", "Way", "partner_of", "scale_behind", "way_of"]

Stored = Callable[[str], NDArray[Any]]
"""Value of an initializer."""

NEGLIGIBLE = 1e-4
"""Factor by which a result nearly vanishes."""


@dataclass(frozen=True)
class Way:
    """Where BatchNormalizations take a reader's result: to which tensor, as scale · result + shift, (outputs,)."""

    name: str
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


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


def scale_behind(reader: Reader, index: Index, stored: Stored) -> NDArray[np.float64]:
    """How much each output of a reader is multiplied by next, by a BatchNormalization: positive, (g, k); else ones.

    Parameters
    ----------
    reader, index, stored
        See `partner_of`.
    """
    found = _normalised(reader, reader.result, index, stored)
    scale = np.ones(reader.width * reader.form.groups) if found is None else np.abs(found[0])
    return np.maximum(scale, NEGLIGIBLE * (scale.max() or 1.0)).reshape(reader.form.groups, -1)


def _normalised(
    reader: Reader, name: str, index: Index, stored: Stored
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Scale and shift of a BatchNormalization along the reader's outputs that alone reads a tensor; else None."""
    edges = index.consumers[name]
    if len(edges) != 1 or name in index.outputs:
        return None
    node = index.nodes[edges[0].node]
    if node.op_type != "BatchNormalization" or not index.weights.keys() >= set(node.input[1:]):
        return None
    gamma, beta, mean, variance = (stored(name).astype(np.float64) for name in node.input[1:])
    if reader.is_deep or gamma.size != reader.width * reader.form.groups:
        return None  # it scales along another axis than the reader's outputs lie on
    epsilon = attributes(node)["epsilon"].f if "epsilon" in attributes(node) else 1e-5
    scale: NDArray[np.float64] = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def way_of(reader: Reader, index: Index, stored: Stored) -> Way:
    """Follow a reader's result through the BatchNormalizations that alone read it.

    Parameters
    ----------
    reader, index, stored
        See `partner_of`.
    """
    outputs = reader.width * reader.form.groups
    way = Way(reader.result, np.ones(outputs), np.zeros(outputs))
    while (found := _normalised(reader, way.name, index, stored)) is not None:
        scale, shift = found
        name = index.nodes[index.consumers[way.name][0].node].output[0]
        way = Way(name, way.scale * scale, way.shift * scale + shift)
    return way


def partner_of(reader: Reader, index: Index, stored: Stored) -> Partner | None:
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
    way = way_of(reader, index, stored)
    edges = index.consumers[way.name]
    node = index.nodes[edges[0].node] if len(edges) == 1 and way.name not in index.outputs else None
    if node is None or node.op_type != "Add" or len(node.input) != 2:
        return None
    other = node.input[1 - edges[0].input]
    usable = other not in index.constants and bool((np.abs(way.scale) > NEGLIGIBLE).all())
    return Partner(way.name, other, node.output[0], way.scale) if usable else None
