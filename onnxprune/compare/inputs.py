"""The samples that networks under shift are given, chunk by chunk, and what has to be known of all of them first.

They are read anew for each pass over them, so that any number will do; few enough of them are kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Calibration, Slots
from onnxprune.errors import DataError

__all__ = ["Inputs", "open_inputs", "spread_of"]

_KEPT = 1 << 29
"""Bytes of samples that stay in memory between passes."""
_CHUNK, _CHUNK_BYTES = 256, 1 << 26
"""Samples, and bytes of them, that are changed at once, whatever the network's batches are."""
_LARGEST = 1e18
"""What can be squared in float32."""


@dataclass(frozen=True)
class Inputs:
    """Samples of the one input that a network has.

    Attributes
    ----------
    data : Calibration
    slots : Slots
    size : int
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
    size: int
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
        return -(-count // self.size)

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the number of the first sample of each chunk, and the chunk."""
        start = 0
        for part in self.kept or _read(self.data, self.slots):
            yield start, part
            start += len(part)

    def some(self, wanted: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield numbers of some samples, evenly spread since classes may come one after the other, and those."""
        count = min(wanted, self.count)
        numbers = np.arange(count) * self.count // count
        for start in range(0, count, self.size):
            own = numbers[start : start + self.size]
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
        If samples are of several sizes, hold numbers that are too large, or have no class.
    """
    known = data.labels if data.labels is not None and data.labels.ndim == 1 else None
    kept: list[NDArray[np.float32]] | None = []
    truth, ranges, sums, size, bytes_ = [], [], [], 1, 0
    for part in _read(data, slots):
        over = tuple(place for place in range(part.ndim) if axis is None or place != axis % part.ndim)
        ranges.append([part.min(axis=over, keepdims=True), part.max(axis=over, keepdims=True)])
        wide = part.astype(np.float64)
        sums.append([wide.sum(axis=over, keepdims=True), np.square(wide).sum(axis=over, keepdims=True)])
        truth.append(np.zeros(len(part), np.int64) if known is not None else answers(part))
        size, bytes_ = max(size, len(part)), bytes_ + part.nbytes
        kept = [*kept, part] if kept is not None and bytes_ <= _KEPT else None
    low, high = np.min([low for low, _ in ranges], axis=0), np.max([high for _, high in ranges], axis=0)
    total, squares = np.sum(sums, axis=0)
    found = np.concatenate(truth) if known is None else known[: sum(map(len, truth))]
    values = bytes_ / 4
    spread = _deviation(values, total.sum(), squares.sum())
    if high.max() > _LARGEST or low.min() < -_LARGEST:
        raise DataError(
            f"--corruptions, --noise, --potential and --features change numbers up to {_LARGEST:g}, and the data hold "
            f"{low.min():g} to {high.max():g}; scale them"
        )
    if found.max() < 0:
        raise DataError(
            "--corruptions, --noise, --potential and --features go by classes, and of no sample one is known: label "
            "some, or leave labels out and see that the original's outputs are finite"
        )
    return Inputs(
        data,
        slots,
        size,
        low,
        np.where(high > low, high, low + np.maximum(abs(low), 1)).astype(np.float32),
        np.asarray(total * (total.size / values), dtype=np.float32),
        spread,
        found,
        kept,
    )


def spread_of(parts: Iterable[NDArray[np.float32]]) -> float:
    """Standard deviation of all values of some samples, given part by part."""
    wide = (part.astype(np.float64) for part in parts)
    count, total, squares = np.sum([(part.size, part.sum(), np.square(part).sum()) for part in wide], axis=0)
    return _deviation(count, total, squares)


def _deviation(count: float, total: float, squares: float) -> float:
    return float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0)))


def _read(data: Calibration, slots: Slots) -> Iterator[NDArray[np.float32]]:
    """Read all samples, chunk by chunk."""
    (slot,) = slots.inputs
    waiting: list[NDArray[np.float32]] = []
    count = 0
    for batch in data.start(np.arange(data.count)):
        rows = batch.feeds[slot.name].astype(np.float32, copy=False)
        if waiting and rows.shape[1:] != waiting[0].shape[1:]:
            raise DataError("--corruptions, --noise, --potential and --features take samples of one size; give such")
        size = max(min(_CHUNK, _CHUNK_BYTES // max(rows[0].nbytes, 1)), 1)
        waiting, count = [*waiting, rows], count + len(rows)
        while count >= size:
            whole = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
            yield whole[:size]
            waiting, count = [whole[size:]], count - size
    if count:
        yield np.concatenate(waiting)
