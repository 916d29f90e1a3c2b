"""An index over the main graph of a model: who makes a tensor, who reads it, which tensors are weights."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from onnxprune.graph.tensors import PACKED_BITS, count, holders

__all__ = ["WEIGHT_TYPES", "Edge", "Index", "attributes", "graphs_of", "node_site", "outer_reads", "weights_of"]

WEIGHT_TYPES = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT16,
        TensorProto.UINT16,
        *PACKED_BITS,
        *(number for name, number in TensorProto.DataType.items() if name.startswith("FLOAT8")),
    }
)
"""Element types whose tensors count as parameters; integers of 64 bits spell sizes and positions."""

_NUMBERS = {"DequantizeLinear": (0, 2), "QLinearConv": (8,), "QGemm": (6,)}
"""Inputs of quantised operators at which integers of 32 bits are biases, not sizes and positions either."""

_DRAWING = frozenset(
    ["Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)
"""Operators that may give something else on every run."""


class Edge(NamedTuple):
    """Input number `input` of node number `node`."""

    node: int
    input: int


def node_site(node: NodeProto) -> str:
    """Name a node for a message: its name and operator, or its first output where it has no name."""
    name = node.name or next((output for output in node.output if output), "")
    return f"{name} ({node.op_type})"


def attributes(node: NodeProto) -> dict[str, AttributeProto]:
    """Return the attributes of a node by name."""
    return {attribute.name: attribute for attribute in node.attribute}


def graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the subgraphs of a node (If, Loop, Scan), not theirs."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    pending = [graph]
    while pending:
        current = pending.pop()
        for node in current.node:
            yield node
            pending.extend(graphs_of(node))


def outer_reads(node: NodeProto) -> set[str]:
    """Names that the subgraphs of a node read; those they define themselves are harmless to include."""
    names: set[str] = set()
    for graph in graphs_of(node):
        names.update(name for inner in _all_nodes(graph) for name in inner.input if name)
        names.update(output.name for output in graph.output)
    return names


def _biases(nodes: Iterable[tuple[str, Sequence[str]]]) -> set[str]:
    """Names that are read by quantised operators alone, as numbers; nodes are operators and what they read."""
    reads = [(_NUMBERS.get(operator, ()), names) for operator, names in nodes]
    numbers = {names[place] for places, names in reads for place in places if place < len(names)}
    if not numbers:
        return numbers
    others = {name for places, names in reads for place, name in enumerate(names) if place not in places}
    return numbers - others


class Index:
    """Producers, consumers, weights and signature of a model's main graph.

    Attributes
    ----------
    nodes : list of NodeProto
        In the file's order, which is topological.
    producer : dict of str to int
        Node that makes a tensor.
    consumers : dict of str to list of Edge
        Who reads a tensor; a subgraph's reads are in `captured`.
    captured : dict of str to list of int
        Nodes whose subgraphs read a tensor.
    weights : dict of str to TensorProto
        Initializers, and values of Constant nodes by the name of their output.
    biases : set of str
        Tensors that quantised operators alone read: weights, even as integers of 32 bits.
    constants : set of str
        Weights, and tensors computed from nothing else.
    inputs, outputs : list of str
        The signature: inputs that are not initializers, and outputs.
    operators : list of str
        Operator of each node; as with what it reads and makes, a protobuf is slower to ask.
    reads, makes : list of list of str
        What each node reads and makes, in order.
    nested : set of int
        Nodes with subgraphs.
    """

    def __init__(self, proto: ModelProto) -> None:
        graph = proto.graph
        self.proto = proto
        self.opsets = {item.domain if item.domain != "ai.onnx" else "": item.version for item in proto.opset_import}
        self.nodes = list(graph.node)
        self.producer: dict[str, int] = {}
        self.consumers: dict[str, list[Edge]] = defaultdict(list)
        self.captured: dict[str, list[int]] = defaultdict(list)
        self.weights: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.reads = [list(node.input) for node in self.nodes]
        self.makes = [list(node.output) for node in self.nodes]
        self.operators = [node.op_type for node in self.nodes]
        self.nested = {number for number, node in enumerate(self.nodes) if any(graphs_of(node))}
        self._schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}
        for number, operator in enumerate(self.operators):
            for place, name in enumerate(self.reads[number]):
                if name:
                    self.consumers[name].append(Edge(number, place))
            for name in self.makes[number]:
                if name:
                    self.producer[name] = number
            if operator == "Constant" and not self.nodes[number].domain:
                self._add_constant(self.nodes[number])
        for number in sorted(self.nested):
            for name in outer_reads(self.nodes[number]):
                self.captured[name].append(number)
        self.biases = _biases(zip(self.operators, self.reads, strict=True))
        self.constants = self._constants()
        self.inputs = [value.name for value in graph.input if value.name not in self.weights]
        self.outputs = [value.name for value in graph.output]
        self.sparse = {tensor.values.name for tensor in graph.sparse_initializer}

    def _add_constant(self, node: NodeProto) -> None:
        for attribute in node.attribute:
            if _is_value(node, attribute):
                self.weights[node.output[0]] = attribute.t

    def _constants(self) -> set[str]:
        """Names of stored tensors, and of those computed from nothing else."""
        found = set(self.weights)
        beside = found | {""}
        for number, (operator, names) in enumerate(zip(self.operators, self.reads, strict=True)):
            stored = operator == "Constant" and not self.nodes[number].domain
            if stored or (names and beside.issuperset(names) and self._is_steady(number)):
                found.update(self.makes[number])
                beside.update(self.makes[number])
        return found

    def _is_steady(self, number: int) -> bool:
        """Tell whether a node gives the same on every run, given the same."""
        return self.operators[number] not in _DRAWING and number not in self.nested

    def is_weight(self, name: str) -> bool:
        """Tell whether a tensor is a stored one whose elements count as parameters."""
        tensor = self.weights.get(name)
        return tensor is not None and _is_weight(tensor, name, self.biases)

    def is_private(self, name: str) -> bool:
        """Tell whether one node alone reads a tensor, once: no subgraph does, and it is no output."""
        return len(self.consumers.get(name, ())) == 1 and not self.captured.get(name) and name not in self.outputs

    def schema(self, node: NodeProto) -> "onnx.defs.OpSchema | None":
        """Return the operator's schema at the model's opset, None for an operator that ONNX does not define."""
        key = node.domain if node.domain != "ai.onnx" else "", node.op_type
        if key not in self._schemas:
            self._schemas[key] = self._find_schema(*key)
        return self._schemas[key]

    def _find_schema(self, domain: str, operator: str) -> "onnx.defs.OpSchema | None":
        version = self.opsets.get(domain)
        if version is None or not onnx.defs.has(operator, version, domain):
            return None
        return onnx.defs.get_schema(operator, version, domain)


def _is_weight(tensor: TensorProto, name: str, biases: set[str]) -> bool:
    return tensor.data_type in WEIGHT_TYPES or (tensor.data_type == TensorProto.INT32 and name in biases)


def weights_of(model: ModelProto) -> Iterator[int]:
    """Yield the number of elements of every stored tensor that counts as parameters."""
    for holder in holders(model):
        if holder.tensor.data_type in WEIGHT_TYPES:
            yield count(holder.tensor)
    constants = (item for node in model.graph.node if node.op_type == "Constant" for item in node.attribute)
    written = (item.sparse_tensor for item in constants if item.name == "sparse_value")
    for sparse in (*model.graph.sparse_initializer, *written):
        yield from _zeros(sparse)
    for graph in (model.graph, *(inner for node in _all_nodes(model.graph) for inner in graphs_of(node))):
        if not any(node.op_type in _NUMBERS for node in graph.node):
            continue
        biases = _biases((node.op_type, node.input) for node in graph.node)
        stored = {tensor.name: tensor for tensor in graph.initializer}
        stored |= {node.output[0]: item.t for node in graph.node for item in node.attribute if _is_value(node, item)}
        for name in biases & stored.keys():
            if stored[name].data_type == TensorProto.INT32:
                yield count(stored[name])


def _zeros(sparse: SparseTensorProto) -> Iterator[int]:
    """Yield how many elements of a sparse tensor that counts as parameters are not stored."""
    if sparse.values.data_type in WEIGHT_TYPES:
        yield math.prod(sparse.dims) - count(sparse.values)


def _is_value(node: NodeProto, attribute: AttributeProto) -> bool:
    return node.op_type == "Constant" and not node.domain and attribute.name == "value"
