"""A Gather that takes all of a list in its own order is a Reshape, and is spelled as one.

PyTorch's views by strides are exported as numbers b · C + c, stored or computed from the batch, by which a flattened
tensor is looked up. Of channels that are looked up by numbers known only at run time, or in rows, little can be said.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from onnxprune.graph.index import Index, attributes
from onnxprune.graph.model import Model
from onnxprune.graph.unread import drop_unread
from onnxprune.shapes.evaluate import Evaluator
from onnxprune.shapes.infer import Shapes, infer_shapes

__all__ = ["reshape_ordered"]

_BATCHES = (1, 2, 3)
_SINCE = 5
"""Operator set since which the shape is an input of Reshape."""


def reshape_ordered(model: Model, given: dict[str, tuple[int, ...]] | None = None) -> int:
    """Spell Gathers that take everything in order, whatever the batch is, as Reshapes, in place.

    Parameters
    ----------
    model : Model
    given : dict of str to tuple of int, optional
        Shapes for inputs with symbolic dimensions.

    Returns
    -------
    int
        How many there were.
    """
    if not _has_flat_reads(model):
        return 0
    index = Index(model.proto)
    nodes = list(_flat_reads(model, index)) if index.opsets.get("", 1) >= _SINCE else []
    if not nodes:
        return 0
    shapes = infer_shapes(index, model.skeleton(), given)
    numbers = _Numbers(model, index, shapes, Evaluator(index))
    found = [node for node in nodes if _in_order(node, numbers)]
    return sum(_reshape(model, node, shapes) for node in found)


def _has_flat_reads(model: Model) -> bool:
    """Tell whether any look-up reads a flattened tensor, without the index that tells by what numbers."""
    graph = model.proto.graph
    flat = {node.output[0] for node in graph.node if node.op_type in ("Reshape", "Flatten")}
    return any(node.op_type == "Gather" and node.input[0] in flat for node in graph.node)


def _flat_reads(model: Model, index: Index) -> Iterator[NodeProto]:
    """Look-ups in a flattened tensor by numbers that may count it up."""
    for node in index.nodes:
        if node.op_type != "Gather" or node.domain:
            continue
        found, numbers = attributes(node), node.input[1]
        source = index.producer.get(node.input[0])
        flat = source is not None and index.nodes[source].op_type in ("Reshape", "Flatten")
        if not flat or ("axis" in found and found["axis"].i):
            continue
        if numbers in index.weights:
            shape = tuple(size for size in index.weights[numbers].dims if size != 1)
            value = model.array(index.weights[numbers]) if len(shape) > 1 else np.zeros(0)
            if value.size and np.array_equal(value.ravel(), np.arange(value.size)):
                yield node
        elif numbers not in index.constants and _counts(index, numbers):
            yield node


def _counts(index: Index, name: str) -> bool:
    pending, seen = [name], set[int]()
    while pending:
        number = index.producer.get(pending.pop())
        if number is None or number in seen:
            continue
        seen.add(number)
        if index.nodes[number].op_type == "Range":
            return True
        pending += [read for read in index.nodes[number].input if read not in index.constants]
    return False


@dataclass(frozen=True)
class _Numbers:
    """Computes numbers that follow from stored ones and from the sizes of the network's inputs."""

    model: Model
    index: Index
    shapes: Shapes
    evaluator: Evaluator

    def of(self, name: str, batch: int, seen: dict[str, NDArray[Any]]) -> NDArray[Any] | None:
        """Value of a tensor where the batch is some times as long as assumed, None where it cannot be told."""
        if name in seen:
            return seen[name]
        if name in self.index.weights:
            return self.model.array(self.index.weights[name])
        if name not in self.index.producer:
            return None
        node = self.index.nodes[self.index.producer[name]]
        if node.op_type == "Shape" and node.input[0] in self.index.inputs:
            inputs: list[NDArray[Any] | None] = [np.empty(self._longer(node.input[0], batch), dtype=np.bool_)]
        else:
            inputs = [self.of(read, batch, seen) if read else None for read in node.input]
            if any(value is None and read for value, read in zip(inputs, node.input, strict=True)):
                return None
        values = self.evaluator.values(node, inputs)
        seen |= dict(zip(node.output, values, strict=False))
        return seen.get(name)

    def _longer(self, name: str, batch: int) -> tuple[int, ...]:
        shape = self.shapes.inputs[name]
        return shape if not shape or self.shapes.is_static((name, 0)) else (shape[0] * batch, *shape[1:])


def _in_order(node: NodeProto, numbers: _Numbers) -> bool:
    """Tell whether a Gather takes all positions of a list, in order."""
    name = node.input[0]
    sizes = numbers.shapes.shapes.get(name, ())
    grows = numbers.shapes.is_batch((name, 0))
    if len(sizes) != 1 or not (grows or numbers.shapes.is_static((name, 0))):
        return False
    for batch in _BATCHES:
        value = numbers.of(node.input[1], batch, {})
        if value is None or not np.array_equal(value.ravel(), np.arange(sizes[0] * (batch if grows else 1))):
            return False
    return True


def _reshape(model: Model, node: NodeProto, shapes: Shapes) -> bool:
    name = node.output[0]
    shape = shapes.shapes.get(name, ())
    loose = [axis for axis in range(len(shape)) if not shapes.is_static((name, axis))]
    if not shape or len(loose) > 1:
        return False
    sizes = [-1 if axis in loose else size for axis, size in enumerate(shape)]
    numbers, target = node.input[1], f"{name}_shape"
    while target in shapes.shapes:
        target += "_"
    model.proto.graph.initializer.append(numpy_helper.from_array(np.array(sizes, dtype=np.int64), target))
    node.op_type = "Reshape"
    del node.attribute[:]
    node.input[1] = target
    if not any(numbers in other.input for other in model.proto.graph.node):
        drop_unread(model.proto, [numbers])
    return True
