"""Heads of attention in one operator: queries, keys and values that lie along an axis of heads, or beside one another.

softmax(q kᵀ · scale) v, head by head. Units are whole heads, those of the queries tied to the head of keys and values
that they share. On request they are features of a head instead, equally many of each: those of queries and keys, which
are summed over, and those of values. What the operator takes for the scale, 1/√features, is spelled out then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.labels import Array, Bundle, Fixed, Labels
from onnxprune.ops.op import Op
from onnxprune.ops.trace import Kept

__all__ = ["Heads", "Side"]

Lying = tuple[int, int, Array]
"""An input, one of its axes, and the labels of all positions along it."""


@dataclass(frozen=True)
class Side:
    """Queries, keys or values as an input has them.

    Attributes
    ----------
    place : int
    heads, features : int
        How many heads, and features of each.
    axes : tuple of int
        Axes of heads and of features; the one that has both where `whole` says so.
    fixed : Fixed
        Why nothing goes where there are no labels.
    full : ndarray of int (heads, features) or None
        Labels of all features of all heads.
    rows, columns : ndarray of int or None
        Labels of heads, and of features that all heads share, where they lie along axes of their own.
    whole : tuple
        The axes that all heads and features lie along beside one another, maybe with those of other sides.
    """

    place: int
    heads: int
    features: int
    axes: tuple[int, ...]
    fixed: Fixed
    full: Array | None = None
    rows: Array | None = None
    columns: Array | None = None
    whole: tuple[Lying, ...] = ()

    @staticmethod
    def of(op: Op, place: int, heads: int) -> "Side":
        """Look at an input (batch, positions, heads · features) or (batch, heads, positions, features)."""
        shape = op.shape(place)
        last = len(shape) - 1
        op.hold(place, [axis for axis in range(last) if axis != 1 or last == 2])
        if last == 2:
            return Side.beside((place, 2), heads, shape[2], op.axis(place, 2), op.fixed(place))
        bundle = op.labels(place).bundle_at(1)
        if bundle is not None and bundle.axes == (1, last):
            return Side(place, heads, shape[last], (1, last), op.fixed(place), bundle.array)
        op.hold(place, [last] if bundle is not None and len(bundle.axes) > 1 else [])
        rows, columns = op.axis(place, 1), op.axis(place, last)
        return Side(place, heads, shape[last], (1, last), op.fixed(place), None, rows, columns)

    @staticmethod
    def beside(site: tuple[int, int], heads: int, size: int, flat: Array | None, fixed: Fixed) -> "Side":
        """Look at heads and features that lie along one axis, given as (input, axis)."""
        place, axis = site
        found = Side(place, heads, size // heads, (axis,), fixed)
        return found if flat is None else replace(found, full=flat.reshape(heads, -1), whole=((place, axis, flat),))

    @staticmethod
    def in_one(
        site: tuple[int, int], heads: Sequence[int], sizes: Sequence[int], flat: Array | None, fixed: Fixed
    ) -> "list[Side]":
        """Look at queries, keys and values that lie one after another along one axis."""
        starts = np.cumsum([0, *sizes])
        parts = [None if flat is None else flat[start:end] for start, end in pairwise(starts)]
        sides = [Side.beside(site, *item, fixed) for item in zip(heads, sizes, parts, strict=True)]
        return [side if flat is None else replace(side, whole=((*site, flat),)) for side in sides]

    @property
    def spread(self) -> Array | None:
        """Labels of all features of all heads where no heads go: of each its own, or the same of all."""
        if self.full is not None or self.columns is None:
            return self.full
        return np.broadcast_to(self.columns, (self.heads, self.features))

    def may_stay(self, op: Op) -> bool:
        """Tell whether features can go in place of heads: there are labels of them, and heads are no layer's own."""
        static = all(op.is_static((op.name_of(self.place), axis)) for axis in self.axes)
        return static and self.spread is not None and (self.rows is None or not op.is_written(self.rows))

    def by_head(self, op: Op) -> tuple[Array | None, Array | None]:
        """Labels of heads, whose features are tied, and of features that all heads share."""
        if self.full is None:
            return self.rows, self.columns
        if self.heads == 1:
            return None, self.full[0]
        single = op.trace.collapse(Bundle((0, 1), self.full), [1])
        assert single is not None
        return single.array, None

    def read(self, op: Op, array: Array) -> None:
        """Say that what is removed of these features is summed over."""
        for place, axis, flat in self.whole:
            op.read_at(place, (axis,), flat)
        if not self.whole:
            op.read_at(self.place, self.axes[-array.ndim :], array)


