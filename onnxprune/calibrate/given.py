"""Calibration data that the user gives: any source as samples, checked and scaled for the network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.admit import Admitted, admit
from onnxprune.calibrate.calibration import Batch, Calibration, Network, Slot, Slots, batched
from onnxprune.calibrate.feeds import Feeds
from onnxprune.calibrate.files import checked_labels, read_labels, read_npy, read_npz, read_polygraphy, read_test_sets
from onnxprune.calibrate.layout import channel_axis, size_note
from onnxprune.calibrate.parts import Part, part_of, parts_of
from onnxprune.calibrate.pictures import picture_parts, pictures_in
from onnxprune.calibrate.respond import find_scale
from onnxprune.calibrate.scale import Scale
from onnxprune.errors import DataError, UsageError

__all__ = ["open_calibration"]

# Pictures that a scale is tried on.
_TRIED = 64
_PIXELS = 1 << 20


@dataclass(frozen=True)
class _Source:
    """Parts, and the classes of all their samples where the source has them."""

    parts: Sequence[Part]
    labels: NDArray[np.int64] | None = None


def open_calibration(
    source: Any,
    network: Network,
    *,
    limit: int = 1024,
    limit_labelled: int | None = None,
    scale: Scale | None = None,
    labels: Any = None,
    positions: bool = False,
) -> Calibration:
    """Take a user's data as inputs of a network.

    Parameters
    ----------
    source : path, array, mapping of str to ndarray, iterable, or anything with `get_next`
        A file (.npz, .npy, a JSON of polygraphy) or a folder (of such, of pictures, of `test_data_set_*`); or arrays:
        one, or one per input by name; or an iterable of such; or an onnxruntime `CalibrationDataReader`. What yields
        only once is kept in memory.
    network : Network
    limit : int
        Samples at most; they are spread evenly over a source whose length is known.
    limit_labelled : int, optional
        The same where their classes are known; by default as many.
    scale : Scale, optional
        What the network takes for the bytes of a picture; found out by default.
    labels : path or ndarray of int, optional
        One class per sample of the source.
    positions : bool
        Whether classes may be of the positions of samples: an array (n, …), negative where they are not known.

    Returns
    -------
    Calibration

    Raises
    ------
    DataError
        If the data cannot be read, or are no inputs of this network.
    """
    slots = Slots.of(network)
    site = f"--labels {labels}" if isinstance(labels, str | PathLike) else "the labels"
    given = None if labels is None else _given(labels, site, positions=positions)
    # One more than there are classes shows that some are missing.
    found = _found(source, slots, limit if given is None else len(given) + 1, positions=positions)
    admitted = [admit(part, slots) for part in found.parts]
    total = sum(part.count for part in admitted)
    if not total:
        raise DataError("the calibration data are empty; give at least one sample")
    classes = _classes(given, found, admitted)
    if classes is not None and classes.size == len(classes):
        classes = classes.reshape(-1)  # one position is none
    if classes is not None and len(classes) != total:
        where = site if given is not None else "the labels in the calibration data"
        raise DataError(f"{where}: there are {len(classes)} classes for {total} samples; give one for each")
    count = min(limit if classes is None else limit_labelled or limit, total)
    notes = list(dict.fromkeys(note for part in admitted for note in part.notes))
    if slots.fixed and count % slots.batch:
        notes.append(f"{count % slots.batch} of {count} samples are left out: they fill no batch of {slots.batch}")
        count -= count % slots.batch
    if not count:
        raise DataError(
            f"the network takes {slots.batch} samples at once, and {min(limit, total)} of {total} are to be used; give "
            "or allow more"
        )
    if count < total:
        notes.append(f"{count} of {total} samples are used, evenly spread")
    if any(part.part.pictures for part in admitted):
        notes += filter(None, [size_note(slots.inputs[0], network.shapes.assumed)])
    chosen = np.arange(count) * total // count
    pictured = _pictured(admitted, slots)
    if pictured is not None and scale is None:
        scale, note = find_scale(network, pictured, _pictures(admitted, chosen, pictured))
        notes.append(note)
    elif pictured is not None and scale is not None:
        notes.append(f"pictures are fed as {scale.name}")

    def start(numbers: NDArray[np.int64]) -> Iterator[Batch]:
        return batched(zip(map(int, numbers), _samples(admitted, chosen[numbers], scale), strict=True), slots)

    return Calibration("given", tuple(notes), count, None if classes is None else classes[chosen], start, chosen)


def _samples(admitted: Sequence[Admitted], chosen: NDArray[np.int64], scale: Scale | None) -> Iterator[Feeds]:
    """Read the samples of the given numbers, part by part."""
    first = 0
    for part in admitted:
        low, high = np.searchsorted(chosen, (first, first + part.count))
        if high > low:
            yield from part.samples(chosen[low:high] - first, scale)
        first += part.count


def _pictured(admitted: Sequence[Admitted], slots: Slots) -> Slot | None:
    """Input of floats that bytes of pictures are given for."""
    for slot in slots.inputs:
        given = {part.part.headers[part.names[slot.name]].dtype for part in admitted}
        if np.dtype(np.uint8) in given and slot.dtype.kind == "f" and channel_axis(slot) is not None:
            return slot
    return None


def _pictures(admitted: Sequence[Admitted], chosen: NDArray[np.int64], slot: Slot) -> NDArray[np.float32]:
    """Some pictures as they came, colours first."""
    few = int(np.clip(_PIXELS // np.prod(slot.shape[2:]), 16, _TRIED))
    some = chosen[np.arange(min(few, len(chosen))) * len(chosen) // min(few, len(chosen))]
    pictures = np.concatenate([sample[slot.name] for sample in _samples(admitted, some, None)])
    if channel_axis(slot) == -1:
        pictures = np.moveaxis(pictures, -1, 1)
    return np.asarray(pictures, np.float32)


def _given(labels: Any, site: str, *, positions: bool) -> NDArray[np.int64]:
    """Classes that are given beside the source."""
    if isinstance(labels, str | PathLike):
        return read_labels(Path(labels), positions=positions)
    return checked_labels(np.asarray(labels), site, positions=positions)


def _classes(given: NDArray[np.int64] | None, found: _Source, admitted: Sequence[Admitted]) -> NDArray[np.int64] | None:
    """Classes of all samples: those that are given, else those of the source."""
    if given is not None or found.labels is not None:
        return found.labels if given is None else given
    if any(part.part.label is None for part in admitted):
        return None
    labels = np.array([part.part.label for part in admitted], dtype=np.int64)
    return np.repeat(labels, [part.count for part in admitted])


def _found(source: Any, slots: Slots, limit: int, *, positions: bool) -> _Source:
    """Find the parts of a source."""
    if isinstance(source, str | PathLike):
        return _of_path(Path(source), slots, positions=positions)
    if hasattr(source, "get_next"):
        return _Source(parts_of(iter(source.get_next, None), limit))
    if isinstance(source, Mapping):
        return _Source([part_of("the calibration data", source)])
    if isinstance(source, np.ndarray):
        return _Source([part_of("the calibration data", {"": source})])
    if isinstance(source, Iterable):
        return _Source(parts_of(source, limit))
    raise UsageError(
        f"calibration data are a path, arrays, an iterable of them or a reader with get_next(), not "
        f"{type(source).__name__}"
    )


def _of_path(path: Path, slots: Slots, *, positions: bool) -> _Source:
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise DataError(f"the data {path}: cannot look at it ({error.strerror}); check the path") from error
    if is_folder:
        return _of_folder(path, slots, positions=positions)
    if not is_file:
        raise DataError(f"the data {path}: it does not exist or is no regular file; check the path")
    return _of_file(path, slots, positions=positions)


def _of_file(path: Path, slots: Slots, *, positions: bool) -> _Source:
    match path.suffix.lower():
        case ".npz":
            part, labels = read_npz(path, tuple(slot.name for slot in slots.inputs), positions=positions)
            return _Source([part], labels)
        case ".npy":
            return _Source([read_npy(path)])
        case ".json":
            return _Source(read_polygraphy(path))
    raise DataError(
        f"the data {path}: files of this kind are not read; give .npz, .npy, a JSON of polygraphy, or a folder of "
        "them, of pictures or of test_data_set_*"
    )


def _of_folder(folder: Path, slots: Slots, *, positions: bool) -> _Source:
    names = tuple(slot.name for slot in slots.inputs)
    if list(folder.glob("input_*.pb")):
        return _Source(read_test_sets([folder], names))
    sets = sorted(folder.glob("test_data_set_*"), key=lambda path: (len(path.name), path.name))
    if sets:
        return _Source(read_test_sets(sets, names))
    arrays = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".npz", ".npy"))
    if arrays:
        sources = [_of_file(path, slots, positions=positions) for path in arrays]
        parts = [part for source in sources for part in source.parts]
        rows = [source.labels for source in sources if source.labels is not None]
        return _Source(parts, np.concatenate(rows) if len(rows) == len(sources) else None)
    pictures = pictures_in(folder)
    if pictures:
        return _Source(picture_parts(pictures, slots))
    raise DataError(
        f"the data {folder}: there are no .npz or .npy files, no pictures and no test_data_set_* in this folder; name "
        "the folder that holds them"
    )
