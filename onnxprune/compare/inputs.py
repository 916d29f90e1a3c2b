"""The samples that networks under shift are given, chunk by chunk, and what has to be known of all of them first.

They are read anew for each pass over them, so that any number will do; few enough of them are kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Calibration, Slots
from onnxprune.errors import DataError

__all__ = ["Inputs", "open_inputs"]

_KEPT = 1 << 29
"""Bytes of samples that stay in memory between passes."""
_CHUNK, _CHUNK_BYTES = 256, 1 << 26
"""Samples, and bytes of them, that are changed at once, whatever the network's batches are."""


@dataclass(frozen=True)
class Inputs:
    """Samples of the one input that a network has.

    Attributes
    ----------
    data : Calibration
    slots : Slots
    batches : int
        How many make a chunk.
    low, high, mean : ndarray
        The least, the largest and the mean value that there is, of each channel.
    spread : float
        Standard deviation of all values.
    truth : ndarray of int (n,)
        Classes, or the original's answers where those are not known.
    kept : list of ndarray or None
        All chunks, where that is allowed.
    """

    data: Calibration
    slots: Slots
    batches: int
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float32]
    spread: float
    truth: NDArray[np.int64]
    kept: list[NDArray[np.float32]] | None = field(repr=False)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.truth)

    @property
    def digest(self) -> str:
        """What tells these samples from others."""
        arrays = self.truth, self.low, self.high, self.mean, np.array(self.spread)
        return sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def steps(self, count: int) -> int:
        """Number of chunks of so many samples."""
        return -(-count // self._size)

    @property
    def _size(self) -> int:
        return self.batches * self.slots.batch

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the number of the first sample of each chunk, and the chunk."""
        start = 0
        for part in self.kept or _read(self.data, self.slots, self.batches):
            yield start, part
            start += len(part)

    def some(self, wanted: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield numbers of some samples, evenly spread since classes may come one after the other, and those."""
        count = min(wanted, self.count)
        numbers = np.arange(count) * self.count // count
        for start in range(0, count, self._size):
            own = numbers[start : start + self._size]
            read = list(self.data.some(own, self.slots))
            rows = np.concatenate([batch.feeds[self.slots.inputs[0].name] for batch in read])
            asked = np.isin(np.concatenate([batch.numbers for batch in read]), own)
            yield own, rows[asked].astype(np.float32)


def open_inputs(
    data: Calibration, slots: Slots, axis: int | None, answers: Callable[[NDArray[np.float32]], NDArray[np.int64]]
) -> Inputs:
    """Look through the samples once.

    Parameters
    ----------
    data : Calibration
    slots : Slots
        With one input.
    axis : int or None
        That of the channels, counted from the end, where inputs are pictures.
    answers : callable
        The original's, for samples whose classes are not known.

    Returns
    -------
    Inputs

    Raises
    ------
    DataError
        If samples are of several sizes.
    """
    each = 4 * int(np.prod(slots.inputs[0].one))
    batches = max(min(_CHUNK, _CHUNK_BYTES // max(each, 1)) // slots.batch, 1)
    known = data.labels if data.labels is not None and data.labels.ndim == 1 else None
    kept: list[NDArray[np.float32]] | None = [] if each * data.count <= _KEPT else None
    truth, ranges, sums = [], [], []
    for part in _read(data, slots, batches):
        over = tuple(place for place in range(part.ndim) if axis is None or place != axis % part.ndim)
        ranges.append([part.min(axis=over, keepdims=True), part.max(axis=over, keepdims=True)])
        wide = part.astype(np.float64)
        sums.append([wide.sum(axis=over, keepdims=True), np.square(wide).sum(axis=over, keepdims=True)])
        truth.append(np.zeros(len(part), np.int64) if known is not None else answers(part))
        if kept is not None:
            kept.append(part)
    low, high = np.min([low for low, _ in ranges], axis=0), np.max([high for _, high in ranges], axis=0)
    total, squares = np.sum(sums, axis=0)
    found = np.concatenate(truth)
    values = len(found) * each / 4
    spread = float(np.sqrt(max(squares.sum() / values - (total.sum() / values) ** 2, 0.0)))
    return Inputs(
        data,
        slots,
        batches,
        low,
        np.where(high > low, high, low + 1).astype(np.float32),
        np.asarray(total * (total.size / values), dtype=np.float32),
        spread,
        found if known is None else known[: len(found)],
        kept,
    )


def _read(data: Calibration, slots: Slots, batches: int) -> Iterator[NDArray[np.float32]]:
    """Read all samples, so many batches at once."""
    (slot,) = slots.inputs
    read = data.start(np.arange(data.count))
    shape: tuple[int, ...] = ()
    while parts := [batch.feeds[slot.name] for batch in islice(read, batches)]:
        shapes = {part.shape[1:] for part in parts} | ({shape} if shape else set())
        if len(shapes) != 1:
            raise DataError("--corruptions, --noise, --potential and --features take samples of one size; give such")
        shape = shapes.pop()
        yield np.concatenate(parts).astype(np.float32)