class Heads:
    """Queries, keys and values of one node, tied to one another.

    Parameters
    ----------
    op : Op
    query, key, value : Side
    free : bool
        Whether the operator takes any number of features in a head, and as many of the values as one likes.
    """

    def __init__(self, op: Op, query: Side, key: Side, value: Side, *, free: bool = True) -> None:
        self.op = op
        self.query, self.key, self.value = query, key, value
        self.times = query.heads // key.heads
        sides = (query, key, value)
        bare = (side.fixed for side in sides if side.full is None and side.rows is None and side.columns is None)
        self.fixed = next(bare, op.positions)
        inside = free and op.trace.opened.inside_heads and query.heads > 1
        self.inside = inside and all(side.may_stay(op) for side in sides)
        self.rows: Array | None = None
        self.shared: Array | None = None
        self.columns: tuple[Array | None, Array | None] = (None, None)
        if self.inside:
            self._tie_features()
        else:
            self._tie_heads(free=free)

    def _tie_heads(self, *, free: bool) -> None:
        parts = [side.by_head(self.op) for side in (self.query, self.key, self.value)]
        rows: Array | None = parts[0][0]
        for array in (parts[1][0], parts[2][0]):
            rows = self.op.tie(rows, None if array is None else np.repeat(array, self.times), self.fixed)
        self.rows, self.shared = rows, None if rows is None else parts[1][0]
        if not free or (self.query.heads > 1 and any(side.whole for side in (self.query, self.key, self.value))):
            self._pin(columns for _, columns in parts)
            return
        summed = self.op.tie(parts[0][1], parts[1][1], self.op.positions)
        if summed is not None:
            for side, (_, columns) in zip((self.query, self.key), parts, strict=False):
                assert columns is not None
                side.read(self.op, columns)
        self.columns = summed, parts[2][1]

    def _tie_features(self) -> None:
        query, key, value = self.query.spread, self.key.spread, self.value.spread
        assert query is not None
        assert key is not None
        assert value is not None
        self._pin(side.rows for side in (self.query, self.key, self.value))
        self.op.trace.tie(query, np.repeat(key, self.times, axis=0))
        self.op.balance(np.unique(key, axis=0))
        self.op.balance(np.unique(value, axis=0))
        for side in (self.query, self.key):
            found = side.columns if side.full is None else side.full
            assert found is not None
            side.read(self.op, found)

    def _pin(self, arrays: Iterable[Array | None]) -> None:
        for array in arrays:
            self.op.tie(array, None, self.op.positions)

    # ---- what lies beside -------------------------------------------------------------------------------------------

    def beside_queries(self, place: int, axis: int) -> None:
        """Tie an axis of another input, of one position or one for each head of the queries; its others are held."""
        rank = len(self.op.shape(place))
        self.op.hold(place, [other for other in range(rank) if other != axis % rank or axis < -rank])
        if axis >= -rank and self.op.shape(place)[axis] > 1:
            self._meet(self.op.axis(place, axis), self.rows, self.op.fixed(place))

    def beside_keys(self, place: int, *, values: bool) -> None:
        """Tie keys or values (batch, heads, positions, features) that come from elsewhere, such as earlier ones."""
        side = Side.of(self.op, place, self.key.heads)
        if self.inside:
            self._pin((side.rows, side.columns))
            self._meet(side.full, self.value.spread if values else self.key.spread, side.fixed)
            return
        rows, columns = side.by_head(self.op)
        self.meet_keys(rows, side.fixed)
        self._meet(columns, self.columns[int(values)], side.fixed)

    def meet_keys(self, heads: Array | None, fixed: Fixed) -> None:
        """Tie heads of keys and values that come from elsewhere, fixed for this reason where they have no labels."""
        self._meet(heads, self.shared, fixed)

    def _meet(self, theirs: Array | None, ours: Array | None, fixed: Fixed) -> None:
        self.op.tie(theirs, ours, fixed if theirs is None else self.fixed)

    # ---- outputs and numbers ----------------------------------------------------------------------------------------

    def output(self, place: int = 0) -> Labels:
        """Labels of the result, laid out as the queries are."""
        shape = self.op.out_shape(place)
        last = len(shape) - 1
        if last != 2:
            return self._apart(shape, self.value, self.rows, self.columns[1], self.times)
        flat = self.columns[1]
        if self.inside:
            assert self.value.spread is not None
            flat = np.repeat(self.value.spread, self.times, axis=0).ravel()
        elif self.rows is not None:
            flat = np.repeat(self.rows, self.value.features)
        return self.op.out(shape, [] if flat is None else [Bundle((2,), flat)], self.fixed)

    def present(self, place: int, *, values: bool) -> Labels:
        """Labels of all keys or values, (batch, heads, positions, features)."""
        side = self.value if values else self.key
        return self._apart(self.op.out_shape(place), side, self.shared, self.columns[int(values)])

    def states(self, place: int) -> Labels:
        """Labels of keys and values in one, (2, batch, heads, positions, features)."""
        if not self.op.node.output[place]:
            return self.op.out(())
        bundles = [] if self.shared is None else [Bundle((2,), self.shared)]
        return self.op.out(self.op.out_shape(place), bundles, self.fixed)

    def scores(self, place: int) -> Labels:
        """Labels of (batch, heads, positions, positions)."""
        shape = self.op.out_shape(place)
        return self.op.out(shape, [] if self.rows is None else [Bundle((1,), self.rows)], self.fixed)

    def _apart(
        self, shape: tuple[int, ...], side: Side, rows: Array | None, columns: Array | None, times: int = 1
    ) -> Labels:
        last = len(shape) - 1
        if self.inside and side.full is not None:
            return self.op.out(shape, [Bundle((1, last), np.repeat(side.full, times, axis=0))])
        found = ((1, rows), (last, side.columns if self.inside else columns))
        return self.op.out(shape, [Bundle((axis,), array) for axis, array in found if array is not None], self.fixed)

    def spell(self, queries: str, keys: str = "") -> None:
        """Spell the numbers of heads, and the scale where it would follow from features that go."""
        for name, array in ((queries, self.rows), (keys, self.shared)):
            if array is not None and self.op.attribute(name) is not None:
                self.op.spell(name, _Count(array), [array])
        summed = self.query.spread if self.inside else self.columns[0]
        if summed is not None and not self.op.attribute("scale", 0.0):
            self.op.spell("scale", _Constant(float(1.0 / np.sqrt(self.query.features))), [summed])

    def count(self, pairs: int) -> None:
        """Count multiply-accumulates of scores and of what they mix, for so many pairs of positions."""
        for side, columns, times in ((self.query, self.columns[0], 1), (self.value, self.columns[1], self.times)):
            if self.inside:
                self.op.macs(pairs * times, side.spread)
            else:
                free = 1 if self.rows is not None else self.query.heads
                self.op.macs(pairs * free * (1 if columns is not None else side.features), self.rows, columns)


@dataclass(frozen=True)
class _Count:
    """As many as stay."""

    array: Array

    def __call__(self, kept: Kept) -> Array:
        return np.array(kept.count(self.array), dtype=np.int64)


@dataclass(frozen=True)
class _Constant:
    """A number as it was."""

    number: float

    def __call__(self, _: Kept) -> NDArray[Any]:
        return np.array(self.number)
