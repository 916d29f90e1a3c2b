"""The ways in which a rule says what a node does to labels: tie, read, contract, spell, lay over one another."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.labels import Array, Bundle, Fixed, Labels, Purpose
from onnxprune.ops.node import NodeView
from onnxprune.ops.trace import (
    Balance,
    Formula,
    Kept,
    Macs,
    Omission,
    Quantised,
    Read,
    Role,
    Spelling,
    Statistic,
    Taking,
)

__all__ = ["Op", "Part"]

Part = tuple[int, Mapping[int, int]]
"""An input's number, and which of its axes become which axes of the output."""


@dataclass(frozen=True)
class _Piece:
    part: int
    axes: tuple[int, ...]
    bundle: Bundle


_Clash = tuple[_Piece, int]


class Op(NodeView):
    """One node, and the ways to say what it does to labels."""

    # ---- what the node does to labels -------------------------------------------------------------------------------

    def tie(self, first: Array | None, second: Array | None, fixed: Fixed | None = None) -> Array | None:
        """Let two axes live and die together; an axis that meets a fixed one is pinned for that one's reason."""
        if first is not None and second is not None:
            self.trace.tie(first, second)
            return first
        labelled = first if first is not None else second
        if labelled is not None:
            self.trace.pin(labelled, fixed or self.positions)
        return None

    def tie_axes(self, first: tuple[int, int], second: tuple[int, int]) -> Array | None:
        """Tie axis to axis, each given as (input, axis)."""
        ours, theirs = self.axis(*first), self.axis(*second)
        return self.tie(ours, theirs, self.fixed(first[0] if ours is None else second[0]))

    def read(self, place: int, axis: int) -> Array | None:
        """Say that an input is summed over an axis: what is removed there reads as zero, and the axis is gone."""
        axis = self.axis_of(place, axis)
        array = self.axis(place, axis)
        if array is not None:
            self.read_at(place, (axis,), array)
        self.drop(place, axis)
        return array

    def read_at(self, place: int, axes: Sequence[int], array: Array) -> None:
        """Say that what is removed of these labels along some axes of an input reads as zero; the axes stay.

        Of a quantised input the zero point stands for zero.
        """
        ascending = tuple(sorted(axes))
        site = self.number, self.place_of(place)
        zero = self.trace.quantised[site].zero if site in self.trace.quantised else None
        turned = array if ascending == tuple(axes) else array.transpose(np.argsort(axes))
        self.trace.reads.append(Read(*site, ascending, turned, zero))

    def quantised(
        self, place: int, scale: int | None, zero: int | None, *, axis: int = 0, block: int = 0, bits: int = 0
    ) -> None:
        """Say that an input's integers stand for (q − zero) · scale, given by the numbers of those inputs."""
        scale = None if scale is None or not self.has(scale) else self.place_of(scale)
        zero = None if zero is None or not self.has(zero) else self.place_of(zero)
        self.trace.quantised[self.number, self.place_of(place)] = Quantised(scale, zero, axis, block, bits)

    def average(self, formula: Formula, axes: Sequence[int], *, exact: bool = False, per_channel: bool = False) -> None:
        """Say that the node takes a mean over some axes of input 0, each bundle of which lies within them or outside.

        With `exact` it stays a mean over as many positions as before, those that went being zero. Scale and shift lie
        along the last axes, or along axis 1 (`per_channel`).
        """
        bundles = tuple(bundle for bundle in self.labels(0).bundles if set(bundle.axes) & set(axes))
        if bundles:
            found = Statistic(self.number, formula, tuple(axes), bundles, exact, per_channel)
            self.trace.statistics[self.number] = found

    def drop(self, place: int, axis: int) -> None:
        """Say that an axis, whose labels the rule has dealt with, goes no further."""
        labels = self.labels(place)
        bundle = labels.bundle_at(self.axis_of(place, axis))
        if bundle is not None:
            self.relabel(place, labels.replace(bundle, None))

    def contract(self, first: tuple[int, int], second: tuple[int, int]) -> Array | None:
        """Sum the product of two inputs over an axis of each, given as (input, axis); both axes are gone then.

        A weight needs no zeros where the other side reads some.
        """
        tied = self.tie_axes(first, second)
        for side, other in ((first, second), (second, first)):
            if self.is_constant(side[0]):
                self.role(self.axis(*side), Role.READS)
            if self.is_constant(side[0]) and not self.is_constant(other[0]):
                self.drop(*side)
            else:
                self.read(*side)
        return tied

    def role(self, array: Array | None, role: Role) -> None:
        """Say what a weight does along the axis that these labels were born on."""
        if array is not None:
            self.trace.set_role(array, role, self.number)

    def cut(self, place: int, axis: int, *, longest: int = 1) -> Array | None:
        """Labels of an axis that is cut, or joined, by positions into parts of which `longest` is the longest.

        In a bundle the other axes go on varying, unless these are rows taken several at a time, such as heads. Where
        positions within rows shall go, and these are such, all rows lose the same.
        """
        bundle = self.labels(place).bundle_at(axis)
        if bundle is not None and len(bundle.axes) > 1:
            within = axis == bundle.axes[-1]
            if not (within and self.trace.opened.inside_heads) and (within or longest < 2):
                self.hold(place, [axis])
        return self.axis(place, axis)

    def rows(self, place: int, axis: int, parts: Sequence[Array]) -> list[Labels] | None:
        """Labels of parts of an input whose rows are taken by number; None where `axis` is not one of rows.

        Equally many positions of each row of the bundle have to stay, so that no row goes. Some rows of several, such
        as heads, go as a whole instead, unless positions within them shall.
        """
        labels = self.labels(place)
        bundle = labels.bundle_at(axis)
        if bundle is None or len(bundle.axes) != 2 or bundle.axes[0] != axis or not all(map(len, parts)):
            return None
        alone = all(len(part) == 1 or np.array_equal(np.sort(part), np.arange(len(bundle.array))) for part in parts)
        if not alone and not self.trace.opened.inside_heads:
            return None
        self.balance(bundle.array)
        taken = [bundle.array[numbers] for numbers in parts]
        own = [Bundle(bundle.axes, rows) if len(rows) > 1 else Bundle(bundle.axes[1:], rows[0]) for rows in taken]
        return [labels.replace(bundle, part) for part in own]

    def join_rows(self, axis: int) -> Bundle | None:
        """Labels of all inputs' rows joined along `axis`, where positions within rows shall go; None where they do not.

        Equally many of each row stay, whichever input it comes from. Directions of recurrent layers never go as rows.
        """
        bundles = [self.labels(place).bundle_at(axis) for place in self.inputs]
        found = [bundle for bundle in bundles if bundle is not None and len(bundle.axes) == 2]
        alike = len(found) == len(bundles) and len({bundle.axes for bundle in found}) == 1
        inside = self.trace.opened.inside_heads or all(self.is_born_in_rows(bundle) for bundle in found)
        if not inside or not alike or found[0].axes[0] != axis:
            return None
        array = np.concatenate([bundle.array for bundle in found])
        self.balance(np.unique(array, axis=0))
        for place in self.inputs:
            self.drop(place, axis)
        return Bundle(found[0].axes, array)

    def balance(self, array: Array, *, whole: bool = False) -> None:
        """Keep equally many positions of each row, or whole rows where they go together anyway."""
        self.trace.balances.append(Balance(self.number, array, whole))

    def macs(self, factor: float, *arrays: Array | None) -> None:
        """Count multiply-accumulates: `factor` times the kept positions of each array."""
        self.trace.macs.append(Macs(self.number, float(factor), tuple(a for a in arrays if a is not None)))

    def spell(
        self,
        slot: int | str,
        value: Callable[[Kept], NDArray[Any] | None],
        arrays: Sequence[Array],
        *,
        entries: Sequence[int] | None = None,
        instead: str = "",
    ) -> None:
        """Say how an input or an attribute that spells sizes or positions follows from what is kept of some labels."""
        chosen = None if entries is None else tuple(entries)
        real = slot if isinstance(slot, str) else self.place_of(slot)
        self.trace.spellings.append(Spelling(self.number, real, value, tuple(arrays), chosen, instead=instead))

    def spell_sizes(self, place: int, labels: Labels, axes: Sequence[int], *, but: Collection[int] = ()) -> Labels:
        """Say that entry k of an input is the size of axis `axes[k]` of a tensor with these labels.

        Entries in `but` have a meaning of their own and stay. Nothing goes along an axis whose number is computed at
        run time, unless it grows with labels and symbolic dimensions alike; the labels that are left are returned.
        """
        sources = self._shapes.known[self.name_of(place)].sources
        computed = [axis for axis, sizes in zip(axes, sources, strict=True) if not all(map(self.is_static, sizes))]
        loose = [axis for axis in computed if not self._shapes.is_multiple((self.node.output[0], axis))]
        labels = self._held(labels, loose, Purpose.RUNTIME)

        def value(kept: Kept) -> Array:
            sizes = dict(enumerate(labels.shape))
            for bundle in labels.bundles:
                sizes.update(zip(bundle.axes, kept.sizes(bundle.array), strict=True))
            return np.array([sizes[axis] for axis in axes], dtype=np.int64)

        entries = [entry for entry in range(len(axes)) if entry not in but]
        self.spell(place, value, [bundle.array for bundle in labels.bundles], entries=entries)
        return labels

    def label_numbers(self, place: int, axes: Iterable[int]) -> None:
        """Label axes of an input of stored numbers, so that they are cut along them as weights are."""
        known, sizes = self.known(place), self.shape(place)
        if known is None or not known.constant or self.labels(place).bundles:
            return
        arrays = {axis: self.generated(sizes[axis]) for axis in axes if self.can_generate(sizes[axis])}

        def value(kept: Kept) -> NDArray[Any]:
            result: NDArray[Any] = known.value
            for axis, array in arrays.items():
                result = result.compress(kept.of(array), axis)
            return result

        self.spell(place, value, list(arrays.values()))
        bundles = [Bundle((axis,), array) for axis, array in arrays.items()]
        self.relabel(place, Labels(sizes, tuple(bundles), self.positions))

    def keep(self, *places: int) -> None:
        """Keep all of some inputs, such as have no channels; a stored one is left as it is."""
        for place in places:
            if self.has(place) and not self.is_stored(place):
                self.hold(place, range(len(self.shape(place))))

    def become_gather(self, axis: int, array: Array, positions: Callable[[Kept], Array]) -> None:
        """Say that this node, whose positions are no longer regular, takes them by number once any of `array` goes."""
        self.trace.gathers[self.number] = Taking(axis, array, positions)

    def leave_out(self, place: int, arrays: Sequence[Array]) -> None:
        """Say that an input, which spells what is taken for granted without it, goes once any of these labels does."""
        self.trace.omissions.append(Omission(self.number, self.place_of(place), tuple(arrays)))

    def section(self, array: Array | None) -> None:
        """Say that these positions make a tensor of their own, which must not become empty."""
        if array is not None and len(array):
            self.trace.sections.append(array)

    # ---- labels of the outputs --------------------------------------------------------------------------------------

    def out(self, shape: Sequence[int], bundles: Sequence[Bundle] = (), fixed: Fixed | None = None) -> Labels:
        """Labels of an output."""
        return Labels(tuple(shape), tuple(bundles), fixed or self.positions)

    def nothing(self, place: int = 0) -> Labels:
        """Labels of an output along which nothing is removed (of one that is not asked for, none)."""
        return self.out(self.out_shape(place) if self.node.output[place] else ())

    def unknown(self, place: int = 0) -> Labels:
        """Keep all of an input, and label nothing: what happens to it is known only at run time."""
        self.hold(place, range(len(self.shape(place))), Purpose.RUNTIME)
        return self.nothing()

    def carry(self, place: int, axes: Mapping[int, int], shape: Sequence[int] | None = None) -> Labels:
        """Hand on the labels of the given axes of one input; the others are held."""
        return self.merge([(place, axes)], self.out_shape() if shape is None else shape)

    def same(self, place: int = 0) -> Labels:
        """Hand on all labels of one input."""
        return self.labels(place)

    def merge(self, parts: Sequence[Part], shape: Sequence[int]) -> Labels:
        """Lay several inputs over one another, as broadcasting does: positions that meet are tied.

        Each part names an input and which of its axes becomes which axis of the output; axes it does not name are
        held. Inputs of size one along an axis meet nobody there.
        """
        for place, axes in parts:
            rank = len(self.shape(place))
            if len(axes) < rank:
                self.hold(place, [axis for axis in range(rank) if axis not in axes])
        pieces = self._pieces(parts)
        if len(parts) == 1:
            return self.out(shape, [Bundle(p.axes, p.bundle.array) for p in pieces], self.fixed(parts[0][0]))
        rows = self._rows_kept(parts)
        pieces = self._pieces(parts) if rows else pieces
        while (clash := self._clash(parts, pieces, rows)) is not None:
            piece, keep = clash
            place, axes = parts[piece.part]
            inverse = {outer: inner for inner, outer in axes.items()}
            self.hold(place, [inverse[axis] for axis in piece.axes if axis != keep])
            pieces = self._pieces(parts)
        merged: dict[tuple[int, ...], Array] = {}
        reasons = [self.fixed(place) for place, _ in parts]
        for piece in pieces:
            fixed = None if piece.axes in rows else self._fixed_at(parts, piece)
            if fixed is not None:
                self.trace.pin(piece.bundle.array, fixed)
                reasons.insert(0, fixed)
                continue
            known = merged.setdefault(piece.axes, piece.bundle.array)
            self.trace.tie(known, piece.bundle.array)
            if self.is_written(piece.bundle.array):
                merged[piece.axes] = piece.bundle.array
        bundles = [Bundle(axes, array) for axes, array in merged.items()]
        # That something lies along positions is the least that can be said of it.
        told = next((fixed for fixed in reasons if fixed.purpose is not Purpose.POSITION), reasons[0])
        return self.out(shape, bundles, told)

    def _pieces(self, parts: Sequence[Part]) -> list[_Piece]:
        return [
            _Piece(number, tuple([axes[axis] for axis in bundle.axes]), bundle)
            for number, (place, axes) in enumerate(parts)
            for bundle in self.labels(place).bundles
        ]

    def _size_at(self, part: Part, axis: int) -> int:
        place, axes = part
        return next((self.shape(place)[inner] for inner, outer in axes.items() if outer == axis), 1)

    def _rows_kept(self, parts: Sequence[Part]) -> set[tuple[int, ...]]:
        """Find bundles whose rows all stay, on request, where other inputs have an axis for rows but none within them.

        What goes are positions within rows then, equally many of each; nothing goes along the others' axes of rows.
        """
        if not self.trace.opened.inside_heads:
            return set()
        found = set()
        for piece in [piece for piece in self._pieces(parts) if len(piece.axes) > 1]:
            others = [part for part in parts if not self._has_bundle(part, piece.axes)]
            held = [(part, axis) for part in others for axis in piece.axes if self._size_at(part, axis) > 1]
            if held and all(axis != piece.axes[-1] and self._may_stay(part, axis) for part, axis in held):
                found.add(piece.axes)
                self.balance(np.unique(piece.bundle.array.reshape(-1, piece.bundle.array.shape[-1]), axis=0))
                for (place, axes), axis in held:
                    self.hold(place, [inner for inner, outer in axes.items() if outer == axis])
        return found

    def _has_bundle(self, part: Part, axes: tuple[int, ...]) -> bool:
        place, own = part
        return any(tuple(own[axis] for axis in bundle.axes) == axes for bundle in self.labels(place).bundles)

    def _may_stay(self, part: Part, axis: int) -> bool:
        """Tell whether an axis has no heads that are all that is left to go of a layer, features being tied."""
        place, axes = part
        bundle = next((self.labels(place).bundle_at(inner) for inner, outer in axes.items() if outer == axis), None)
        if bundle is None or not self.is_written(bundle.array):
            return bundle is None or len(bundle.axes) == 1
        return self.trace.block_of(int(bundle.array.flat[0])).size == bundle.array.size

    def _clash(self, parts: Sequence[Part], pieces: list[_Piece], rows: set[tuple[int, ...]]) -> _Clash | None:
        """Find a bundle over several axes that another input uses one by one, and the axis that shall vary.

        It is one along which the other has a layer's channels, else one along which the other does not vary (a table
        per feature within a head leaves heads to go), else the outermost. Where positions within rows shall go, the
        innermost comes first if the other has labels there.
        """
        if all(len(piece.axes) == 1 for piece in pieces):
            return None
        inside = self.trace.opened.inside_heads
        by_part = {number: [piece for piece in pieces if piece.part == number] for number in range(len(parts))}
        for piece in pieces:
            if len(piece.axes) == 1 or piece.axes in rows:
                continue
            for number, part in enumerate(parts):
                sizes = {axis: self._size_at(part, axis) for axis in piece.axes}
                alike = any(other.axes == piece.axes for other in by_part[number])
                if number == piece.part or alike or all(size == 1 for size in sizes.values()):
                    continue
                labelled = {axis for other in by_part[number] for axis in other.axes}
                free = [axis for axis in piece.axes if sizes[axis] == 1 or axis in labelled] or list(piece.axes)
                written = {a for other in by_part[number] if self.is_written(other.bundle.array) for a in other.axes}
                last = piece.axes[-1] if inside and piece.axes[-1] in labelled else None
                return piece, max(free, key=lambda axis: (axis == last, axis in written, sizes[axis] == 1))
        return None

    def _fixed_at(self, parts: Sequence[Part], piece: _Piece) -> Fixed | None:
        """Return why a piece meets positions that never go, None where it does not."""
        for number, (place, axes) in enumerate(parts):
            if number == piece.part:
                continue
            labels, shape = self.labels(place), self.shape(place)
            met = [inner for inner, outer in axes.items() if outer in piece.axes]
            if any(shape[inner] > 1 and labels.bundle_at(inner) is None for inner in met):
                return labels.fixed
        return None

    def broadcast(self, places: Sequence[int], shape: Sequence[int] | None = None) -> Labels:
        """Lay inputs over one another by NumPy's rules, aligned at the last axis."""
        shape = self.out_shape() if shape is None else shape
        ranks = [len(self.shape(place)) for place in places]
        aligned = [{axis: axis + len(shape) - rank for axis in range(rank)} for rank in ranks]
        return self.merge(list(zip(places, aligned, strict=True)), shape)
