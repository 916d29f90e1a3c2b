"""Weights computed from stored ones, computed once: standardised, spectrally normalised, merged ones.

Where a layer's weight is made, in the graph, from stored tensors by an operator that mixes their positions (a mean, a
normalisation, a product), no channel of it could go without changing the others. What comes out is the same on every
run, so it is stored in place of what it was made from, unless that would take more room.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.errors import ModelError
from onnxprune.graph.index import Index
from onnxprune.graph.model import SMALL, Model
from onnxprune.graph.runtime import CPU, Session
from onnxprune.graph.tensors import count, is_external, payload_bytes, point
from onnxprune.graph.unread import drop_unread, find_unread
from onnxprune.prepare.precision import has_other_floats, widen

__all__ = ["fold_weights"]

_LAYERS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "DeformConv": (1, 3),
    "Einsum": (0, 1),
    "FusedConv": (1, 2),
    "FusedGemm": (1, 2),
    "FusedMatMul": (0, 1),
    "GRU": (1, 2, 3),
    "Gemm": (0, 1, 2),
    "LSTM": (1, 2, 3),
    "MatMul": (0, 1),
    "RNN": (1, 2, 3),
}
"""Operators that contract a weight, and the inputs that it comes by."""

_CARRYING = """Abs Add Cast CastLike Ceil Clip Concat Constant ConstantOfShape Cos Div Elu Erf Exp Expand Flatten Floor
    Gather Gelu Identity LeakyRelu Log Max Min Mul Neg Pow Range Reciprocal Relu Reshape Shape Sigmoid Sign Sin Size
    Slice Softplus Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Where"""
_CARRIED = frozenset(_CARRYING.split())
"""Operators through which channels of a weight can be followed; all others mix its positions."""

_PUTTING = frozenset(["ScatterElements", "ScatterND"])
"""Operators that put numbers into a stored tensor, as into the part of a bias that stays zero."""

_QUANTIZING = frozenset(["DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"])
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})

RESIDENT = 1 << 28
"""Bytes of computed weights that stay in memory where the network keeps its own on disk."""

_log = logging.getLogger(__name__)


def fold_weights(model: Model) -> int:
    """Store the weights that are computed by mixing stored ones, in place of what they are computed from.

    Parameters
    ----------
    model : Model
        Edited in place; a stored weight has the name of the computed one.

    Returns
    -------
    int
        How many weights are stored now.
    """
    if not _computes_from_stored(model.proto.graph):
        return 0
    index = Index(model.proto)
    cones = [cone for name in _targets(index) if (cone := _cone(index, name)) is not None]
    folded, room = list[str](), RESIDENT
    for group in _sharing(cones, index):
        values = _store(model, index, group, room)
        folded += values
        room -= sum(value.nbytes for value in values.values())
    if folded:
        drop_unread(model.proto, folded)
    return len(folded)


def _computes_from_stored(graph: GraphProto) -> bool:
    """Tell whether any node reads stored tensors alone, without the index that finds out what follows from that."""
    stored = {tensor.name for tensor in graph.initializer}
    stored.update(name for node in graph.node if node.op_type == "Constant" for name in node.output)
    return any(node.input and stored.issuperset(filter(None, node.input)) for node in graph.node)


@dataclass(frozen=True)
class _Cone:
    """A computed weight, the nodes that compute it, and the stored tensors that they start from."""

    target: str
    nodes: frozenset[int]
    stored: frozenset[str]


def _targets(index: Index) -> list[str]:
    """Weights of layers, and whatever numbers were put into, that are computed from stored tensors alone."""
    names: dict[str, None] = {}
    for node in index.nodes:
        if node.op_type in _PUTTING and node.output[0] in index.constants:
            names[node.output[0]] = None
        found = [node.input[place] for place in _LAYERS.get(node.op_type, ()) if place < len(node.input)]
        if not index.constants.issuperset(filter(None, node.input)):
            names |= dict.fromkeys(name for name in found if name in index.constants and name not in index.weights)
    return list(names)


def _cone(index: Index, target: str) -> _Cone | None:
    """Find what a weight is computed by, None where that mixes nothing or has to stay as it is."""
    nodes, stored, pending, seen = set[int](), set[str](), [target], {target}
    while pending:
        name = pending.pop()
        if name in index.weights:
            stored.add(name)
            continue
        number = index.producer[name]
        nodes.add(number)
        fresh = {name for name in index.nodes[number].input if name} - seen
        seen |= fresh
        pending += sorted(fresh)
    operators = {index.nodes[number].op_type for number in nodes}
    floating = any(index.weights[name].data_type in _FLOATS for name in stored)
    if operators <= _CARRIED or operators & _QUANTIZING or not floating:
        return None
    return _Cone(target, frozenset(nodes), frozenset(stored))


def _sharing(cones: list[_Cone], index: Index) -> list[list[_Cone]]:
    """Sort cones into groups that have nodes or big stored tensors in common."""
    groups: list[tuple[set[object], list[_Cone]]] = []
    for cone in cones:
        own: set[object] = {*cone.nodes, *(name for name in cone.stored if count(index.weights[name]) > SMALL)}
        joined = [group for group in groups if group[0] & own]
        groups = [group for group in groups if not group[0] & own]
        groups.append((own.union(*(keys for keys, _ in joined)), [*(c for _, many in joined for c in many), cone]))
    return [members for _, members in groups]


def _store(model: Model, index: Index, cones: list[_Cone], resident: int) -> dict[str, NDArray[Any]]:
    """Add what some cones compute to the stored tensors; returns it, nothing where that would take more room.

    Of weights that come from big ones on disk, no more than `resident` bytes are kept in memory.
    """
    graph = model.proto.graph
    part = _Part(model, index, cones)
    freed = find_unread(model.proto, part.targets)
    room = sum(payload_bytes(tensor) for tensor in graph.initializer if tensor.name in freed.stored)
    made = {name for number in freed.nodes for name in graph.node[number].output}
    room += sum(payload_bytes(index.weights[name]) for name in made & index.weights.keys())
    try:
        values = part.values()
    except ModelError as error:
        _log.debug("cannot compute %s: %s", ", ".join(part.targets), error)
        return {}
    kinds = {helper.np_dtype_to_tensor_dtype(value.dtype) for value in values.values()}
    size = sum(value.nbytes for value in values.values())
    if not kinds <= _FLOATS or size > room:
        return {}
    for name, value in values.items():
        tensor = numpy_helper.from_array(value, name)
        if size > resident and part.is_external and value.size > SMALL and value.dtype.kind == "f":
            # It is computed anew whenever it is read.
            point(tensor, {"location": "computed"})
            model.replace(tensor, value.shape, _Again(part, name))
        graph.initializer.append(tensor)
        if model.proto.ir_version < 4:
            graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(value.shape)))
    return values


class _Part:
    """The part of a network that computes some weights, as a network of its own."""

    def __init__(self, model: Model, index: Index, cones: list[_Cone]) -> None:
        self.model = model
        self.targets = [cone.target for cone in cones]
        numbers = sorted(frozenset[int]().union(*(cone.nodes for cone in cones)))
        self.nodes = [_copy(index.nodes[number]) for number in numbers]
        self.stored: dict[str, TensorProto] = {}
        for name in sorted(frozenset[str]().union(*(cone.stored for cone in cones))):
            # A copy, so that what becomes of the network later makes no difference.
            self.stored[name] = TensorProto()
            self.stored[name].CopyFrom(index.weights[name])
            self.stored[name].name = name

    @property
    def is_external(self) -> bool:
        """Tell whether any of the stored tensors is kept outside the protobuf."""
        return any(map(is_external, self.stored.values()))

    def values(self) -> dict[str, NDArray[Any]]:
        """Compute the weights, in float32 where onnxruntime cannot do it in their own type."""
        try:
            part = self._network()
            return self._run(part, part.detach())
        except ModelError:
            if not has_other_floats(self._network().proto):
                raise
        part, kinds = self._network(), self._kinds()
        values = self._run(part, widen(part))
        return {name: value.astype(helper.tensor_dtype_to_np_dtype(kinds[name])) for name, value in values.items()}

    def _kinds(self) -> dict[str, int]:
        """Element types of the weights."""
        inferred = onnx.shape_inference.infer_shapes(self._network().skeleton())
        kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.output}
        if not _FLOATS.issuperset(kinds.values()):
            raise ModelError("the type of a computed weight is not known")
        return kinds

    def _network(self) -> Model:
        proto = ModelProto(ir_version=max(self.model.proto.ir_version, 4))
        proto.opset_import.extend(self.model.proto.opset_import)
        proto.functions.extend(self.model.proto.functions)
        proto.graph.name = "weights"
        proto.graph.node.extend(self.nodes)
        for tensor in self.stored.values():
            proto.graph.initializer.append(tensor)
        proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in self.targets)
        return replace(self.model, proto=proto)

    def _run(self, part: Model, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        session = Session(part.proto.SerializeToString(), (CPU,), part.folder if part.data_files else None, weights)
        return session.run({})


@dataclass(frozen=True)
class _Again:
    """Computes one of a part's weights whenever it is asked."""

    part: _Part
    name: str

    def __call__(self) -> NDArray[Any]:
        return self.part.values()[self.name]


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied
