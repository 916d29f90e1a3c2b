"""A network's floats made float32, for what onnxruntime cannot run as it is; and those too small for it made zero.

Stored tensors, the targets of Cast and of all that names a type, and what is declared of tensors change together, so
that the result is as well typed as the network was. What it computes differs by rounding alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, numpy_helper

from onnxprune.graph.index import graphs_of
from onnxprune.graph.model import SMALL, Model
from onnxprune.graph.tensors import count, holders, is_external
from onnxprune.shapes.infer import Shapes

__all__ = ["OTHER_FLOATS", "flush", "has_other_floats", "rounded", "widen", "widened", "widened_shapes"]

OTHER_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
"""Element types, other than float32, that networks compute in."""

# Attributes whose number stands for an element type.
_TYPE_NAMES = frozenset(["dtype", "output_datatype", "output_dtype", "softmax_precision", "stash_type", "to"])


def widened_shapes(shapes: Shapes, *, exact: bool = True) -> Shapes:
    """Return what is known of a network's tensors, with the types that they have after `widen`.

    Where numbers were rounded to a type before, and the copies differ by that (not `exact`), a coarser type stays.
    """
    kept = frozenset() if exact else OTHER_FLOATS - {TensorProto.DOUBLE}
    return replace(shapes, types={name: k if k in kept else _wide(k) for name, k in shapes.types.items()})


def _wide(kind: int) -> int:
    return TensorProto.FLOAT if kind in OTHER_FLOATS else kind


def flush(model: Model) -> None:
    """Make weights zero, in place, that have decayed to less than float32 has digits for: they slow a processor down.

    Parameters
    ----------
    model : Model
    """
    for holder in holders(model.proto):
        if holder.tensor.data_type == TensorProto.FLOAT:
            value = model.array(holder.tensor)
            lost = (np.abs(value) < np.finfo(np.float32).tiny) & (value != 0)
            if lost.any():
                cleaned = np.where(lost, np.float32(0), value)
                model.replace(holder.tensor, value.shape, partial(np.asarray, cleaned))


def has_other_floats(proto: ModelProto) -> bool:
    """Tell whether a network stores, takes or casts to floats that are not float32."""
    casts = (attribute for node in proto.graph.node if node.op_type == "Cast" for attribute in node.attribute)
    return (
        any(holder.tensor.data_type in OTHER_FLOATS for holder in holders(proto))
        or any(value.type.tensor_type.elem_type in OTHER_FLOATS for value in proto.graph.input)
        or any(attribute.name == "to" and attribute.i in OTHER_FLOATS for attribute in casts)
    )


def rounded(shapes: Shapes) -> dict[str, NDArray[Any]]:
    """Return the floats that follow from sizes alone, as their own type rounds them, by the names of their tensors."""
    return {
        name: known.value
        for name, known in shapes.known.items()
        if shapes.types.get(name) in OTHER_FLOATS and all(map(shapes.is_static, known.all_sources()))
    }


def widen(
    model: Model,
    weights: Mapping[str, NDArray[Any]] | None = None,
    held: Mapping[str, NDArray[Any]] | None = None,
) -> Mapping[str, NDArray[Any]]:
    """Make all floats of a network float32, in place, and take its big weights out of the protobuf.

    Parameters
    ----------
    model : Model
        Big external weights stay where they are, and are converted whenever they are read.
    weights : mapping of str to ndarray, optional
        What `detach` has taken out of it before.
    held : mapping of str to ndarray, optional
        From `rounded`: tensors that keep the value that they had, so that copies of networks of which one stores such
        a number and the other computes it do not differ by how it is rounded.

    Returns
    -------
    mapping of str to ndarray
        See `Model.detach`.
    """
    proto = model.proto
    taken = weights or {}
    _hold(proto, held or {})
    for holder in list(holders(proto)):
        tensor = holder.tensor
        if tensor.data_type not in OTHER_FLOATS:
            continue
        if holder.initializer and tensor.name in taken:
            tensor.data_type = TensorProto.FLOAT
        elif is_external(tensor) and count(tensor) > SMALL:
            model.replace(tensor, tuple(tensor.dims), _Widened(model, tensor))
            tensor.data_type = TensorProto.FLOAT
        else:
            tensor.CopyFrom(numpy_helper.from_array(_Widened(model, tensor)(), tensor.name))
    for body in (proto.graph, *proto.functions):
        _widen_nodes(body.node)
        _declare(body.value_info)
    _declare((*proto.graph.input, *proto.graph.output))
    return _WideWeights(taken, model.detach())


def widened(model: Model) -> ModelProto:
    """Make all floats float32, and put all weights into the protobuf.

    Parameters
    ----------
    model : Model
        Widened in place.

    Returns
    -------
    ModelProto
    """
    if has_other_floats(model.proto):
        weights = widen(model)
        for tensor in model.proto.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(weights[tensor.name]), tensor.name))
    return model.materialise()


def _hold(proto: ModelProto, held: Mapping[str, NDArray[Any]]) -> None:
    outputs = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        for place, name in enumerate(node.output):
            if name in held and name not in outputs:
                node.output[place] = f"{name}_computed"
                proto.graph.initializer.append(numpy_helper.from_array(_float32(held[name]), name))
    proto.ir_version = max(proto.ir_version, 4)


class _WideWeights(Mapping[str, NDArray[Any]]):
    """Weights by name, those taken before the rest was made float32 converted at each look."""

    def __init__(self, before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> None:
        self.before, self.after = before, after

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name in self.after:
            return self.after[name]
        value = self.before[name]
        return _float32(value) if value.dtype.kind == "f" else value

    def __contains__(self, name: object) -> bool:
        return name in self.after or name in self.before

    def __iter__(self) -> Iterator[str]:
        yield from self.before
        yield from self.after

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def _float32(value: NDArray[Any]) -> NDArray[np.float32]:
    """Convert; what is finite stays so."""
    if value.dtype == np.float64:
        limit = float(np.finfo(np.float32).max)
        value = np.where(np.isfinite(value), np.clip(value, -limit, limit), value)
    wide: NDArray[np.float32] = value.astype(np.float32, copy=False)
    return wide


class _Widened:
    """A tensor's value in float32, computed when it is asked for."""

    def __init__(self, model: Model, tensor: TensorProto) -> None:
        self.model = model
        self.tensor = tensor

    def __call__(self) -> NDArray[np.float32]:
        return _float32(self.model.array(self.tensor))


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.INT and attribute.name in _TYPE_NAMES:
                attribute.i = _wide(attribute.i)
            elif attribute.type == AttributeProto.TYPE_PROTO:
                _widen_type(attribute.tp)
        for graph in graphs_of(node):
            _widen_nodes(graph.node)
            _declare((*graph.input, *graph.output, *graph.value_info))


def _declare(values: Iterable[ValueInfoProto]) -> None:
    for value in values:
        _widen_type(value.type)


def _widen_type(kind: TypeProto) -> None:
    for name in ("tensor_type", "sparse_tensor_type"):
        if kind.HasField(name):
            inner = getattr(kind, name)
            inner.elem_type = _wide(inner.elem_type)
    for name in ("sequence_type", "optional_type"):
        if kind.HasField(name):
            _widen_type(getattr(kind, name).elem_type)
    if kind.HasField("map_type"):
        _widen_type(kind.map_type.value_type)
