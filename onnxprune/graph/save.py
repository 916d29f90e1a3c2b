"""Writing files: beside the target and renamed, several of them together, so that no half file is ever left."""

import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from onnxprune.errors import OutputError
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import Holder, holders, is_external, payload_bytes, point, weight_bytes

__all__ = ["EMBEDDED_LIMIT", "PROTOBUF_LIMIT", "Staged", "append_text", "check_target", "stage", "stage_text"]

# Protobuf's limit for one message is 2 GiB; above EMBEDDED_LIMIT weights go to a data file, with room for the rest.
PROTOBUF_LIMIT = 1 << 31
EMBEDDED_LIMIT = 1_900_000_000
# Below this many bytes a tensor stays in the protobuf, as onnx.save does by default.
EXTERNAL_MINIMUM = 1024
# Offsets that can be memory-mapped (onnx/docs/ExternalData.md): a page for tensors above 1 MB, a cache line otherwise.
PAGE, CACHE_LINE, PAGE_MINIMUM = 4096, 64, 1 << 20
_DATA = ".data"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Staged:
    """An output file, complete and loadable, that is not yet in its place.

    Attributes
    ----------
    path : Path
        The temporary file; a network's external data, if any, lies beside it.
    target : Path
        Where `commit` moves it.
    """

    path: Path
    target: Path

    def commit(self, *others: "Staged") -> None:
        """Move this file and others into place, replacing what is there; close all readers of them before.

        External data goes first and a network last; where one of them fails, those already moved are put back.

        Raises
        ------
        OutputError
            The file system refuses.
        """
        moves = [move for staged in (*others, self) for move in staged._moves()]
        with _uninterrupted(), ExitStack() as undo:
            for number, (source, target) in enumerate(moves):
                with _reporting(target):
                    if number + 1 < len(moves):
                        undo.callback(_put_aside(target, self.path.parent / f"{number}.old"))
                    source.replace(target)
            undo.pop_all()

    def _moves(self) -> Iterator[tuple[Path, Path]]:
        for suffix in (_DATA, ""):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                yield source, self.target.with_name(self.target.name + suffix)


def _put_aside(target: Path, place: Path) -> Any:
    """Keep what is at a target; returns what brings it back."""
    if not target.exists():
        return lambda: target.unlink(missing_ok=True)
    # A hard link would be smoother, but not every file system has them; the target reappears at once.
    target.replace(place)
    return lambda: place.replace(target)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = False

    def remember(*_: object) -> None:
        nonlocal caught
        caught = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if caught:
        signal.raise_signal(signal.SIGINT)


def check_target(path: Path, inputs: Iterable[Path | None] = (), *, companions: Sequence[str] = (_DATA,)) -> None:
    """Find out whether an output file can be written, before the work starts.

    Parameters
    ----------
    path : Path
        Where the file is to be written.
    inputs : iterable of Path or None
        Files that must not be overwritten.
    companions : sequence of str
        Suffixes of the files that are written with it.

    Raises
    ------
    OutputError
        The folder is missing or not writable, the target is no regular file, or it is one of the inputs.
    """
    with _reporting(path):
        folder = path.parent
        if not folder.is_dir():
            state = "is not a folder" if folder.exists() else "does not exist"
            raise OutputError(f"cannot write {path}: {folder} {state}; create the folder, or choose another")
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; name a file in it")
        for output in (path, *(path.with_name(path.name + suffix) for suffix in companions)):
            if output.exists() and not output.is_file():
                raise OutputError(f"cannot write {path}: {output} is not a regular file; choose another output name")
            for file in inputs:
                if file is not None and output.exists() and file.exists() and output.samefile(file):
                    raise OutputError(f"cannot write {path}: {output} is read as an input; choose another output name")
        # Permissions do not tell (root, read-only and virtual file systems): try.
        shutil.rmtree(_make_folder(path))


