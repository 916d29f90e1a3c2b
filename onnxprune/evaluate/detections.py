"""What detectors find, and what of it a pruned one finds again.

    kept = matched/before      new = 1 − matched/after      matched: of one class, and  |a ∩ b|/|a ∪ b| ≥ ½

A detection is surer than `THRESHOLD`. How it is written is told by the outputs' shapes and values, since names say
little: lists of boxes, classes and scores; rows of all of them; columns of a YOLO network; or heads, as they come, that
give scores to every position. Boxes of the last two are thinned out as usual (of those that overlap by half the surest
stays); where heads give distances from positions in place of boxes, positions are what is matched.

References
----------
M. Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010, section 4.2 (the overlap, and one match
for each box at most).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["THRESHOLD", "Detections", "Found", "Reader", "reader_of"]

Outputs = Mapping[str, NDArray[Any]]

THRESHOLD = 0.3
"""Score from which on a detection counts."""
_OVERLAP = 0.5
_POSITIONS = 32
"""Positions that heads have at least."""
_MOST = 1000
"""Detections in a picture that are looked at, the surest ones."""


@dataclass(frozen=True)
class Found:
    """What was found in one picture.

    Attributes
    ----------
    classes : ndarray of int (k,)
    scores : ndarray of float64 (k,)
    boxes : ndarray of float64 (k, 4) or None
        Left, top, right, bottom.
    places : ndarray of int (k,)
        Positions of heads, or numbers.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64] | None
    places: NDArray[np.int64]

    def surest(self, *, thinned: bool) -> "Found":
        """Those that count, the surest first; of those that overlap one."""
        order = np.argsort(-self.scores, kind="stable")
        counts = self.scores >= THRESHOLD
        counts &= self.boxes is None or np.isfinite(self.boxes).all(axis=1)
        order = np.asarray(order[counts[order]][:_MOST])
        own = self._at(order)
        if not thinned or own.boxes is None:
            return own
        close = _overlaps(own, own) >= _OVERLAP
        stays = np.ones(order.size, dtype=bool)
        for number in range(order.size):
            if stays[number]:
                stays[number + 1 :] &= ~close[number, number + 1 :]
        return own._at(np.flatnonzero(stays))

    def _at(self, rows: NDArray[np.int64]) -> "Found":
        boxes = None if self.boxes is None else self.boxes[rows]
        return Found(self.classes[rows], self.scores[rows], boxes, self.places[rows])


@dataclass(frozen=True)
class Reader:
    """How detections are written.

    Attributes
    ----------
    names : tuple of str
        Outputs that they are written in.
    read : callable
        Finds, in a batch of outputs, what is found in each picture.
    """

    names: tuple[str, ...]
    read: Callable[[Outputs], list[Found]]


