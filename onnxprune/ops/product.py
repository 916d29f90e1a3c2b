"""Products of tensors summed over letters, of which MatMul and Einsum are forms: y[r] = Σ Π_p x_p[t_p].

Each axis of an input has a letter; letters that the result lacks are summed over. Axes of one letter live and die
together. Where a letter names one axis of a bundle (features of a head, whose number is a batch axis), the bundle's
other axes go on varying, so that heads go; or, on request, features go, equally many of each head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.ops.labels import Array, Bundle, Fixed, Labels
from onnxprune.ops.op import Op
from onnxprune.ops.trace import Role

__all__ = ["Term", "product"]


@dataclass(frozen=True)
class Term:
    """An input, and the letters of its axes; an axis without a letter is of size one or has been dealt with."""

    place: int
    letters: tuple[str, ...]

    def axis(self, letter: str) -> int:
        """Axis of a letter."""
        return self.letters.index(letter)


@dataclass(frozen=True)
class _Site:
    """An input's axis of some letter, longer than one, and the bundle that holds it."""

    term: Term
    axis: int
    bundle: Bundle | None

    @property
    def place(self) -> int:
        return self.term.place

    @property
    def letters(self) -> tuple[str, ...]:
        """Letters of the bundle's axes, in its own order."""
        return () if self.bundle is None else tuple(self.term.letters[axis] for axis in self.bundle.axes)