@contextmanager
def stage(model: Model, path: Path, *, external: bool | None = None) -> Iterator[Staged]:
    """Write a network into a temporary folder beside the target; without `commit`, nothing of it remains.

    Parameters
    ----------
    model : Model
        Deferred tensors are computed one at a time; the model itself is left as it is.
    path : Path
        The target.
    external : bool, optional
        Whether weights go to `<path>.data`. By default they do if the input's did or if they exceed 1.9 GB.

    Yields
    ------
    Staged

    Raises
    ------
    OutputError
        See `check_target`; the disk is full; or the weights do not fit into one file and `external` is False.
    """
    path = Path(path)
    check_target(path, (model.path, *model.data_files))
    total = weight_bytes(model.proto)
    if external is None:
        external = bool(model.data_files) or total > EMBEDDED_LIMIT
    if not external and total >= PROTOBUF_LIMIT:
        raise OutputError(f"cannot write {path}: {total} bytes of weights exceed protobuf's 2 GiB; save external data")
    with _folder_beside(path) as folder:
        with _reporting(path, total):
            _write(model, folder / path.name, external=external)
        yield Staged(folder / path.name, path)


@contextmanager
def stage_text(path: Path, text: str) -> Iterator[Staged]:
    """Write a text into a temporary folder beside the target; without `commit`, nothing of it remains.

    Parameters
    ----------
    path : Path
        The target.
    text : str

    Yields
    ------
    Staged

    Raises
    ------
    OutputError
        The disk is full, or the folder is not writable.
    """
    with _folder_beside(path) as folder:
        with _reporting(path, len(text)), (folder / path.name).open("wb") as file:
            file.write(text.encode())
            _settle(file)
        yield Staged(folder / path.name, path)


def append_text(path: Path, text: str) -> None:
    """Write a text at the end of a file.

    Raises
    ------
    OutputError
        The disk is full, or the file is not writable.
    """
    with _reporting(path, len(text)), path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    with _reporting(path):
        folder = _make_folder(path)
    try:
        yield folder
    finally:
        with _uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)


def _make_folder(path: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=".onnxprune.", suffix=".tmp", dir=path.parent))


@contextmanager
def _reporting(path: Path, size: int = 0) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = f"choose a folder with {max(size / 1e6, 0.1):.1f} MB to spare"
        remedy = full if error.errno in _FULL else "choose another output"
        raise OutputError(f"cannot write {path}: {error.strerror}; {remedy}") from error


def _write(model: Model, path: Path, *, external: bool) -> None:
    proto = model.proto
    if external:
        proto = onnx.ModelProto()
        proto.CopyFrom(model.proto)
        data_file = path.with_name(path.name + _DATA)
        with data_file.open("wb") as file:
            for holder in holders(proto):
                _place(model, holder, file, data_file.name)
            _settle(file)
        if not data_file.stat().st_size:
            data_file.unlink()
    elif any(is_external(holder.tensor) for holder in holders(proto)):
        proto = model.materialise()
    try:
        data = proto.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise OutputError(f"cannot write {path.name}: protobuf's 2 GiB are exceeded; save external data") from error
    with path.open("wb") as file:
        file.write(data)
        _settle(file)


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _place(model: Model, holder: Holder, file: BinaryIO, location: str) -> None:
    """Move one tensor of a copy of the protobuf into the data file; small ones and embedded attributes stay inside."""
    tensor = holder.tensor
    size = payload_bytes(tensor)
    movable = holder.initializer and tensor.data_type != onnx.TensorProto.STRING
    if size < EXTERNAL_MINIMUM or not (movable or is_external(tensor)):
        if is_external(tensor):
            model.embed(tensor)
        return
    file.write(bytes(-file.tell() % (PAGE if size > PAGE_MINIMUM else CACHE_LINE)))
    offset = file.tell()
    for chunk in model.chunks(tensor):
        file.write(chunk)
    point(tensor, {"location": location, "offset": offset, "length": size})
