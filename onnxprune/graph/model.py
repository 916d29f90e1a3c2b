"""An ONNX file in memory: its protobuf and the value of every tensor, wherever the bytes lie; not what nodes mean."""

import math
import mmap
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxprune.graph.tensors import (
    PACKED_BITS,
    bits_of,
    clear,
    copy_message,
    count,
    dtype_of,
    holders,
    is_external,
    location_of,
    point,
    reference,
)

__all__ = ["SMALL", "Model"]

# Elements up to which a tensor's value may spell a shape: such tensors stay in a skeleton and are never deferred.
SMALL = 1024
CHUNK = 1 << 24
# Below this many bytes it is not worth the trouble to give pages back.
WORTHWHILE = 1 << 16
# No file name can hold NUL, and `reference` refuses it, so a file can never forge a deferred value.
DEFERRED = "\0deferred "


_NATIVE = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})


@dataclass(frozen=True)
class _Deferred:
    make: Callable[[], NDArray[Any]]
    before: onnx.TensorProto


def _pack(value: NDArray[Any], data_type: int) -> Any:
    """Little-endian bytes of an array as ONNX stores them, without a copy where elements are whole bytes."""
    if data_type in PACKED_BITS:
        return numpy_helper.from_array(value).raw_data
    return np.asarray(value, order="C").reshape(-1).view(np.uint8).data


class _Detached(Mapping[str, NDArray[Any]]):
    """Weights by name, those that are deferred computed at each look."""

    def __init__(self, model: "Model", taken: dict[str, NDArray[Any] | onnx.TensorProto]) -> None:
        self._model = model
        self._taken = taken

    def __getitem__(self, name: str) -> NDArray[Any]:
        value = self._taken[name]
        return self._model.array(value) if isinstance(value, onnx.TensorProto) else value

    def __contains__(self, name: object) -> bool:
        return name in self._taken

    def __iter__(self) -> Iterator[str]:
        return iter(self._taken)

    def __len__(self) -> int:
        return len(self._taken)


