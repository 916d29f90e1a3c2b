"""Cutting a graph into sections, so that each has few enough weights and nodes; nothing is run here.

Sections are runs of nodes in the graph's own order. What is computed from stored tensors alone belongs to no section by
itself: it is computed wherever it is read, so that no weight crosses a cut.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, ValueInfoProto

from onnxprune.graph.index import graphs_of, outer_reads
from onnxprune.graph.tensors import holders, is_external, payload_bytes

__all__ = ["Limits", "Section", "Sections"]

_RANDOM = "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial Bernoulli Dropout"
_DRAWING = frozenset(_RANDOM.split())


@dataclass(frozen=True)
class Limits:
    """What a section may have at most; a node that has more by itself is a section of its own.

    Attributes
    ----------
    weights : int
        Bytes of external weights.
    nodes : int
    """

    weights: int
    nodes: int

    def allow(self, proto: ModelProto) -> bool:
        """Tell whether a whole network is below these limits."""
        return len(proto.graph.node) <= self.nodes and _external_bytes(proto) <= self.weights


@dataclass(frozen=True)
class Section:
    """Nodes that run together.

    Attributes
    ----------
    nodes : tuple of int
        In order, with those that compute what follows from stored tensors alone.
    stored : frozenset of str
        Stored tensors that they need.
    reads : tuple of str
        Inputs of the network and tensors of earlier sections.
    hands_on : tuple of str
        What later sections read of what is made here.
    outputs : tuple of str
        Outputs of the network that are made here.
    drops : tuple of str
        What is read here for the last time.
    """

    nodes: tuple[int, ...]
    stored: frozenset[str]
    reads: tuple[str, ...]
    hands_on: tuple[str, ...]
    outputs: tuple[str, ...]
    drops: tuple[str, ...]


def _external_bytes(proto: ModelProto) -> int:
    """Bytes of the weights that lie outside a protobuf."""
    return sum(payload_bytes(holder.tensor) for holder in holders(proto) if is_external(holder.tensor))


class Sections:
    """A graph, cut.

    Parameters
    ----------
    proto : ModelProto
        Not modified.
    limits : Limits or sequence of int
        What a section may have, or the numbers of the nodes before which the graph is cut.
    """

    def __init__(self, proto: ModelProto, limits: Limits | Sequence[int]) -> None:
        graph = proto.graph
        self._proto = proto
        self._nodes = list(graph.node)
        self._inputs = {value.name: value for value in graph.input}
        self._outputs = {value.name: value for value in graph.output}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self._size = {name: payload_bytes(tensor) * is_external(tensor) for name, tensor in self._stored.items()}
        self._size |= dict.fromkeys(self._sparse, 0)
        self._needs = [tuple(dict.fromkeys(filter(None, (*node.input, *outer_reads(node))))) for node in self._nodes]
        self._constant: dict[str, int] = {}
        self._made: dict[str, int] = {}
        for number, node in enumerate(self._nodes):
            made = self._constant if self._is_constant(number, node) else self._made
            made.update((name, number) for name in node.output if name)
        # Outputs that are stored, or follow from stored tensors alone, go with the last section: onnxruntime takes no
        # network in which nothing is computed.
        self._fixed = [name for name in self._outputs if name not in self._made and not self._is_fed(name)]
        ends = () if isinstance(limits, Limits) else (*limits, len(self._nodes))
        self._runs = list(self._cut(limits)) if isinstance(limits, Limits) else list(map(range, (0, *ends), ends))

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, place: int) -> Section:
        run, final = self._runs[place], place == len(self._runs) - 1
        own = [number for number in run if self._is_own(number)]
        needs = dict.fromkeys(name for number in own for name in self._needs[number])
        made = dict.fromkeys(name for number in own for name in self._nodes[number].output if name)
        later = {name for number in range(run.stop, len(self._nodes)) for name in self._needs[number]}
        outputs = [name for name in made if name in self._outputs]
        if final:
            outputs += self._fixed
        constants, stored = self._constants_of([*needs, *outputs])
        reads = [name for name in needs if self._made.get(name, run.stop) < run.start or self._is_fed(name)]
        hands_on = [name for name in made if name in later]
        drops = [name for name in reads if name not in later]
        nodes = sorted({*own, *constants})
        return Section(tuple(nodes), frozenset(stored), tuple(reads), tuple(hands_on), tuple(outputs), tuple(drops))

    def join(self, place: int) -> None:
        """Make one section of two that follow each other, the first given."""
        first, second = self._runs[place : place + 2]
        self._runs[place : place + 2] = [range(first.start, second.stop)]

    def proto(self, section: Section, incoming: Iterable[ValueInfoProto]) -> ModelProto:
        """Return a section as a network of its own; `incoming` says what is known of what it reads from others."""
        part = ModelProto(ir_version=self._proto.ir_version)
        part.opset_import.extend(self._proto.opset_import)
        part.functions.extend(self._proto.functions)
        graph = part.graph
        graph.name = self._proto.graph.name
        graph.node.extend(self._nodes[number] for number in section.nodes)
        stored = sorted(section.stored)
        graph.initializer.extend(self._stored[name] for name in stored if name in self._stored)
        graph.sparse_initializer.extend(self._sparse[name] for name in stored if name in self._sparse)
        # Initializers are inputs too where the IR is old.
        graph.input.extend(self._inputs[name] for name in (*section.reads, *stored) if name in self._inputs)
        graph.input.extend(value for value in incoming if value.name not in self._inputs)
        graph.output.extend(self._outputs[name] for name in section.outputs)
        graph.output.extend(ValueInfoProto(name=name) for name in section.hands_on if name not in self._outputs)
        return part

    def _is_fed(self, name: str) -> bool:
        return name in self._inputs and name not in self._size

    def _is_constant(self, number: int, node: NodeProto) -> bool:
        known = all(name in self._size or name in self._constant for name in self._needs[number])
        return known and node.op_type not in _DRAWING and not any(True for _ in graphs_of(node))

    def _is_own(self, number: int) -> bool:
        """Tell whether a node belongs to the section that it lies in."""
        return not any(name in self._constant for name in self._nodes[number].output)

    def _constants_of(self, names: Sequence[str]) -> tuple[set[int], set[str]]:
        """Nodes and stored tensors that these names are computed from, where from nothing else."""
        nodes: set[int] = set()
        stored: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self._size:
                stored.add(name)
            elif name in self._constant and self._constant[name] not in nodes:
                nodes.add(self._constant[name])
                pending.extend(self._needs[self._constant[name]])
        return nodes, stored

    def _inner(self, number: int) -> int:
        """Bytes of external weights in a node's attributes and subgraphs."""
        node = self._nodes[number]
        if not any(attribute.HasField("t") or any(True for _ in graphs_of(node)) for attribute in node.attribute):
            return 0
        alone = ModelProto()
        alone.graph.node.append(node)
        return _external_bytes(alone)

    def _cut(self, limits: Limits) -> Iterator[range]:
        """Yield runs of nodes that are within the limits together, as far as single nodes allow."""
        start, total, count = 0, 0, 0
        held: set[str] = set()
        for number in filter(self._is_own, range(len(self._nodes))):
            constants, stored = self._constants_of(self._needs[number])
            inner = sum(map(self._inner, (number, *constants)))
            more = inner + sum(self._size[name] for name in stored - held)
            if count == limits.nodes or (total and total + more > limits.weights):
                yield range(start, number)
                start, total, count, held = number, 0, 0, set()
                more = inner + sum(self._size[name] for name in stored)
            total += more
            count += 1
            held |= stored
        yield range(start, len(self._nodes))
