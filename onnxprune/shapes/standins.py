"""Standard operators that stand in for quantised ones of onnxruntime and QONNX, of which ONNX cannot infer shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper

from onnxprune.graph.index import attributes

__all__ = ["QONNX", "infer_standin", "is_qonnx"]

QONNX = ("finn.custom_op.general", "onnx.brevitas", "qonnx.custom_op.general")
"""Domains of the operators of QONNX, which round to some number of bits."""

_OPSET = 17
_POOLING = ("auto_pad", "ceil_mode", "kernel_shape", "pads", "strides")


@dataclass(frozen=True)
class _StandIn:
    """An operator with the same shapes: its name, the inputs it has, which input tells the type, attributes it has."""

    operator: str
    inputs: tuple[int, ...]
    kind: int = 0
    attributes: tuple[str, ...] = ()


_STAND_INS = {
    "DequantizeLinear": _StandIn("Identity", (0,), 1),
    "DynamicQuantizeMatMul": _StandIn("MatMul", (0, 1)),
    "MatMulIntegerToFloat": _StandIn("MatMul", (0, 1), 2),
    "QLinearAdd": _StandIn("Add", (0, 3)),
    "QLinearAveragePool": _StandIn("AveragePool", (0,), 0, _POOLING),
    "QLinearGlobalAveragePool": _StandIn("GlobalAveragePool", (0,)),
    "QLinearLeakyRelu": _StandIn("Identity", (0,)),
    "QLinearMul": _StandIn("Mul", (0, 3)),
    "QLinearReduceMean": _StandIn("ReduceMean", (0,), 0, ("axes", "keepdims")),
    "QLinearSigmoid": _StandIn("Identity", (0,)),
    "QLinearSoftmax": _StandIn("Identity", (0,)),
    "QLinearWhere": _StandIn("Where", (0, 1, 4), 1),
    "QuantizeLinear": _StandIn("Identity", (0,), 2),
}


def is_qonnx(node: NodeProto) -> bool:
    """Tell whether a node is one of QONNX's that rounds numbers, which onnxruntime does not know."""
    return node.domain in QONNX and node.op_type in ("BipolarQuant", "Quant")


def _stand_in(node: NodeProto) -> _StandIn | None:
    if is_qonnx(node):
        return _StandIn("Identity", (0,))
    if node.domain != "com.microsoft":
        return None
    if node.op_type == "QLinearConcat":
        return _StandIn("Concat", tuple(range(2, len(node.input), 3)), 2, ("axis",))
    if node.op_type == "QGemm":
        quantised = len(node.input) > 7 and node.input[7]
        return _StandIn("Gemm", (0, 3), 0 if quantised else 1, ("transA", "transB"))
    return _STAND_INS.get(node.op_type)


def infer_standin(
    node: NodeProto, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, int]
) -> tuple[tuple[int, ...], int] | None:
    """Shape and type of the output of a quantised node.

    Parameters
    ----------
    node : NodeProto
    shapes, types
        Of tensors by name, as far as they are known.

    Returns
    -------
    tuple of int, int or None
        None where nothing stands in for the operator, or too little is known.

    Raises
    ------
    onnx.shape_inference.InferenceError
        If the inputs do not fit together.
    """
    if node.domain == "com.microsoft" and node.op_type == "MatMulNBits":
        return _in_blocks(node, shapes, types)
    standin = _stand_in(node)
    if standin is None or any(node.input[place] not in shapes for place in standin.inputs):
        return None
    found = {name: helper.get_attribute_value(item) for name, item in attributes(node).items()}
    last = bool(found.get("channels_last", 0))
    given = [shapes[node.input[place]] for place in standin.inputs]
    chosen = {name: found[name] for name in standin.attributes if name in found}
    shape = _infer(standin.operator, [_channels_second(size) for size in given] if last else given, chosen)
    return (_channels_last(shape) if last else shape), _type(node, standin.kind, types)


def _type(node: NodeProto, place: int, types: Mapping[str, int]) -> int:
    """Type of an input; that of a zero point that is not given is UINT8."""
    name = node.input[place] if place < len(node.input) else ""
    return types.get(name, TensorProto.UINT8)


def _channels_second(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1])


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1])


def _infer(operator: str, given: list[tuple[int, ...]], chosen: Mapping[str, Any]) -> tuple[int, ...]:
    names = [f"x{place}" for place in range(len(given))]
    node = helper.make_node(operator, names, ["y"], **chosen)
    first = TensorProto.BOOL if operator == "Where" else TensorProto.FLOAT
    kinds = {
        name: helper.make_tensor_type_proto(first if place == 0 else TensorProto.FLOAT, shape)
        for place, (name, shape) in enumerate(zip(names, given, strict=True))
    }
    schema = onnx.defs.get_schema(operator, _OPSET)
    found = onnx.shape_inference.infer_node_outputs(schema, node, kinds)["y"]
    return tuple(dim.dim_value for dim in found.tensor_type.shape.dim)


def _in_blocks(
    node: NodeProto, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, int]
) -> tuple[tuple[int, ...], int] | None:
    """MatMulNBits: (…, K) becomes (…, N)."""
    name = node.input[0]
    if name not in shapes:
        return None
    return (*shapes[name][:-1], attributes(node)["N"].i), types.get(name, TensorProto.FLOAT)
