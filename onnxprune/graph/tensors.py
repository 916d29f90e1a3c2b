"""Tensors that carry data in a protobuf: where they lie, how big they are, and where their bytes are kept."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper

from onnxprune.errors import ModelError

__all__ = [
    "PACKED_BITS",
    "Holder",
    "Reference",
    "bits_of",
    "clear",
    "copy_message",
    "count",
    "dtype_of",
    "holders",
    "is_external",
    "is_repeated",
    "location_of",
    "payload_bytes",
    "point",
    "reference",
    "weight_bytes",
]

_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
# Bits per element of the types that share bytes, as far as the installed onnx knows them.
PACKED_BITS = {number: _PACKED[name] for name, number in onnx.TensorProto.DataType.items() if name in _PACKED}
_PAYLOAD = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_SIZE = re.compile("[0-9]{1,19}")
# Messages that tensors can lie in, and the fields that lead to them.
_NESTED: dict[type, tuple[str, ...]] = {
    onnx.ModelProto: ("graph", "functions", "training_info"),
    onnx.TrainingInfoProto: ("initialization", "algorithm"),
    onnx.GraphProto: ("initializer", "sparse_initializer", "node"),
    onnx.FunctionProto: ("attribute_proto", "node"),
    onnx.NodeProto: ("attribute",),
    onnx.AttributeProto: ("t", "g", "sparse_tensor", "tensors", "graphs", "sparse_tensors"),
    onnx.SparseTensorProto: ("values", "indices"),
}
_PLAIN = ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS", "TYPE_PROTO", "TYPE_PROTOS")
_PLAIN_ATTRIBUTES = frozenset(onnx.AttributeProto.AttributeType.Value(name) for name in _PLAIN)


class Holder(NamedTuple):
    """A tensor that carries data, the field and the node (if any) that it lies in, and whether it is an initializer.

    An initializer is a dense one of a graph.
    """

    tensor: onnx.TensorProto
    field: str
    node: str
    initializer: bool

    @property
    def label(self) -> str:
        """How to call it in a message."""
        owner = f" of node '{self.node}'" if self.node else ""
        return f"'{self.tensor.name or self.field}'{owner}"


@dataclass(frozen=True)
class Reference:
    """Where external data lies: a normalised path relative to the model's folder, and a range of bytes."""

    location: Path
    offset: int
    length: int


def holders(proto: onnx.ModelProto) -> Iterator[Holder]:
    """Yield every tensor with data: initializers (sparse ones too), attributes, in subgraphs, functions and training.

    Parameters
    ----------
    proto : onnx.ModelProto

    Yields
    ------
    Holder
        In the order of the file, the same for equal files.
    """
    yield from _within(proto, "")


def _within(message: Any, label: str) -> Iterator[Holder]:
    if isinstance(message, onnx.NodeProto):
        label = message.name or next(iter(message.output), message.op_type)
    for name in _NESTED[type(message)]:
        value = getattr(message, name)
        present = value if is_repeated(value) else [value] * message.HasField(name)
        for item in present:
            if isinstance(item, onnx.TensorProto):
                node = label if isinstance(message, onnx.AttributeProto) else ""
                yield Holder(item, getattr(message, "name", name), node, name == "initializer")
            elif not _is_plain(item):
                yield from _within(item, label)


def _is_plain(message: Any) -> bool:
    """Tell of an attribute or a node whether no tensor lies in it."""
    if isinstance(message, onnx.AttributeProto):
        return message.type in _PLAIN_ATTRIBUTES
    return isinstance(message, onnx.NodeProto) and _PLAIN_ATTRIBUTES.issuperset([a.type for a in message.attribute])


def is_repeated(value: Any) -> bool:
    """Whether a field's value is one of several."""
    return hasattr(value, "extend")


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes lie outside the protobuf (in a data file, or not yet computed)."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def count(tensor: onnx.TensorProto) -> int:
    """Number of elements, from the dimensions alone."""
    return math.prod(tensor.dims)


