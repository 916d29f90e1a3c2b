"""Calibration data in files: .npz, .npy, folders of them, `test_data_set_*` folders, polygraphy's JSON; no pictures.

Nothing is ever unpickled. Shapes are read from the files' headers; numbers when they are asked for.
"""

import base64
import binascii
import functools
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxprune.calibrate.parts import Arrays, Header, Part, part_of
from onnxprune.errors import DataError

__all__ = ["checked_labels", "read_labels", "read_npy", "read_npz", "read_polygraphy", "read_test_sets"]

_DAMAGED = (
    ValueError,
    EOFError,
    OSError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    DecodeError,
    TypeError,
    MemoryError,
)
_LABELS = ("y", "label", "labels", "target", "targets")


def _careful(path: Path, action: Callable[[], Any]) -> Any:
    """Do something with a file, or say what is wrong with it."""
    try:
        return action()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; check the name") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if any(word in reason for word in ("pickle", "Object arrays", "Python objects")):
            raise DataError(
                f"{path}: it holds Python objects, which are never unpickled; save arrays of numbers"
            ) from error
        raise DataError(f"{path}: cannot read it ({reason}); the file is damaged, write it again") from error


def _header(stream: BinaryIO) -> Header:
    """Shape and element type at the beginning of an array's bytes."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays")
    return Header(tuple(shape), dtype)


def read_npy(path: Path) -> Part:
    """Open an .npy file, which stays on disk.

    Raises
    ------
    DataError
        If it is damaged, or holds Python objects.
    """
    array = _careful(path, lambda: np.load(path, mmap_mode="r", allow_pickle=False))
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: it is no .npy file; name an archive of arrays .npz")
    return part_of(str(path), {"": array})


def read_npz(path: Path, wanted: tuple[str, ...], *, positions: bool = False) -> tuple[Part, NDArray[np.int64] | None]:
    """Open an .npz file; its arrays are read when they are asked for.

    Parameters
    ----------
    path : Path
    wanted : tuple of str
        The inputs of the network. Where there is one, an array of any name is taken for it if there is no other.
    positions : bool
        Whether there may be a class for each position of a sample.

    Returns
    -------
    Part
    ndarray of int or None
        Classes, where one of the arrays is called y, label, labels, target or targets.

    Raises
    ------
    DataError
        If it is damaged, or holds Python objects.
    """

    def headers() -> dict[str, Header]:
        found = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as stream:
                    found[name.removesuffix(".npy")] = _header(stream)  # type: ignore[arg-type]
        return found

    found = _careful(path, headers)
    labels = [name for name in found if name in _LABELS and name not in wanted and found[name].dtype.kind in "iu"]
    given = [name for name in found if name not in labels]
    alias = {name: name for name in found}
    if len(wanted) == 1 and len(given) == 1:
        alias = {"": given[0]}

    def read() -> Arrays:
        def load() -> Arrays:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[source] for name, source in alias.items() if source not in labels}

        arrays: Arrays = _careful(path, load)
        return arrays

    classes = None
    if len(labels) == 1 and (positions or len(found[labels[0]].shape) == 1):
        with np.load(path, allow_pickle=False) as archive:
            classes = _careful(path, lambda: archive[labels[0]].astype(np.int64))
    chosen = {name: found[source] for name, source in alias.items() if source not in labels}
    return Part(str(path), chosen, functools.lru_cache(1)(read)), classes


def read_labels(path: Path, *, positions: bool = False) -> NDArray[np.int64]:
    """Read classes, one per sample, from an .npy file, or from an .npz file with one such array.

    Parameters
    ----------
    path : Path
    positions : bool
        Whether there may be one for each position of a sample.

    Raises
    ------
    DataError
        If they are no such whole numbers.
    """
    if path.suffix.lower() not in (".npy", ".npz"):
        raise DataError(f"--labels {path}: files of this kind are not read; give .npy or .npz")
    value = _careful(path, lambda: np.load(path, allow_pickle=False))
    if isinstance(value, np.ndarray):
        rows = {"": value}
    else:
        rows = _careful(path, lambda: {name: value[name] for name in value.files})
        value.close()
    named = {name: row for name, row in rows.items() if name in _LABELS}
    rows = named if named else rows
    if len(rows) != 1:
        raise DataError(f"--labels {path}: it holds {len(rows)} arrays, {', '.join(rows)}; name the classes 'labels'")
    (array,) = rows.values()
    return checked_labels(array, f"--labels {path}", positions=positions)


def checked_labels(array: NDArray[Any], site: str, *, positions: bool = False) -> NDArray[np.int64]:
    """Check that an array is classes: of samples, or also of their positions, where negative ones are not known."""
    shaped = array.ndim == 1 or (positions and array.ndim > 1)
    if shaped and not positions and array.dtype.kind == "i" and array.size and array.min() < 0:
        raise DataError(f"{site}: there is class {array.min()}; classes are whole numbers from 0 on")
    if not shaped or array.dtype.kind not in "iu":
        whose = "one per sample, or per position of each" if positions else "one per sample"
        raise DataError(
            f"{site}: classes are whole numbers from 0 on, {whose}, not {array.dtype} of the shape {list(array.shape)}"
        )
    return array.astype(np.int64)


def read_test_sets(folders: list[Path], inputs: tuple[str, ...]) -> list[Part]:
    """Open folders with files input_0.pb, input_1.pb and so on, one per input in the network's order.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    return [_test_set(folder, inputs) for folder in folders]


def _test_set(folder: Path, inputs: tuple[str, ...]) -> Part:
    def read() -> Arrays:
        arrays = {}
        for number, name in enumerate(inputs):
            path = folder / f"input_{number}.pb"
            if not path.is_file():
                raise DataError(f"{folder}: there is no {path.name}, for input '{name}' of the network; add it")
            tensor = onnx.TensorProto()

            def parse(path: Path = path, tensor: onnx.TensorProto = tensor) -> NDArray[Any]:
                tensor.ParseFromString(path.read_bytes())
                return numpy_helper.to_array(tensor)

            arrays[name] = _careful(path, parse)
        return arrays

    arrays = read()
    return Part(str(folder), part_of(str(folder), arrays).headers, read)


def read_polygraphy(path: Path) -> list[Part]:
    """Open a JSON of inputs as polygraphy writes it: a list of feeds, whose arrays are .npy files in base64.

    Raises
    ------
    DataError
        If it is damaged, or another JSON.
    """
    feeds = _careful(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(feeds, list) or not all(isinstance(feed, dict) for feed in feeds):
        raise DataError(f"{path}: it is no list of inputs; write one with polygraphy's save_json(feeds, file)")
    return [
        part_of(f"{path}, feed {number}", {name: _decoded(path, name, value) for name, value in feed.items()})
        for number, feed in enumerate(feeds)
    ]


def _decoded(path: Path, name: str, value: Any) -> NDArray[Any]:
    """One array; newer versions wrap it once more."""
    for _ in range(3):
        if isinstance(value, str):
            break
        known = ("array", "values", "__polygraphy_encoded_ndarray")
        inner = [value[key] for key in known if key in value] if isinstance(value, dict) else []
        if not inner:
            raise DataError(f"{path}: '{name}' is no array as polygraphy writes them; use its save_json(feeds, file)")
        value = inner[0]
    text = value

    def load() -> NDArray[Any]:
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"'{name}': {error}") from error
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))

    array: NDArray[Any] = _careful(path, load)
    return array
