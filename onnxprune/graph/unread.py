"""What nobody reads any more: nodes and stored tensors that lost their last reader, and all that only they needed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from onnx import ModelProto

from onnxprune.graph.index import outer_reads

__all__ = ["Unread", "drop_unread", "find_unread"]


@dataclass(frozen=True)
class Unread:
    """Numbers of nodes, and names of stored tensors, that are read by nobody."""

    nodes: frozenset[int]
    stored: frozenset[str]


def find_unread(model: ModelProto, lost: Iterable[str]) -> Unread:
    """Find what would be read by nobody if the nodes that make some tensors were not there.

    Parameters
    ----------
    model : ModelProto
        Of its main graph.
    lost : iterable of str
        Tensors that their nodes need not make, be it that nobody reads them or that they come from elsewhere.

    Returns
    -------
    Unread
    """
    graph = model.graph
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    readers.update(name for node in graph.node for name in outer_reads(node))
    producer = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    free = set(lost)
    pending, dead, candidates = list(free), set[int](), set(free)
    while pending:
        number = producer.get(pending.pop())
        if number is None or number in dead:
            continue
        node = graph.node[number]
        if any(readers[name] and name not in free for name in node.output if name):
            continue
        dead.add(number)
        for name in (*filter(None, node.input), *outer_reads(node)):
            readers[name] -= 1
            if not readers[name]:
                pending.append(name)
                candidates.add(name)
    stored = {item.name for item in graph.initializer} & candidates
    return Unread(frozenset(dead), frozenset(name for name in stored if not readers[name]))


def drop_unread(model: ModelProto, lost: Iterable[str]) -> None:
    """Remove, in place, what `find_unread` finds, and what the file says of it.

    Parameters
    ----------
    model : ModelProto
    lost : iterable of str
        See `find_unread`. Where a stored tensor of such a name is there, its description stays.
    """
    graph = model.graph
    found = find_unread(model, lost)
    gone = {name for number in found.nodes for name in graph.node[number].output} | found.stored
    for number in sorted(found.nodes, reverse=True):
        del graph.node[number]
    for place in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[place].name in found.stored:
            del graph.initializer[place]
    gone -= {tensor.name for tensor in graph.initializer} | {name for node in graph.node for name in node.output}
    for values in (graph.value_info, graph.input):
        for place in range(len(values) - 1, -1, -1):
            if values[place].name in gone:
                del values[place]