class Detections:
    """Adds up what two detectors find."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._positions = False
        self._before, self._after, self._matched = 0, 0, 0
        self._overlap, self._gap = 0.0, 0.0

    def add(self, before: Outputs, after: Outputs, samples: int) -> None:
        """Add what both made of a batch; nothing, where that is no list of detections.

        Parameters
        ----------
        before, after : mapping of str to ndarray
        samples : int
        """
        self._reader = self._reader or reader_of(before, samples)
        if self._reader is None:
            return
        for first, second in zip(self._reader.read(before), self._reader.read(after), strict=False):
            self._before += first.scores.size
            self._after += second.scores.size
            self._positions |= first.boxes is None
            for one, other, overlap in _matches(first, second):
                self._matched += 1
                self._overlap += overlap
                self._gap += abs(float(first.scores[one] - second.scores[other]))

    @property
    def names(self) -> tuple[str, ...]:
        """Outputs that detections are written in."""
        return () if self._reader is None else self._reader.names

    def facts(self) -> dict[str, Any] | None:
        """All figures; None where nothing is detected by such a network."""
        if self._reader is None:
            return None
        matched = self._matched
        return {
            "threshold": THRESHOLD,
            "by": "positions" if self._positions else "boxes",
            "before": self._before,
            "after": self._after,
            "kept": matched / self._before if self._before else None,
            "new": 1 - matched / self._after if self._after else None,
            "overlap": self._overlap / matched if matched and not self._positions else None,
            "score_gap": self._gap / matched if matched else None,
        }


def reader_of(outputs: Outputs, samples: int) -> Reader | None:
    """Tell how detections are written.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        Of a batch.
    samples : int

    Returns
    -------
    callable or None
        None where they are not, or where there is none to tell it by.
    """
    ways = (_listed, _in_rows, _in_columns, _by_heads)
    return next((reader for way in ways if (reader := way(outputs, samples)) is not None), None)


def _matches(first: Found, second: Found) -> Iterator[tuple[int, int, float]]:
    """Pairs of one class that are the same box or position, those that overlap most first."""
    if first.boxes is None or second.boxes is None:
        _, *both = np.intersect1d(first.places, second.places, return_indices=True)
        yield from ((int(a), int(b), 1.0) for a, b in zip(*both, strict=True) if first.classes[a] == second.classes[b])
        return
    overlaps = _overlaps(first, second)
    rows, columns = np.nonzero(overlaps >= _OVERLAP)
    taken: tuple[set[int], set[int]] = (set(), set())
    for at in np.argsort(-overlaps[rows, columns], kind="stable"):
        a, b = int(rows[at]), int(columns[at])
        if a not in taken[0] and b not in taken[1]:
            taken[0].add(a)
            taken[1].add(b)
            yield a, b, float(overlaps[a, b])


def _overlaps(first: Found, second: Found) -> NDArray[np.float64]:
    """Intersections over unions of boxes (k, l), 0 for those of different classes."""
    assert first.boxes is not None and second.boxes is not None
    a, b = first.boxes[:, None], second.boxes[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)]
    union = areas[0] + areas[1] - common
    alike = first.classes[:, None] == second.classes[None]
    share = np.where(union > 0, common / np.where(union > 0, union, 1.0), (a == b).all(axis=-1))  # a point is itself
    return np.asarray(np.where(alike, share, 0.0))


# ---- how detections are written ------------------------------------------------------------------------------------


def _are_shares(value: NDArray[Any]) -> bool:
    return value.dtype.kind == "f" and bool(((value >= 0) & (value <= 1)).all())


def _are_whole(value: NDArray[Any]) -> bool:
    return value.dtype.kind in "iu" or bool((value == np.rint(value)).all())


def _are_corners(boxes: NDArray[Any]) -> bool:
    """Tell whether boxes are left, top, right, bottom: hardly any has its right or bottom before the other side."""
    return boxes.size > 0 and float((boxes[..., 2:] >= boxes[..., :2]).mean()) > 0.99


def _wide(value: NDArray[Any], samples: int, rank: int) -> NDArray[Any] | None:
    """Give an output of one picture the axis of pictures that it lacks; None where it fits in neither way."""
    if value.ndim == rank and len(value) == samples:
        return value
    return value[None] if value.ndim == rank - 1 and samples == 1 else None


def _found(classes: NDArray[Any], scores: NDArray[Any], boxes: NDArray[Any] | None, *, thinned: bool) -> Found:
    wide = None if boxes is None else boxes.astype(np.float64)
    found = Found(classes.astype(np.int64), scores.astype(np.float64), wide, np.arange(len(scores)))
    return found.surest(thinned=thinned)


def _listed(outputs: Outputs, samples: int) -> Reader | None:
    """Boxes (n, k, 4) or (k, 4), scores (n, k) or (k), and classes like these where there are several."""
    for name, value in outputs.items():
        boxes = _wide(value, samples, 3)
        if boxes is None or boxes.shape[2] != 4 or boxes.dtype.kind != "f" or not _are_corners(boxes):
            continue
        beside = [other for other, each in outputs.items() if each.shape == value.shape[:-1]]
        scores = [other for other in beside if _are_shares(outputs[other]) and not _are_whole(outputs[other])]
        if len(scores) != 1:
            continue
        classes = [other for other in beside if other != scores[0] and _are_whole(outputs[other])][:1]

        def read(now: Outputs, names: tuple[str, ...] = (name, *scores, *classes)) -> list[Found]:
            boxes, scores, *classes = (_rows(now[each], samples, 3 if each == names[0] else 2) for each in names)
            kinds = classes[0] if classes else [np.zeros(len(row)) for row in scores]
            return [_found(*row, thinned=False) for row in zip(kinds, scores, boxes, strict=True)]

        return Reader((name, *scores, *classes), read)
    return None


def _rows(value: NDArray[Any], samples: int, rank: int) -> NDArray[Any]:
    found = _wide(value, samples, rank)
    return value[:0] if found is None else found


def _in_rows(outputs: Outputs, samples: int) -> Reader | None:
    """Left, top, right, bottom, score, class (n, k, 6) or (k, 6); or picture, these four, class, score (k, 7)."""
    for name, value in outputs.items():
        six = _wide(value, samples, 3)
        if six is not None and six.shape[2] == 6 and _are_detections(six[..., :4], six[..., 4], six[..., 5]):

            def read(now: Outputs, name: str = name) -> list[Found]:
                rows = _rows(now[name], samples, 3)
                return [_found(row[:, 5], row[:, 4], row[:, :4], thinned=False) for row in rows]

            return Reader((name,), read)
        if value.ndim == 2 and value.shape[1] == 7 and _are_detections(value[:, 1:5], value[:, 6], value[:, [0, 5]]):

            def read_seven(now: Outputs, name: str = name) -> list[Found]:
                rows = [now[name][now[name][:, 0] == number] for number in range(samples)]
                return [_found(row[:, 5], row[:, 6], row[:, 1:5], thinned=False) for row in rows]

            return Reader((name,), read_seven)
    return None


def _are_detections(boxes: NDArray[Any], scores: NDArray[Any], numbers: NDArray[Any]) -> bool:
    return _are_corners(boxes) and _are_shares(scores) and _are_whole(numbers)


def _in_columns(outputs: Outputs, samples: int) -> Reader | None:
    """Middle, width and height, and scores: (n, k, 5 + c) with one for there being anything, or (n, 4 + c, k)."""
    for name, value in outputs.items():
        if value.ndim != 3 or len(value) != samples or value.dtype.kind != "f":
            continue
        turned = value.shape[1] < value.shape[2]
        table = value.swapaxes(1, 2) if turned else value
        if table.shape[1] < _POSITIONS or table.shape[2] < (5 if turned else 6) or table[..., :4].max() <= 1:
            continue
        if not _are_shares(table[..., 4:]) or (table[..., 2:4] < 0).any():
            continue

        def read(now: Outputs, name: str = name, turned: bool = turned) -> list[Found]:
            found = []
            for rows in now[name].swapaxes(1, 2) if turned else now[name]:
                scores = rows[:, 4:] if turned else rows[:, 4:5] * rows[:, 5:]
                half = rows[:, 2:4] / 2
                corners = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
                found.append(_found(scores.argmax(axis=1), scores.max(axis=1), corners, thinned=True))
            return found

        return Reader((name,), read)
    return None


@dataclass(frozen=True)
class _Head:
    """Outputs about the same positions: scores, multiplied; the class that means nothing; boxes, where they are any."""

    scores: tuple[str, ...]
    nothing: int | None
    boxes: str

    def read(self, now: Outputs, *, boxed: bool) -> list[NDArray[Any]]:
        """Classes and scores (n, k) of the positions, and boxes (n, k, 4)."""
        total = np.prod(np.broadcast_arrays(*(_positioned(now[name]) for name in self.scores)), axis=0)
        if self.nothing is not None:
            total = np.delete(total, self.nothing, axis=2)
        boxes = [_positioned(now[self.boxes])] if boxed else []
        return [total.argmax(axis=2), total.max(axis=2), *boxes]


def _positioned(value: NDArray[Any]) -> NDArray[Any]:
    """Output of a head as (n, k, c): positions of all pictures may be in one row."""
    return value if value.ndim == 3 else value[None]


def _by_heads(outputs: Outputs, samples: int) -> Reader | None:
    """Scores (n, k, c) or (k, c) between 0 and 1, beside boxes or distances (n, k, 4·m) of the same positions."""
    able = {name: value for name, value in outputs.items() if value.ndim in (2, 3) and value.dtype.kind == "f"}
    heads = []
    for count in dict.fromkeys(value.shape[:-1] for value in able.values() if value.shape[-2] >= _POSITIONS):
        own = {name: value for name, value in able.items() if value.shape[:-1] == count}
        sides = _sides(own)
        scores = tuple(name for name, value in own.items() if name not in sides and _are_shares(value))
        if len(sides) == 1 and scores:
            heads.append(_Head(scores, _nothing([own[name] for name in scores]), sides[0]))
    if not heads:
        return None
    apart = all(able[head.boxes].ndim == 3 or samples == 1 for head in heads)
    boxed = apart and all(able[head.boxes].shape[-1] == 4 and _are_corners(able[head.boxes]) for head in heads)

    def read(now: Outputs) -> list[Found]:
        parts = [head.read(now, boxed=boxed) for head in heads]
        classes, scores, *boxes = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        every = boxes[0] if boxes else [None] * len(scores)
        return [_found(*rows, thinned=boxed) for rows in zip(classes, scores, every, strict=True)]

    return Reader(tuple(name for head in heads for name in (*head.scores, head.boxes)), read)


def _sides(own: Outputs) -> list[str]:
    """Outputs of a head that are boxes: those of four columns, or of distributions of distances; scores may be, too."""
    four = [name for name, value in own.items() if value.shape[-1] == 4]
    if len(four) > 1:
        return [name for name in four if _are_corners(own[name])] or [n for n in four if not _are_shares(own[n])]
    return four or [name for name, value in own.items() if value.shape[-1] % 4 == 0 and not _are_shares(value)]


def _nothing(scores: list[NDArray[Any]]) -> int | None:
    """The class that most positions are of, where scores are probabilities that add up to one."""
    if len(scores) != 1 or scores[0].shape[-1] < 2 or not np.allclose(scores[0].sum(axis=-1), 1, atol=1e-3):
        return None
    classes = scores[0].shape[-1]
    most = int(scores[0].reshape(-1, classes).mean(axis=0).argmax())
    return most if most in (0, classes - 1) else None
