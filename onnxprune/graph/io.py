"""Reading and checking ONNX files: one line says what is wrong with a file."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import checker, defs, helper

from onnxprune.errors import ModelError
from onnxprune.graph.model import SMALL, Model
from onnxprune.graph.respell import respell_domains, sort_nodes
from onnxprune.graph.save import PROTOBUF_LIMIT
from onnxprune.graph.tensors import (
    PACKED_BITS,
    Holder,
    count,
    holders,
    is_external,
    is_repeated,
    payload_bytes,
    reference,
)

__all__ = ["check", "from_proto", "load"]

COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
SIGNATURES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the network itself: fetch it with `git lfs pull`"),
    (b"PK\x03\x04", "is a zip archive (a PyTorch checkpoint?): export it with torch.onnx.export first"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"<!DOCTYPE", "is a web page: download the file itself"),
)
TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")
FOREIGN = "onnxprune.foreign"


def load(path: str | os.PathLike[str]) -> Model:
    """Read an ONNX file; external data is found and measured, but stays on disk where it is big.

    Parameters
    ----------
    path : str or path-like
        The `.onnx` file. External data is looked up beside it, then, where it is a symbolic link, beside its target.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        The file or its external data is missing, unreadable, damaged, or holds no network.
    """
    path = Path(path)
    data = _read(path)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(_diagnosis(path, data)) from error
    if not proto.HasField("graph"):
        raise ModelError(_diagnosis(path, data))
    del data
    external = _require_sound(proto, str(path))
    try:
        folder, files = _find_data(path, external)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot read its external data {error.filename}: {error.strerror}; check path and permissions"
        ) from error
    model = Model(proto, path, folder, files)
    for tensor in proto.graph.initializer:
        if is_external(tensor) and count(tensor) <= SMALL:
            # What may spell a shape is to be seen by everybody, onnxruntime's shape inference too.
            model.embed(tensor)
    return model


def from_proto(proto: onnx.ModelProto) -> Model:
    """Take a copy of a network held in memory.

    Parameters
    ----------
    proto : onnx.ModelProto
        Never modified.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        It holds no network, or its weights are external, so that only a file could say where they lie.
    """
    if not proto.HasField("graph"):
        raise ModelError("the ModelProto holds no graph: pass the network that onnx.load returns")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    external = _require_sound(copy, "the ModelProto")
    if external:
        raise ModelError(
            f"the ModelProto keeps tensor {external[0].label} in external data, whose folder is unknown: pass the "
            "file's path, or load it with onnx.load(path, load_external_data=True)"
        )
    return Model(copy)


def check(model: Model) -> None:
    """Run onnx's structural checker without copying weights; operators onnx does not know are let through.

    Parameters
    ----------
    model : Model
        Of any size.

    Raises
    ------
    ModelError
        The checker's complaint on one line.
    """
    skeleton = model.skeleton()
    for holder in holders(skeleton):
        if is_external(holder.tensor):
            # The checker looks for external files; an empty tensor needs no data, and shapes are not its concern here.
            holder.tensor.ClearField("data_location")
            holder.tensor.ClearField("external_data")
            holder.tensor.dims[:] = [0]
    _admit_legal(skeleton)
    _admit_foreign(skeleton)
    try:
        checker.check_model(skeleton)
    except checker.ValidationError as error:
        name = model.path if model.path is not None else "the ModelProto"
        raise ModelError(f"{name} is not a valid ONNX network: {' '.join(str(error).split())}") from error


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder: name the .onnx file in it")
        if not path.exists():
            raise ModelError(f"{path} does not exist: check the path")
        if not path.is_file():
            raise ModelError(f"{path} is not a regular file: save the network to one first")
        if path.stat().st_size >= PROTOBUF_LIMIT:
            raise ModelError(f"{path} exceeds protobuf's 2 GiB: export it again with external data")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
    if not data:
        raise ModelError(f"{path} is empty: download or export it again")
    return data


def _diagnosis(path: Path, data: bytes) -> str:
    for signature, text in SIGNATURES:
        if data.startswith(signature):
            return f"{path} {text}"
    if data[4:8] == b"ORTM":
        return f"{path} is in ORT format: pass the .onnx file it was made from"
    if TEXT.fullmatch(data[:256]):
        return f"{path} is text, not a binary ONNX file: convert it with onnx.parser or onnx.load and onnx.save"
    return f"{path} holds no ONNX graph (damaged, truncated, or another format): download or export it again"


def _require_sound(proto: onnx.ModelProto, name: str) -> list[Holder]:
    """Refuse what no exporter writes, above all files cut short; return the holders of external data."""
    remedy = "the file is truncated or not a network; export it again"
    if not _is_text(proto):
        raise ModelError(
            f"{name} holds a name that is not UTF-8 text: the file is damaged, download or export it again"
        )
    if not proto.graph.node:
        raise ModelError(f"{name} has a graph without nodes: {remedy}")
    if not proto.graph.output:
        raise ModelError(f"{name} has a graph without outputs: {remedy}")
    if proto.ir_version >= 3 and not proto.opset_import:
        raise ModelError(f"{name} imports no operator set: {remedy}")
    external = []
    for holder in holders(proto):
        tensor = holder.tensor
        if tensor.HasField("segment") or min(tensor.dims, default=0) < 0:
            raise ModelError(f"{name}: tensor {holder.label} has segments or a negative size: export the file again")
        if is_external(tensor):
            external.append(holder)
            continue
        needed, found, unit = _measure(tensor)
        if needed != found:
            raise ModelError(
                f"{name}: tensor {holder.label} of shape {list(tensor.dims)} needs {needed} {unit}, but has {found}: "
                "the file is damaged, download or export it again"
            )
    return external


def _is_text(message: Any) -> bool:
    """Tell whether all names in a message are text; protobuf hands out what is not UTF-8 as bytes."""
    payload = isinstance(message, onnx.TensorProto)
    for field in message.DESCRIPTOR.fields if payload else (field for field, _ in message.ListFields()):
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        value = getattr(message, field.name)
        if field.type == field.TYPE_STRING:
            sound = not any(isinstance(text, bytes) for text in (value if is_repeated(value) else (value,)))
        else:
            items = value if is_repeated(value) else (value,) * message.HasField(field.name)
            sound = all(_is_text(item) for item in items)
        if not sound:
            return False
    return True


def _measure(tensor: onnx.TensorProto) -> tuple[int, int, str]:
    """What an embedded tensor needs, what it has, and the unit of both."""
    needed = payload_bytes(tensor)
    if tensor.HasField("raw_data"):
        return needed, len(tensor.raw_data), "bytes"
    if tensor.data_type in COMPLEX:
        needed = 2 * count(tensor)
    elif PACKED_BITS.get(tensor.data_type, 6) == 6:
        # Elements of 4 and 2 bits fill bytes, a byte to a stored value; all others take a value each.
        needed = count(tensor)
    return needed, len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))), "values"


def _find_data(path: Path, external: list[Holder]) -> tuple[Path, tuple[Path, ...]]:
    places = [(holder, reference(holder.tensor)) for holder in external]
    folders = [path.parent, path.resolve().parent]
    found = (folder for folder in folders if all((folder / place.location).is_file() for _, place in places))
    folder = next(found, path.parent)
    sizes: dict[Path, int] = {}
    for holder, place in places:
        file = folder / place.location
        if not file.is_file():
            raise ModelError(f"{path}: tensor {holder.label} keeps its data in {file}, which is missing: put it there")
        if file not in sizes:
            with file.open("rb") as stream:
                sizes[file] = os.fstat(stream.fileno()).st_size
        if place.offset + place.length > sizes[file]:
            raise ModelError(
                f"{path}: tensor {holder.label} needs {file} up to byte {place.offset + place.length}, but it ends at "
                f"{sizes[file]}: the data file is truncated, download or export it again"
            )
    return folder, tuple(sizes)


def _admit_legal(proto: onnx.ModelProto) -> None:
    """Write what onnxruntime takes, and the specification allows, as the checker wants it.

    Nodes in any order, a graph without a name, a standard domain that is written out, outputs without a type or rank
    (as after a plugin).
    """
    graph = proto.graph
    graph.name = graph.name or "graph"
    for value in graph.output:
        if value.type.WhichOneof("value") is None:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    respell_domains(proto)
    sort_nodes(graph)


def _admit_foreign(proto: onnx.ModelProto) -> None:
    """Move operators without a schema at the model's opset into a domain of their own, which the checker lets through.

    TensorRT plugins in the default domain or in one that is not imported are legal inputs; so is what onnxruntime
    knows at opsets where onnx does not (LayerNormalization before 17), or no longer does (GroupNormalization 18).
    """
    local = {(function.domain, function.name) for function in proto.functions}
    for container, nodes in ((proto, _nodes(proto.graph)), *((each, _nodes(each)) for each in proto.functions)):
        versions = {_domain(entry.domain): entry.version for entry in container.opset_import}
        foreign = [
            node
            for node in nodes
            if (node.domain, node.op_type) not in local
            and not _has_schema(node.op_type, _domain(node.domain), versions.get(_domain(node.domain)))
        ]
        for node in foreign:
            node.domain = FOREIGN
        if foreign:
            container.opset_import.add(domain=FOREIGN, version=1)


def _nodes(container: Any) -> Iterator[onnx.NodeProto]:
    for node in container.node:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _has_schema(operator: str, domain: str, version: int | None) -> bool:
    if version is None:
        return bool(defs.has(operator, domain))
    try:
        return not defs.get_schema(operator, version, domain).deprecated
    except defs.SchemaError:
        return False
