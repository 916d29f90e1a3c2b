"""The part of a network that onnxruntime can run: what lies behind a foreign operator is cut away and left unproved."""

from collections.abc import Collection

from onnx import ModelProto, NodeProto, TensorProto, helper

from onnxprune.graph.index import Index, attributes, graphs_of
from onnxprune.shapes.infer import Shapes
from onnxprune.shapes.standins import is_qonnx

__all__ = ["behind", "cut", "foreign_nodes"]

_COMPARED = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})

_ALSO_KNOWN = """SimplifiedLayerNormalization LayerNormalization Upsample Scatter Affine Crop ImageScaler
    ParametricSoftplus Scale ScaledTanh"""
_CONTRIBUTED = frozenset(_ALSO_KNOWN.split())

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})

_KNOWN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)


def foreign_nodes(index: Index) -> frozenset[int]:
    """Numbers of nodes that onnxruntime cannot run: TensorRT plugins, custom domains, forms it does not know."""
    own = {(function.domain, function.name) for function in index.proto.functions}
    known: dict[tuple[str, str], bool] = {}
    found = set()
    for number, node in enumerate(index.nodes):
        key = node.domain, index.operators[number]
        if key not in known:
            known[key] = key in own or is_qonnx(node) or _is_known(index, node)
        if not known[key] or (key[1] in _RECURRENT and key not in own and _is_batch_first(node)):
            found.add(number)
    return frozenset(found)


def _is_known(index: Index, node: NodeProto) -> bool:
    """Tell whether onnxruntime knows the operator of a node."""
    if node.domain not in _KNOWN_DOMAINS:
        return False
    return node.domain not in ("", "ai.onnx") or index.schema(node) is not None or _is_contributed(node.op_type)


def _is_contributed(operator: str) -> bool:
    """Operators that onnxruntime knows in the standard domain though ONNX does not define them, or did so once."""
    return operator in _CONTRIBUTED


def _is_batch_first(node: NodeProto) -> bool:
    """Tell whether a recurrent layer has a layout that no provider of onnxruntime takes."""
    layout = attributes(node).get("layout")
    return node.op_type in _RECURRENT and layout is not None and bool(layout.i)


def behind(index: Index, foreign: Collection[int]) -> frozenset[str]:
    """Names of all tensors that depend on a foreign operator."""
    lost: set[str] = set()
    for number, node in enumerate(index.nodes):
        captured = {name for name in lost if number in index.captured.get(name, ())} if any(graphs_of(node)) else set()
        if number in foreign or captured or any(name in lost for name in node.input):
            lost.update(name for name in node.output if name)
    return frozenset(lost)


def cut(proto: ModelProto, index: Index, shapes: Shapes, lost: Collection[str]) -> None:
    """Remove, in place, every node that makes or needs a lost tensor; what such nodes read becomes an output.

    Parameters
    ----------
    proto : ModelProto
        The original, its twin or the pruned network.
    index, shapes
        Of the original.
    lost : collection of str
        From `behind`.
    """
    if not lost:
        return
    graph = proto.graph
    gone, dead = set(lost), set()
    for place, node in enumerate(graph.node):
        # A twin has nodes that the original, and so `lost`, knows nothing of.
        if gone.intersection(node.output) or gone.intersection(node.input):
            dead.add(place)
            gone.update(name for name in node.output if name)
    ends = dict.fromkeys(name for place in sorted(dead) for name in graph.node[place].input)
    made = {name for node in graph.node for name in node.output} - gone
    for place in sorted(dead, reverse=True):
        del graph.node[place]
    for place in range(len(graph.output) - 1, -1, -1):
        if graph.output[place].name in gone:
            del graph.output[place]
    present = {value.name for value in graph.output}
    for name in ends:
        if name in made and name not in present and shapes.types.get(name) in _COMPARED:
            graph.output.append(helper.make_tensor_value_info(name, shapes.types[name], None))
