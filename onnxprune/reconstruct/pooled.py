"""Knows the tensor that a reader's input is the mean of, over all positions: what a sample shows apart from its mean.

    x = mean over p of a_p,     rows of the spread:  a_p − x

A network whose classes are read off a mean gives one row per sample, of as many columns as it has channels. How one
sample's positions differ says in which directions samples differ; a reader that is right there, too, is right on
samples that nobody has seen.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.graph.index import Index, attributes
from onnxprune.reconstruct.partners import Stored
from onnxprune.reconstruct.readers import Reader
from onnxprune.shapes.infer import Shapes

__all__ = ["Pooled", "pooled_of"]

_CARRIED = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")


@dataclass(frozen=True)
class Pooled:
    """A tensor whose mean over some axes a reader gets; the axis of its channels."""

    name: str
    channels: int

    def rows(self, value: NDArray[Any], wanted: int, rng: np.random.Generator) -> NDArray[Any]:
        """Differences from the mean at so many positions of each sample, (1, R, n)."""
        seen = np.moveaxis(value, self.channels, -1)
        seen = seen.reshape(len(value), -1, seen.shape[-1])
        places = rng.choice(seen.shape[1], min(wanted, seen.shape[1]), replace=False)
        rows: NDArray[Any] = seen[:, np.sort(places)] - seen.mean(axis=1, keepdims=True)
        return rows.reshape(1, -1, seen.shape[-1])


def pooled_of(reader: Reader, index: Index, shapes: Shapes, stored: Stored) -> Pooled | None:
    """Find what a reader's input is the mean of.

    Parameters
    ----------
    reader : Reader
    index : Index
    shapes : Shapes
    stored : callable
        Value of an initializer.

    Returns
    -------
    Pooled or None
        None where it is no mean over all positions, or the reader is no plain product by one matrix.
    """
    products, columns = reader.units.shape
    name = reader.source
    while name in index.producer and index.nodes[index.producer[name]].op_type in _CARRIED:
        name = index.nodes[index.producer[name]].input[0]
    if name not in index.producer or products > 1 or reader.form.offsets > 1:
        return None
    node = index.nodes[index.producer[name]]
    if not node.input:
        return None
    before, after = (shapes.shapes.get(each, ()) for each in (node.input[0], name))
    axes = _averaged(node, len(before), index, stored)
    left = [axis for axis in range(1, len(before)) if axis not in axes]
    whole = len(left) == 1 and before[left[0]] == columns == prod(after[1:])
    return Pooled(node.input[0], left[0]) if whole and 0 not in axes and prod(before[1:]) > columns else None


def _averaged(node: NodeProto, rank: int, index: Index, stored: Stored) -> set[int]:
    """Axes that a node takes means over; none of another node."""
    if node.op_type in ("GlobalAveragePool", "AveragePool"):
        return set(range(2, rank))
    if node.op_type != "ReduceMean":
        return set()
    given, listed = attributes(node), node.input[1] if len(node.input) > 1 else ""
    if listed and listed not in index.weights:
        return set()
    axes = stored(listed).ravel().tolist() if listed else given["axes"].ints if "axes" in given else range(rank)
    return {int(axis) % rank for axis in axes if rank}