class _Product:
    """One product, as it is worked out letter by letter."""

    def __init__(self, op: Op, terms: Sequence[Term], result: Sequence[str]) -> None:
        self.op = op
        self.terms = [self._without_repeats(term) for term in terms]
        self.result = tuple(result)
        self.sizes: dict[str, int] = {}
        self.thinned: set[tuple[int, int]] = set()
        for term in self.terms:
            for letter, size in zip(term.letters, op.shape(term.place), strict=True):
                self.sizes[letter] = max(size, self.sizes.get(letter, 1))

    def run(self) -> Labels:
        summed = [letter for letter in self.sizes if letter and letter not in self.result]
        arrays = [array for letter in summed for array in self._sum(letter)]
        self._mark_writers()
        answer = self.op.merge([(term.place, self._kept(term)) for term in self.terms], self.op.out_shape())
        if len(self.terms) > 1:
            arrays += [bundle.array for bundle in answer.bundles]
            labelled = np.prod([float(array.size) for array in arrays])
            self.op.macs(float(np.prod([float(size) for size in self.sizes.values()]) / labelled), *arrays)
        return answer

    def _kept(self, term: Term) -> dict[int, int]:
        """Axes of the output that an input's axes become."""
        return {axis: self.result.index(name) for axis, name in enumerate(term.letters) if name in self.result}

    def _without_repeats(self, term: Term) -> Term:
        """Take the diagonal of axes that have one letter."""
        letters = list(term.letters)
        for axis, letter in enumerate(letters):
            first = letters.index(letter)
            if letter and first != axis:
                self.op.tie_axes((term.place, first), (term.place, axis))
                self.op.drop(term.place, axis)
                letters[axis] = ""
        return replace(term, letters=tuple(letters))

    def _sites(self, letter: str) -> list[_Site]:
        """Where a letter stands for more than one position."""
        found = []
        for term in (term for term in self.terms if letter in term.letters):
            axis = term.axis(letter)
            if self.op.shape(term.place)[axis] > 1:
                found.append(_Site(term, axis, self.op.labels(term.place).bundle_at(axis)))
        return found

    # ---- letters that are summed over -------------------------------------------------------------------------------

    def _sum(self, letter: str) -> Iterator[Array]:
        """Contract a letter, and whatever letters share a bundle with it; yields the labels that were summed over."""
        sites = self._sites(letter)
        if self._alike(sites):
            first = sites[0].bundle
            assert first is not None
            for site in sites[1:]:
                assert site.bundle is not None
                self.op.trace.tie(first.array, site.bundle.array)
            self._read(sites)
            yield first.array
        elif self._ragged(letter, sites):
            yield self._tie_rows(sites)
            self._read(sites)
        else:
            for site in sites:
                self._thin(letter, site, columns=all(other.bundle is not None for other in sites))
            yield from self._sum_alone(self._sites(letter))

    def _alike(self, sites: list[_Site]) -> bool:
        """Tell whether all that have the letter have it in the same bundle of letters, all of which are summed over."""
        letters = sites[0].letters if sites else ()
        if len(letters) < 2 or set(letters) & set(self.result):
            return False
        others = [site for letter in letters for site in self._sites(letter)]
        return all(site.letters == letters for site in others) and len(others) == len(letters) * len(sites)

    def _ragged(self, letter: str, sites: list[_Site]) -> bool:
        """Tell whether positions of this letter may go that differ from row to row of its bundles.

        Rows are other letters of the bundles, none of which is summed over; the letter itself comes last, so that rows
        of equal length are as regular as before.
        """
        if not self.op.trace.opened.inside_heads or any(site.bundle is None for site in sites):
            return False
        longest = max((site.letters for site in sites), key=len, default=())
        if len(longest) < 2 or not set(longest[:-1]) <= set(self.result):
            return False
        ordered = all(site.letters == tuple(name for name in longest if name in site.letters) for site in sites)
        static = all(self.op.is_static((self.op.name_of(s.place), a)) for s in sites if s.bundle for a in s.bundle.axes)
        return ordered and static and longest[-1] == letter

    def _tie_rows(self, sites: list[_Site]) -> Array:
        """Tie bundles of which some lack rows of others; of each row equally many positions stay."""
        bundles = [(site.letters, site.bundle.array) for site in sites if site.bundle is not None]
        letters, longest = max(bundles, key=lambda item: len(item[0]))
        for own, array in bundles:
            sizes = dict(zip(own, array.shape, strict=True))
            laid = array.reshape([sizes.get(letter, 1) for letter in letters])
            self.op.trace.tie(longest, np.broadcast_to(laid, longest.shape))
        # Rows that several heads share are counted once: those of the side that has fewest.
        rows = [np.unique(array.reshape(-1, array.shape[-1]), axis=0) for _, array in bundles]
        self.op.balance(min(rows, key=len))
        return longest

    def _thin(self, letter: str, site: _Site, *, columns: bool) -> None:
        """Reduce a bundle to one axis: other axes go on varying, unless the letter's own is preferred."""
        if len(site.letters) < 2:
            return
        inside = self.op.trace.opened.inside_heads
        others_summed = not set(site.letters) <= {letter, *self.result}
        outermost = site.letters[0] == letter
        if (inside and columns) or (not inside and others_summed and outermost):
            self.op.axis(site.place, site.axis)
        else:
            self.op.hold(site.place, [site.axis])
            self.thinned.add((site.place, site.axis))

    def _sum_alone(self, sites: list[_Site]) -> Iterator[Array]:
        """Contract axes of their own."""
        bare = next((site for site in sites if site.bundle is None), None)
        labelled = [site for site in sites if site.bundle is not None]
        for site in labelled:
            assert site.bundle is not None
            assert labelled[0].bundle is not None
            if bare is not None:
                self.op.tie(site.bundle.array, None, self._reason(bare))
            else:
                self.op.trace.tie(labelled[0].bundle.array, site.bundle.array)
        self._read(labelled)
        if bare is None and labelled and labelled[0].bundle is not None:
            yield labelled[0].bundle.array

    def _reason(self, bare: _Site) -> Fixed:
        """Why nothing goes along an axis: it came so, or heads go here in place of their features."""
        return self.op.fixed(bare.place) if (bare.place, bare.axis) not in self.thinned else self.op.positions

    def _read(self, sites: list[_Site]) -> None:
        """Say that the sites' bundles are summed over; a weight needs no zeros where another side reads some."""
        computed = any(not self.op.is_constant(site.place) for site in sites)
        for site in sites:
            assert site.bundle is not None
            constant = self.op.is_constant(site.place)
            if constant:
                self.op.role(site.bundle.array, Role.READS)
            if not (constant and computed):
                self.op.read_at(site.place, site.bundle.axes, site.bundle.array)
            self.op.drop(site.place, site.axis)

    # ---- letters that stay ------------------------------------------------------------------------------------------

    def _mark_writers(self) -> None:
        """Axes that a weight alone has are a layer's channels, unless it is a list that nothing is summed over with.

        Of a table that is seen through a layer, rows are positions.
        """
        stored = [term for term in self.terms if self.op.is_constant(term.place)]
        for term in stored if len(stored) < len(self.terms) else stored[-1:]:
            if not any(self.sizes[letter] > 1 and letter not in self.result for letter in term.letters if letter):
                continue
            for axis, letter in enumerate(term.letters):
                bundle = self.op.labels(term.place).bundle_at(axis)
                if bundle is not None and letter in self.result and len(self._sites(letter)) == 1:
                    self.op.role(bundle.array, Role.WRITES)


def product(op: Op, terms: Sequence[Term], result: Sequence[str]) -> Labels:
    """Label y[result] = Σ Π_p x_p[letters_p], the sum over all letters that the result lacks.

    Parameters
    ----------
    op : Op
    terms : sequence of Term
        The factors.
    result : sequence of str
        Letters of the output's axes.

    Returns
    -------
    Labels
        Of the output.
    """
    return _Product(op, terms, result).run()
