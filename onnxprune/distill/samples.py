"""Samples in batches of any size and order, put together from the batches that they came in."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Slots
from onnxprune.calibrate.feeds import Feeds

__all__ = ["Rows", "Samples"]

Rows = NDArray[np.int64]
"""Samples: the batch that each came in, and its place there; (n, 2)."""


class Samples:
    """Samples that can be taken one by one.

    Parameters
    ----------
    batches : sequence of dict of str to ndarray
        As they came.
    slots : Slots
        Along which axes samples lie. Where the network declares how many it takes, batches stay as they came.
    """

    def __init__(self, batches: Sequence[Feeds], slots: Slots) -> None:
        self.batches = batches
        self._axes = {slot.name: slot.axis for slot in slots.inputs}
        self._whole = slots.fixed or all(axis is None for axis in self._axes.values())
        self._alike = defaultdict[Any, list[Rows]](list)
        for number, feeds in enumerate(batches):
            count = 1 if self._whole else self._count(feeds)
            rows = np.stack([np.full(count, number), np.arange(count)], axis=1)
            self._alike[self._kind(feeds)].append(rows)
        self.per_run = slots.batch if self._whole else 1

    def beside(self, more: Sequence[Feeds]) -> "Samples":
        """Put further arrays beside the batches, along whose first axis samples lie.

        Parameters
        ----------
        more : sequence of dict of str to ndarray
            One per batch.

        Returns
        -------
        Samples
            These very ones where an array does not lie so.
        """
        if not self._whole:
            counts = [self._count(feeds) for feeds in self.batches]
            if any(v.shape[:1] != (n,) for n, own in zip(counts, more, strict=True) for v in own.values()):
                return self
        made = copy(self)
        made.batches = [{**feeds, **own} for feeds, own in zip(self.batches, more, strict=True)]
        made._axes = {**self._axes, **{name: 0 for own in more for name in own}}
        return made

    def __len__(self) -> int:
        return sum(len(rows) for parts in self._alike.values() for rows in parts) * self.per_run

    def _count(self, feeds: Feeds) -> int:
        return next(int(feeds[name].shape[axis]) for name, axis in self._axes.items() if axis is not None)

    def _kind(self, feeds: Feeds) -> Any:
        """What samples have to have in common to be in one batch."""
        kinds = []
        for name, value in sorted(feeds.items()):
            axis = self._axes.get(name)
            one = tuple(size for place, size in enumerate(value.shape) if place != axis)
            kinds.append((one, value.tobytes() if axis is None else b""))
        return tuple(kinds)

    def drawn(self, size: int, rng: np.random.Generator | None = None) -> Iterator[Rows]:
        """Yield all samples once, so many at a time; in the order that they came in, or in any.

        Parameters
        ----------
        size : int
            Samples at a time, or fewer.
        rng : numpy.random.Generator, optional

        Yields
        ------
        ndarray of int (m, 2)
        """
        size = 1 if self._whole else size
        parts = []
        for alike in self._alike.values():
            rows = np.concatenate(alike)
            rows = rows if rng is None else rng.permutation(rows)
            parts += [rows[first : first + size] for first in range(0, len(rows), size)]
        order = range(len(parts)) if rng is None else rng.permutation(len(parts))
        yield from (parts[number] for number in order)

    def take(self, rows: Rows) -> Feeds:
        """Put samples together.

        Parameters
        ----------
        rows : ndarray of int (m, 2)
            As `drawn` yields them.

        Returns
        -------
        dict of str to ndarray
        """
        first = self.batches[rows[0, 0]]
        if self._whole:
            return dict(first)
        made = dict[str, NDArray[Any]]()
        for name, value in first.items():
            axis = self._axes.get(name)
            made[name] = value
            if axis is not None:
                made[name] = np.stack([self.batches[batch][name].take(row, axis) for batch, row in rows], axis)
        return made

    def split(self, feeds: Feeds, parts: int) -> list[tuple[Feeds, int]]:
        """Part samples that were put together, as evenly as can be.

        Parameters
        ----------
        feeds : dict of str to ndarray
        parts : int
            At most; batches of a fixed size stay whole.

        Returns
        -------
        list of (dict of str to ndarray, int)
            With how many samples each has.
        """
        if self._whole:
            return [(feeds, self.per_run)]
        count = self._count(feeds)
        ends = np.arange(1, min(parts, count)) * count // min(parts, count)
        pieces = dict[str, Sequence[NDArray[Any]]]()
        for name, value in feeds.items():
            axis = self._axes.get(name)
            pieces[name] = [value] * (len(ends) + 1) if axis is None else np.split(value, ends, axis)
        made = [{name: own[number] for name, own in pieces.items()} for number in range(len(ends) + 1)]
        return [(part, self._count(part)) for part in made]

    def mixed(self, rows: Rows, rng: np.random.Generator) -> Feeds:
        """Put samples together, each mixed with any other one; shares are drawn evenly, the larger is its own.

        Parameters
        ----------
        rows : ndarray of int (m, 2)
        rng : numpy.random.Generator

        Returns
        -------
        dict of str to ndarray
            Samples as they are, where some of their numbers are whole.

        References
        ----------
        H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018.
        """
        feeds = self.take(rows)
        along = {name: axis for name, axis in self._axes.items() if axis is not None}
        if not along or any(feeds[name].dtype.kind != "f" for name in along):
            return feeds
        alike = np.concatenate(self._alike[self._kind(self.batches[rows[0, 0]])])
        others = self.take(alike[rng.integers(0, len(alike), len(rows))])
        shares = rng.random(max(feeds[name].shape[axis] for name, axis in along.items()))
        shares = np.maximum(shares, 1 - shares).astype(np.float32)
        for name, axis in along.items():
            own = shares.reshape([-1 if place == axis else 1 for place in range(feeds[name].ndim)])
            feeds[name] = own * feeds[name] + (1 - own) * others[name]
        return feeds
