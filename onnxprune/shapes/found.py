"""Shapes that depend on data: a node that looks for positions finds as many as are assumed here.

What follows from the number is not static, as with a symbolic dimension of an input: it is tried with others.
"""

import math

from onnx import NodeProto

__all__ = ["COUNTS", "found_shapes"]

COUNTS = (101, 3, 4001)
"""Positions that are assumed to be found, then fewer and more, such as limits of detections lie between. The first is
prime: no other size is likely to divide it."""


def found_shapes(node: NodeProto, shape: tuple[int, ...] | None, count: int) -> list[tuple[int, ...]]:
    """Find the shapes of a node's outputs, if `count` positions are found.

    Parameters
    ----------
    node : NodeProto
    shape : tuple of int or None
        Shape of the first input, None where it is not known.
    count : int

    Returns
    -------
    list of tuple of int
        Empty for a node whose shapes do not depend on data.
    """
    if shape is None or node.domain not in ("", "ai.onnx"):
        return []
    if node.op_type == "NonZero":
        return [(len(shape), count)]
    if node.op_type == "NonMaxSuppression":
        return [(count, 3)]
    if node.op_type not in ("Compress", "Unique"):
        return []
    axis = next((item.i for item in node.attribute if item.name == "axis"), None)
    if axis is None:
        return [(count,), (count,), (math.prod(shape),), (count,)]
    axis %= len(shape)
    return [(*shape[:axis], count, *shape[axis + 1 :]), (count,), (shape[axis],), (count,)]