def payload_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes the tensor takes as raw data, from dimensions and element type alone; strings count as stored.

    Raises
    ------
    ModelError
        The element type is unknown to the installed onnx.
    """
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return -(-count(tensor) * bits_of(tensor) // 8)


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Bytes that all tensors of a network take as raw data, wherever they are."""
    return sum(payload_bytes(holder.tensor) for holder in holders(proto))


def bits_of(tensor: onnx.TensorProto) -> int:
    """Bits that an element of the tensor takes as raw data."""
    return PACKED_BITS.get(tensor.data_type) or 8 * dtype_of(tensor).itemsize


def dtype_of(tensor: onnx.TensorProto) -> np.dtype[Any]:
    """NumPy's (or ml_dtypes') type of the tensor's elements.

    Raises
    ------
    ModelError
        The element type is unknown to the installed onnx.
    """
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError as error:
        raise ModelError(
            f"tensor '{tensor.name}' has element type {tensor.data_type}, unknown to onnx {onnx.__version__}: "
            "repair the file or install a newer onnx"
        ) from error


def reference(tensor: onnx.TensorProto) -> Reference:
    """Read and check the external-data entries of a tensor, without touching the file they name.

    Raises
    ------
    ModelError
        The location is absolute or leaves the model's folder, or an entry is not a size.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts: list[str] = []
    for part in location.replace("\\", "/").split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    absolute = location.startswith(("/", "\\")) or location[1:2] == ":"
    if absolute or not parts or ".." in parts or "\0" in location:
        raise ModelError(
            f"tensor '{tensor.name}' keeps its data in {location!r}, which is not a file inside the model's folder: "
            "put the data file beside the model and save it with a relative location"
        )
    needed = payload_bytes(tensor)
    offset, length = entries.get("offset", "0"), entries.get("length", str(needed))
    if not (_SIZE.fullmatch(offset) and _SIZE.fullmatch(length)) or int(length) != needed:
        raise ModelError(
            f"tensor '{tensor.name}' of shape {list(tensor.dims)} takes {needed} bytes, but its external data is said "
            f"to be {length!r} bytes at offset {offset!r} of {location!r}: the file is damaged, export it again"
        )
    name = Path(*parts) if ".." in location else Path(location)
    return Reference(name, int(offset), needed)


def point(tensor: onnx.TensorProto, entries: Mapping[str, str | int]) -> None:
    """Drop the tensor's payload and let it claim to be external, with these entries."""
    clear(tensor, tuple(tensor.dims))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


def location_of(tensor: onnx.TensorProto) -> str:
    """Name of the data file that an external tensor claims, empty for an embedded one."""
    if not is_external(tensor):
        return ""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def clear(tensor: onnx.TensorProto, shape: tuple[int, ...]) -> None:
    """Drop the tensor's payload, and give it another shape."""
    for name in _PAYLOAD:
        tensor.ClearField(name)
    if is_external(tensor):
        tensor.ClearField("data_location")
    tensor.ClearField("external_data")
    tensor.ClearField("dims")
    tensor.dims.extend(shape)


def copy_message(source: Any, target: Any, put: Callable[[onnx.TensorProto, onnx.TensorProto, bool], None]) -> None:
    """Copy a message field by field, handing tensors to `put`, so that no payload is copied on the way."""
    if _is_plain(source):
        target.CopyFrom(source)
        return
    nested = _NESTED[type(source)]
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if name not in nested:
            if hasattr(value, "MergeFrom"):
                getattr(target, name).MergeFrom(value)
            else:
                setattr(target, name, value)
            continue
        for item in value if is_repeated(value) else (value,):
            slot = getattr(target, name).add() if is_repeated(value) else getattr(target, name)
            slot.SetInParent()
            if isinstance(item, onnx.TensorProto):
                put(item, slot, isinstance(source, onnx.SparseTensorProto))
            else:
                copy_message(item, slot, put)
