"""Knows weights that are stored as integers: which products read them, and what of a new weight can be stored.

    W = step · (q − zero),      q = clip(round(W / step) + zero)

A network that is looked into has such weights laid open as floats, so that their readers are solved as all others are.
Steps and zero points stay as they are: a runtime that fuses a product with what quantises around it takes the bias's
step for the product of the input's and the weight's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.graph.index import Index, attributes

__all__ = ["Grid", "lay_open", "product_of"]

_KINDS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32)
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Grid:
    """Numbers that a stored tensor can stand for.

    Attributes
    ----------
    stored : str
        The tensor of integers.
    step, zero : ndarray
        Of a shape that goes with that of the weight.
    kind : numpy dtype
        Of the integers.
    """

    stored: str
    step: NDArray[np.float32]
    zero: NDArray[np.int64]
    kind: np.dtype[Any]

    def codes(self, value: NDArray[Any]) -> NDArray[Any]:
        """Integers that stand for what is nearest to some numbers."""
        bounds = np.iinfo(self.kind)
        whole = np.rint(value.astype(np.float64) / self.step) + self.zero
        return np.asarray(np.clip(whole, bounds.min, bounds.max).astype(self.kind))

    def value(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """What integers stand for."""
        return np.asarray((codes.astype(np.int64) - self.zero).astype(np.float32) * self.step)

    def nearest(self, value: NDArray[Any]) -> NDArray[np.float32]:
        """The nearest numbers that can be stored."""
        return self.value(self.codes(value))


def lay_open(proto: ModelProto) -> dict[str, Grid]:
    """Make products of integers products of floats, in place: dequantised weights and biases are what they stand for.

    Parameters
    ----------
    proto : ModelProto
        With its weights in it.

    Returns
    -------
    dict of str to Grid
        By the names of the tensors that the products read.
    """
    index = Index(proto)
    found = {node.output[0]: grid for node, grid in _dequantised(index)}
    nodes: list[NodeProto] = []
    for node in index.nodes:
        spelled = _Spelled.of(node, index)
        if spelled is not None:
            nodes += spelled.nodes
            found |= spelled.grids
        elif node.output[0] not in found:
            nodes.append(node)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, grid in found.items():
        value = grid.value(numpy_helper.to_array(stored[grid.stored]))
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return found


def product_of(result: str) -> str:
    """Name of the product, laid open, of an operator on integers whose result has a name."""
    return f"{result}_product"


@dataclass(frozen=True)
class _Layer:
    """Where an operator on integers has its inputs, as (value, step, zero), and which operator it is on floats."""

    operator: str
    weight: tuple[int, int, int]
    result: tuple[int, int]
    bias: int | None
    axis: int


_LAYERS = {
    "QLinearConv": _Layer("Conv", (3, 4, 5), (6, 7), 8, 0),
    "QLinearMatMul": _Layer("MatMul", (3, 4, 5), (6, 7), None, 1),
    "QGemm": _Layer("Gemm", (3, 4, 5), (7, 8), 6, 1),
}


@dataclass(frozen=True)
class _Spelled:
    """An operator on integers as one on floats, between two that convert."""

    nodes: tuple[NodeProto, ...]
    grids: dict[str, Grid]

    @classmethod
    def of(cls, node: NodeProto, index: Index) -> "_Spelled | None":
        """Spell a node out; None where it is another one, or something of it is computed or shared."""
        layer = _LAYERS.get(node.op_type)
        names = [*node.input, "", ""]
        if layer is None or not all(names[place] for place in layer.result):
            return None
        given, result = attributes(node), node.output[0]
        axis = layer.axis - 1 if "transB" in given and given["transB"].i else layer.axis
        weight = _stored(index, [names[place] for place in layer.weight], axis)
        entry = _value(index, names[1])
        if weight is None or entry is None or entry.size != 1:
            return None
        grids, inputs = {f"{result}_weight": weight}, [f"{result}_input", f"{result}_weight"]
        bias = names[layer.bias] if layer.bias is not None else ""
        if bias:
            if not _is_own(bias, index) or index.weights[bias].data_type != TensorProto.INT32:
                return None
            step = (entry.reshape(()) * weight.step).reshape(-1) if weight.step.size > 1 else entry * weight.step
            grids[f"{result}_bias"] = Grid(bias, step, np.zeros(1, np.int64), np.dtype(np.int32))
            inputs.append(f"{result}_bias")
        product = helper.make_node(layer.operator, inputs, [product_of(result)], name=node.name)
        product.attribute.extend(node.attribute)
        before = helper.make_node("DequantizeLinear", names[:3], inputs[:1])
        after = helper.make_node("QuantizeLinear", [product.output[0], *(names[k] for k in layer.result)], [result])
        return cls((before, product, after), grids)


def _is_own(name: str, index: Index) -> bool:
    """Tell whether a tensor is an initializer that one node alone reads."""
    return name in index.weights and name not in index.producer and index.is_private(name)


def _value(index: Index, name: str) -> NDArray[Any] | None:
    return numpy_helper.to_array(index.weights[name]) if name in index.weights else None


def _dequantised(index: Index) -> Iterator[tuple[NodeProto, Grid]]:
    """Yield nodes that dequantise a weight or bias for one product alone."""
    for node in index.nodes:
        given = attributes(node)
        if node.op_type != "DequantizeLinear" or "block_size" in given or not index.is_private(node.output[0]):
            continue
        (edge,) = index.consumers[node.output[0]]
        if index.operators[edge.node] in _PRODUCTS and edge.input > 0:
            grid = _stored(index, list(node.input), given["axis"].i if "axis" in given else 1)
            if grid is not None:
                yield node, grid


def _stored(index: Index, names: Sequence[str], axis: int) -> Grid | None:
    """Grid of a weight, step and zero point that are stored, of one or of each position along an axis; else None."""
    step, zero = (_value(index, name) for name in [*names, ""][1:3])
    if not _is_own(names[0], index) or step is None or step.dtype != np.float32 or not (step > 0).all():
        return None
    if zero is None and any(names[2:]):
        return None
    tensor = index.weights[names[0]]
    axis %= max(len(tensor.dims), 1)
    if tensor.data_type not in _KINDS or (step.size > 1 and step.shape != tuple(tensor.dims[axis : axis + 1])):
        return None
    kind = numpy_helper.to_array(tensor).dtype
    zero = np.zeros(1, kind) if zero is None else zero
    along = [-1 if place == axis else 1 for place in range(len(tensor.dims))]
    step, zero = (part.reshape(along) if part.size > 1 else part.reshape(()) for part in (step, zero))
    return Grid(names[0], step, zero.astype(np.int64), kind)
