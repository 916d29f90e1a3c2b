"""Names inside nodes: tensors read and written anywhere below a node, exchanged for others; names that are free."""

from collections.abc import Iterable, Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto

from onnxprune.graph.index import graphs_of

__all__ = ["FreeNames", "defined", "rename"]


class FreeNames:
    """Names of tensors and of nodes that a model does not use yet.

    Parameters
    ----------
    model : ModelProto
        All of whose names are taken, those in subgraphs too.
    """

    def __init__(self, model: ModelProto) -> None:
        self._taken = set(_names(model.graph))

    def take(self, name: str) -> str:
        """Return `name`, with a number behind it where it is taken, and take it."""
        fresh, number = name, 1
        while fresh in self._taken:
            number += 1
            fresh = f"{name}_{number}"
        self._taken.add(fresh)
        return fresh


def _names(graph: GraphProto) -> Iterator[str]:
    yield from defined(graph)
    yield from (value.name for value in graph.value_info)
    for node in graph.node:
        yield node.name
        for inner in graphs_of(node):
            yield from _names(inner)


def defined(graph: GraphProto) -> Iterator[str]:
    """Yield the names that a graph itself gives to tensors: inputs, initializers, and outputs of its nodes."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)


def rename(nodes: Iterable[NodeProto], names: Mapping[str, str]) -> None:
    """Exchange names of tensors in nodes and in their subgraphs, in place; what a subgraph defines itself stays.

    Parameters
    ----------
    nodes : iterable of NodeProto
    names : mapping of str to str
        New names by old ones; the empty name, of an input that is not given, may be a new one.
    """
    if not names:
        return
    for node in nodes:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                if name in names:
                    field[place] = names[name]
        for graph in graphs_of(node):
            own = set(defined(graph))
            outer = {old: new for old, new in names.items() if old not in own}
            rename(graph.node, outer)
            for value in graph.output:
                value.name = outer.get(value.name, value.name)
