"""Calibration data that the user gives: any source as samples, checked and scaled for the network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.admit import Admitted, admit
from onnxprune.calibrate.calibration import Calibration, Network, Slots, batched
from onnxprune.calibrate.feeds import Feeds
from onnxprune.calibrate.parts import Part, part_of, parts_of
from onnxprune.calibrate.scale import CANDIDATES, Scale
from onnxprune.errors import DataError, UsageError

__all__ = ["open_calibration"]


def open_calibration(
    source: Any, network: Network, *, limit: int = 1024, scale: Scale | None = None, labels: Any = None
) -> Calibration:
    """Take a user's data as inputs of a network.

    Parameters
    ----------
    source : path, array, mapping of str to ndarray, iterable, or anything with `get_next`
        A file or folder; or arrays: one, or one per input by name; or an iterable of such; or an onnxruntime
        `CalibrationDataReader`. What yields only once is kept in memory.
    network : Network
    limit : int
        Samples at most; they are spread evenly over a source whose length is known.
    scale : Scale, optional
        What the network takes for the bytes of a picture; found out by default.
    labels : path or ndarray of int, optional
        One class per sample of the source.

    Returns
    -------
    Calibration

    Raises
    ------
    DataError
        If the data cannot be read, or are no inputs of this network.
    """
    slots = Slots.of(network)
    parts = _parts(source, limit)
    admitted = [admit(part, slots) for part in parts]
    total = sum(part.count for part in admitted)
    if not total:
        raise DataError("the calibration data are empty; give at least one sample")
    count = min(limit, total)
    if slots.fixed:
        count -= count % slots.batch
    if not count:
        raise DataError(
            f"the calibration data have {total} samples, the network takes {slots.batch} at once; give that many"
        )
    chosen = np.arange(count) * total // count
    notes = [note for part in admitted[:1] for note in part.notes]

    def start() -> Iterator[Feeds]:
        return batched(_samples(admitted, chosen, scale or CANDIDATES[0]), slots)

    return Calibration("given", tuple(notes), count, None, start)


def _samples(admitted: Sequence[Admitted], chosen: NDArray[np.int64], scale: Scale) -> Iterator[Feeds]:
    """Read the samples of the given numbers, part by part."""
    first = 0
    for part in admitted:
        low, high = np.searchsorted(chosen, (first, first + part.count))
        if high > low:
            yield from part.samples(chosen[low:high] - first, scale)
        first += part.count


def _parts(source: Any, limit: int) -> list[Part]:
    """Find the parts of a source."""
    if isinstance(source, str | PathLike):
        raise DataError(f"{Path(source)}: files are not read yet")
    if hasattr(source, "get_next"):
        return parts_of(iter(source.get_next, None), limit)
    if isinstance(source, Mapping):
        return [part_of("the calibration data", source)]
    if isinstance(source, np.ndarray):
        return [part_of("the calibration data", {"": source})]
    if isinstance(source, Iterable):
        return parts_of(source, limit)
    raise UsageError(
        f"calibration data are a path, arrays, an iterable of them or a reader with get_next(), not "
        f"{type(source).__name__}"
    )
