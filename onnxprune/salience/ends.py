"""Where a loss is told of a network that gives decisions: at the numbers that they are made of."""

from onnx import ValueInfoProto

from onnxprune.gradient.rule import FLOATS
from onnxprune.graph.index import Index
from onnxprune.shapes.infer import Shapes

__all__ = ["ends"]

_DECIDING = frozenset(["ArgMax", "ArgMin"])


def ends(index: Index, shapes: Shapes) -> list[ValueInfoProto]:
    """Numbers that nothing but a decision is made of, such as the largest of scores, to be outputs, too.

    Parameters
    ----------
    index, shapes
        The network.

    Returns
    -------
    list of ValueInfoProto
    """
    types = shapes.types
    told, found = {name for name in index.outputs if types.get(name) in FLOATS}, dict[str, None]()
    for node in reversed(index.nodes):
        if told & set(node.output):
            told.update(name for name in node.input if types.get(name) in FLOATS)
        elif node.op_type in _DECIDING and node.input[0] not in told and types.get(node.input[0]) in FLOATS:
            found[node.input[0]] = None
            told.add(node.input[0])
    return [ValueInfoProto(name=name) for name in found]
