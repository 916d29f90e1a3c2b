"""Shapes of the tensors in sequences and optional values, followed from where they go in to where they come out."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

__all__ = ["Sequences", "part_sizes"]

Shape = tuple[int, ...]
_Shapes = Mapping[str, Shape]
_Values = Mapping[str, NDArray[np.generic]]


def part_sizes(given: NDArray[np.generic], total: int) -> list[int]:
    """Sizes of the parts that SplitToSequence makes: as listed, or as many as go of one size and what is left.

    Parameters
    ----------
    given : ndarray
        Input `split`: a number, or a list.
    total : int
        Size of the axis that is split.

    Returns
    -------
    list of int
    """
    if given.ndim:
        return [int(size) for size in given]
    size = int(given.item())
    return [min(size, total - start) for start in range(0, total, size)]


class Sequences:
    """What is known of a graph's sequences: the shapes of their tensors, in order."""

    def __init__(self) -> None:
        self._items: dict[str, list[Shape]] = {}

    def follow(self, node: NodeProto, shapes: _Shapes, values: _Values) -> dict[str, Shape]:
        """Follow one node.

        Parameters
        ----------
        node : NodeProto
        shapes, values : mapping
            Shapes and values of tensors, as far as they are known.

        Returns
        -------
        dict of str to tuple of int
            Shapes that were learnt; a sequence's is empty, as it has no axes.
        """
        source = node.input[0] if node.input else ""
        if node.op_type in ("Optional", "OptionalGetElement") and source in shapes and source not in self._items:
            return {node.output[0]: shapes[source]}
        if node.op_type == "SequenceAt" and source in self._items:
            place = _place(node, 1, values, len(self._items[source]))
            return {} if place is None else {node.output[0]: self._items[source][place]}
        if node.op_type == "ConcatFromSequence" and self._items.get(source):
            return {node.output[0]: _joined(node, self._items[source])}
        items = self._made(node, shapes, values)
        if items is None:
            return {}
        self._items[node.output[0]] = items
        return {node.output[0]: ()}

    def _made(self, node: NodeProto, shapes: _Shapes, values: _Values) -> list[Shape] | None:
        """Shapes of the tensors of the sequence that a node makes, None where they are not known."""
        source = node.input[0] if node.input else ""
        if node.op_type == "SequenceEmpty":
            return []
        if node.op_type == "SequenceConstruct" and all(name in shapes for name in node.input):
            return [shapes[name] for name in node.input]
        if node.op_type == "SplitToSequence" and source in shapes:
            return _parts(node, shapes[source], values)
        if source not in self._items:
            return None
        items = list(self._items[source])
        if node.op_type == "SequenceInsert" and node.input[1] in shapes:
            place = _place(node, 2, values, len(items) + 1)
            return None if place is None else [*items[:place], shapes[node.input[1]], *items[place:]]
        if node.op_type == "SequenceErase":
            place = _place(node, 1, values, len(items))
            return None if place is None else items[:place] + items[place + 1 :]
        return items if node.op_type in ("Identity", "Optional", "OptionalGetElement") else None


def _place(node: NodeProto, number: int, values: _Values, count: int) -> int | None:
    """Position that an input names, the last of `count` where none is given, None where it is not known or outside."""
    name = node.input[number] if number < len(node.input) else ""
    if name and name not in values:
        return None
    place = int(values[name].item()) if name else count - 1
    return place % count if -count <= place < count else None


def _joined(node: NodeProto, items: list[Shape]) -> Shape:
    """Shape of the tensors of a sequence laid side by side, or stacked."""
    found = {item.name: item.i for item in node.attribute}
    if found.get("new_axis", 0):
        axis = found["axis"] % (len(items[0]) + 1)
        return (*items[0][:axis], len(items), *items[0][axis:])
    axis = found["axis"] % len(items[0])
    return (*items[0][:axis], sum(item[axis] for item in items), *items[0][axis + 1 :])


def _parts(node: NodeProto, shape: Shape, values: _Values) -> list[Shape] | None:
    """Shapes of the parts that SplitToSequence cuts x into."""
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    axis = found.get("axis", 0) % len(shape)
    if len(node.input) < 2 or not node.input[1]:
        one = (1,) if found.get("keepdims", 1) else ()
        return [(*shape[:axis], *one, *shape[axis + 1 :])] * shape[axis]
    if node.input[1] not in values:
        return None
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in part_sizes(values[node.input[1]], shape[axis])]