@dataclass(frozen=True, eq=False)
class Model:
    """A network whose protobuf is edited in place, while big external weights stay on disk until it is saved.

    Attributes
    ----------
    proto : onnx.ModelProto
        Tensors with external data keep `data_location` EXTERNAL; read them through `array`, write through `replace`.
    path : Path or None
        The file it came from.
    folder : Path or None
        Where its external data lies; None without external data to find.
    data_files : tuple of Path
        The external data files as they were found; never written to.
    """

    proto: onnx.ModelProto = field(repr=False)
    path: Path | None = None
    folder: Path | None = None
    data_files: tuple[Path, ...] = ()
    _maps: dict[Path, mmap.mmap] = field(default_factory=dict, repr=False)
    _deferred: dict[str, _Deferred] = field(default_factory=dict, repr=False)
    _running: set[str] = field(default_factory=set, repr=False)

    def array(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """Value of a tensor of this model.

        Parameters
        ----------
        tensor : onnx.TensorProto
            An initializer or a tensor attribute.

        Returns
        -------
        ndarray
            Read-only, of the tensor's shape and element type (`ml_dtypes` for those numpy lacks). External data is
            memory-mapped, and its pages are given back with the last reference to the array; a deferred value is
            computed at each call, embedded data is copied.
        """
        deferred = self._deferred.get(location_of(tensor))
        if deferred is not None:
            return self._evaluate(location_of(tensor), deferred, tensor)
        if not is_external(tensor):
            value = numpy_helper.to_array(tensor)
        elif bits_of(tensor) % 8:
            value = numpy_helper.to_array(
                onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=b"".join(self.chunks(tensor)))
            )
        else:
            value = self._mapped(tensor).view(dtype_of(tensor)).reshape(tuple(tensor.dims))
        value = value.view()
        value.setflags(write=False)
        return value

    def replace(self, tensor: onnx.TensorProto, shape: tuple[int, ...], make: Callable[[], NDArray[Any]]) -> None:
        """Give a tensor a new value of the same element type.

        Parameters
        ----------
        tensor : onnx.TensorProto
            A tensor of this model.
        shape : tuple of int
            Shape of the new value; it is the tensor's at once.
        make : callable
            Returns the new value. Called at once, or, where the data is external and the new value has more than
            `SMALL` elements, whenever the value is read; `array(tensor)` inside `make` is the value before. What else
            `make` reads must be bound by then: other tensors may have changed.
        """
        if not is_external(tensor) or math.prod(shape) <= SMALL:
            value = make()
            self._accept(value, shape, tensor)
            clear(tensor, shape)
            if tensor.data_type == onnx.TensorProto.STRING:
                tensor.string_data.extend(numpy_helper.from_array(value).string_data)
            else:
                tensor.raw_data = bytes(_pack(value, tensor.data_type))
            return
        before = onnx.TensorProto()
        before.CopyFrom(tensor)
        key = f"{DEFERRED}{len(self._deferred)}"
        self._deferred[key] = _Deferred(make, before)
        clear(tensor, shape)
        point(tensor, {"location": key})

    def chunks(self, tensor: onnx.TensorProto) -> Iterator[Any]:
        """Yield the tensor's raw little-endian bytes in pieces (buffers of bytes), without loading it whole.

        Computed and embedded values come in one piece.
        """
        if not is_external(tensor) and tensor.HasField("raw_data"):
            yield tensor.raw_data
        elif not is_external(tensor) or location_of(tensor) in self._deferred:
            yield _pack(self.array(tensor), tensor.data_type)
        else:
            place = reference(tensor)
            for start in range(0, place.length, CHUNK):
                yield self._mapped(tensor, start, CHUNK)

    def embed(self, tensor: onnx.TensorProto) -> None:
        """Put an external tensor's bytes into `tensor`, which may belong to a copy of this model's protobuf."""
        raw = b"".join(self.chunks(tensor))
        clear(tensor, tuple(tensor.dims))
        tensor.raw_data = raw

    def skeleton(self) -> onnx.ModelProto:
        """Copy without the payload of tensors of more than `SMALL` elements, for shape inference and the checker.

        Returns
        -------
        onnx.ModelProto
            Dropped tensors keep name, dimensions and type, and claim to be external; all others are embedded.
        """
        target = onnx.ModelProto()
        copy_message(self.proto, target, self._put_skeleton)
        return target

    def detach(self) -> Mapping[str, NDArray[Any]]:
        """Take the big embedded weights of the main graph out of the protobuf, which is then no more than a skeleton.

        Returns
        -------
        mapping of str to ndarray
            The weights by name, for a session that is given them in memory; those of types that NumPy lacks stay.
            Deferred values are among them, and computed whenever they are asked for.
        """
        taken: dict[str, NDArray[Any] | onnx.TensorProto] = {}
        for tensor in self.proto.graph.initializer:
            deferred = location_of(tensor) in self._deferred
            if count(tensor) <= SMALL or tensor.data_type not in _NATIVE or (is_external(tensor) and not deferred):
                continue
            if deferred:
                # It stays as it is, since what computes its value may ask for the value before.
                taken[tensor.name] = tensor
                continue
            taken[tensor.name] = self.array(tensor)
            point(tensor, {"location": "detached"})
        return _Detached(self, taken)

    def materialise(self) -> onnx.ModelProto:
        """Copy with every external or deferred tensor embedded, as an in-memory user of onnx expects it."""
        target = onnx.ModelProto()
        target.CopyFrom(self.proto)
        for holder in holders(target):
            if is_external(holder.tensor):
                self.embed(holder.tensor)
        return target

    def copy(self) -> "Model":
        """An independent copy of the protobuf over the same data files; embedded weights are duplicated."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Model(proto, self.path, self.folder, self.data_files, self._maps, self._deferred, self._running)

    def _put_skeleton(self, source: onnx.TensorProto, target: onnx.TensorProto, keep: bool) -> None:
        if keep or count(source) <= SMALL:
            target.CopyFrom(source)
            if is_external(target):
                self.embed(target)
            return
        target.name, target.data_type = source.name, source.data_type
        target.dims.extend(source.dims)
        point(target, {"location": "dropped"})

    def _evaluate(self, key: str, deferred: _Deferred, tensor: onnx.TensorProto) -> NDArray[Any]:
        if key in self._running:
            return self.array(deferred.before)
        self._running.add(key)
        try:
            value = deferred.make()
        finally:
            self._running.discard(key)
        self._accept(value, tuple(tensor.dims), tensor)
        value = value.view()
        value.setflags(write=False)
        return value

    @staticmethod
    def _accept(value: NDArray[Any], shape: tuple[int, ...], tensor: onnx.TensorProto) -> None:
        assert value.shape == tuple(shape), f"'{tensor.name}': new value has shape {value.shape}, {shape} was announced"
        expected = dtype_of(tensor)
        assert value.dtype == expected or tensor.data_type == onnx.TensorProto.STRING, (
            f"'{tensor.name}': new value is {value.dtype}, the tensor {expected}"
        )

    def _mapped(self, tensor: onnx.TensorProto, start: int = 0, count: int | None = None) -> NDArray[np.uint8]:
        """Bytes of an external tensor, whose pages leave this process's memory with the last reference to the array."""
        assert self.folder is not None, f"'{tensor.name}' has external data, but the model has no folder"
        place = reference(tensor)
        if place.length == 0:
            return np.empty(0, np.uint8)
        path = self.folder / place.location
        if path not in self._maps:
            with path.open("rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole, first = self._maps[path], place.offset + start
        last = place.offset + min(place.length, place.length if count is None else start + count)
        array = np.frombuffer(memoryview(whole)[first:last], np.uint8)
        if hasattr(mmap, "MADV_DONTNEED") and last - first > WORTHWHILE:
            page = first - first % mmap.PAGESIZE
            whole.madvise(mmap.MADV_WILLNEED, page, last - page)
            weakref.finalize(array, whole.madvise, mmap.MADV_DONTNEED, page, last - page).atexit = False
        return array
