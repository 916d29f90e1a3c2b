"""Moments of a reader, gathered batch by batch: what its least squares problem needs, whatever the number of samples.

    G = Σ (a − ā)(a − ā)ᵀ / R,   T = Σ (a − ā)(y − ȳ)ᵀ / R,   energy = Σ ‖y − ȳ‖² / R      over R rows

Rows are shifted by the means of the first ones before they are multiplied in float32, so that large means cost no
digits; sums are float64. A product of few rows is slow, so that rows wait for others. Of the positions of a picture
some are drawn, as many as give so many rows per column.

Few rows tell little of a wide reader. Weights then hold on to the old ones more tightly, how much is found out on rows
that are left out for it (`tighten`); and what a mean over positions was taken of, less that mean, shows further
directions in which rows vary (`spread`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

from onnxprune.coreset.layer import Layer, factorised
from onnxprune.reconstruct.readers import Reader
from onnxprune.threads import blas_threads

__all__ = ["FEWEST", "RIDGE", "ROWS", "TO_CHOOSE", "Moments", "drawn"]

Floats = NDArray[np.float64]
RIDGE = 1e-3
"""Of the mean diagonal of the gram."""
ROWS, TO_CHOOSE, FEWEST = 16, 4, 6144
"""Rows per column that weights are solved on, and that channels are chosen on; and rows at least."""
_ROW_BYTES = 1 << 28
# Fewer rows per column are few.
_FEW = 4
# How tightly weights are tried to hold on to the old ones, in ridges or, where there is a spread, shares of it; and one
# in so many rows is left out to see which is best.
_TIGHTER, _SHARES, _LEFT_OUT = (1, 10, 100, 1000), (0.0, 0.03, 0.1, 0.3, 1.0, 3.0), 4
# Share of the spread, and ridge, that so many columns per row ask for where that cannot be tried.
_SHARE_GUESSED, _RIDGE_GUESSED = 1 / 3, 0.03
# Below any variance that float32 can show, and far enough above the smallest float64 to be squared and divided.
_LEAST_RIDGE = 1e-100


def drawn(reader: Reader, shape: Sequence[int], wanted: int, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Draw so many positions of a reader's output of some shape, or as many as memory allows; None for all."""
    positions = reader.form.positions(shape)
    affordable = _ROW_BYTES // (4 * reader.units.size * max(shape[0], 1))
    wanted = max(min(wanted, affordable), 1)
    return None if positions <= wanted else np.sort(rng.choice(positions, wanted, replace=False))


_Products = tuple[Floats, Floats, Floats]


@dataclass
class _Sums:
    """Sums over shifted rows (g, R, n) and targets (g, R, k): their own, and their products'."""

    gram: Floats
    cross: Floats
    squares: Floats
    inner: Floats
    outer: Floats
    count: int = 0

    @classmethod
    def of(cls, reader: Reader) -> "_Sums":
        """Nothing as yet."""
        (products, columns), width = reader.units.shape, reader.width
        sizes = ((columns, columns), (columns, width), (width,), (columns,), (width,))
        gram, cross, squares, inner, outer = (np.zeros((products, *size)) for size in sizes)
        return cls(gram, cross, squares, inner, outer)

    def add(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add rows and targets in float32."""
        across = rows.transpose(0, 2, 1)
        self.gram += across @ rows
        self.cross += across @ targets
        self.squares += np.square(targets, dtype=np.float64).sum(axis=1)
        self.inner += rows.sum(axis=1, dtype=np.float64)
        self.outer += targets.sum(axis=1, dtype=np.float64)
        self.count += rows.shape[1]

    def about(self, number: int, inner: Floats, outer: Floats) -> _Products:
        """Mean products of one reader's rows less some (n,) and targets less some (k,): gram, cross and energies."""
        a, y = self.inner[number] / self.count, self.outer[number] / self.count
        gram = self.gram[number] / self.count - np.outer(a, inner) - np.outer(inner, a - inner)
        cross = self.cross[number] / self.count - np.outer(a, outer) - np.outer(inner, y - outer)
        energies = self.squares[number] / self.count - 2 * y * outer + outer**2
        return gram, cross, energies

    def at(self, number: int, columns: NDArray[np.int64]) -> "_Sums":
        """Sums of one product, of some columns only."""
        gram, cross, squares, inner, outer = (part[number : number + 1] for part in self.parts)
        within = gram[:, columns[:, None], columns]
        return _Sums(within, cross[:, columns], squares, inner[:, columns], outer, self.count)

    def less(self, other: "_Sums") -> "_Sums":
        """Sums without some of their rows."""
        gram, cross, squares, inner, outer = (a - b for a, b in zip(self.parts, other.parts, strict=True))
        return _Sums(gram, cross, squares, inner, outer, self.count - other.count)

    @property
    def parts(self) -> tuple[Floats, ...]:
        """All sums."""
        return self.gram, self.cross, self.squares, self.inner, self.outer

    @property
    def is_finite(self) -> bool:
        """Tell whether all of them are numbers."""
        return all(np.isfinite(part).all() for part in self.parts)


_NOWHERE = np.zeros(1), np.zeros(1)


def _blend(own: _Products, further: _Products, share: float) -> _Products:
    """Gram, cross and energies of rows, and of further ones that count less."""
    gram, cross, energies = (part + share * more for part, more in zip(own, further, strict=True))
    return gram, cross, energies


class Moments:
    """Moments of one reader.

    Parameters
    ----------
    reader : Reader
    samples : int
        How many samples there will be.
    centred : bool
        Whether means are taken out, as a bias allows.
    rows : int
        Rows per column, where there are so many.
    leaves_out : bool
        Whether some of few rows are left out to be tried on.
    """

    def __init__(
        self, reader: Reader, samples: int, *, centred: bool, rows: int = ROWS, leaves_out: bool = True
    ) -> None:
        self.reader, self.centred, self.samples, self.leaves_out = reader, centred, samples, leaves_out
        self.is_short = False
        self.wanted = -(-max(rows * reader.units.shape[1], FEWEST) // max(samples, 1))
        self.count = 0
        self.total = _Sums.of(reader)
        self.held: _Sums | None = None
        self.spread: _Sums | None = None
        self.ridge, self.share = RIDGE, 0.0
        self.starts: list[Floats] = []
        self.waiting: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.late = 0

    def places(self, shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Draw the output positions of a batch to look at; None for all."""
        rows = self.samples * max(self.reader.form.positions(shape), 1)
        self.is_short = rows < _FEW * self.reader.units.shape[1]
        return drawn(self.reader, shape, self.wanted, rng)

    def add(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add rows (g, R, n) and what the reader is to make of them (g, R, k); infinities come out as not usable."""
        self.waiting.append((rows, targets))
        self.count += rows.shape[1]
        self.late += rows.shape[1]
        if self.late >= self.reader.units.shape[1]:
            self._settle()

    def widen(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add further directions (g, R, n) in which rows vary, and what the reader is to make of these."""
        self.spread = self.spread or _Sums.of(self.reader)
        with np.errstate(over="ignore", invalid="ignore"), blas_threads(rows.shape[2]):
            self.spread.add(rows, targets)

    def _settle(self) -> None:
        """Take in the rows that wait."""
        if self.waiting:
            pairs = zip(*self.waiting, strict=True)
            parts = [np.concatenate(part, axis=1) if len(part) > 1 else part[0] for part in pairs]
            self.waiting, self.late = [], 0
            with np.errstate(over="ignore", invalid="ignore"), blas_threads(self.reader.units.shape[1]):
                self._add(*parts)

    def _add(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        if not self.starts:
            self.starts = [
                part.mean(axis=1, keepdims=True, dtype=np.float64) * self.centred for part in (rows, targets)
            ]
        rows, targets = (
            part - start.astype(np.float32) for part, start in zip((rows, targets), self.starts, strict=True)
        )
        self.total.add(rows, targets)
        if self.is_short and self.leaves_out:
            self.held = self.held or _Sums.of(self.reader)
            last = slice(rows.shape[1] - rows.shape[1] // _LEFT_OUT, None)
            self.held.add(rows[:, last], targets[:, last])

    def move(self, rows: NDArray[Any], targets: NDArray[Any], moved: NDArray[Any]) -> None:
        """Take for rows that were added, all of them there by now, targets that lie elsewhere by (g, R, k)."""
        inner, outer = (start.astype(np.float32) for start in self.starts)
        with blas_threads(self.reader.units.shape[1]):
            self.total.cross += (rows - inner).transpose(0, 2, 1) @ moved
        self.total.squares += (moved * (2 * (targets - outer) + moved)).sum(axis=1, dtype=np.float64)
        self.total.outer += moved.sum(axis=1, dtype=np.float64)
        self.held = None

    @property
    def usable(self) -> bool:
        """Tell whether there are rows, and numbers only in what came of them."""
        self._settle()
        return self.count > 0 and self.total.is_finite and (self.spread is None or self.spread.is_finite)

    @property
    def _centres(self) -> tuple[Floats, Floats]:
        """Mean shifted row (g, n) and mean shifted target (g, k); zeros where nothing is centred."""
        self._settle()
        return self.total.inner / self.count * self.centred, self.total.outer / self.count * self.centred

    @property
    def means(self) -> tuple[Floats, Floats]:
        """Mean row (g, n) and mean target (g, k); zeros where nothing is centred."""
        inner, outer = (start[:, 0] + centre for start, centre in zip(self.starts, self._centres, strict=True))
        return inner, outer

    def biases(self, weights: Floats) -> Floats:
        """Biases (g, k) that make means right with some weights (g, n, k)."""
        inner, outer = self.means
        found: Floats = outer - np.einsum("gn,gnk->gk", inner, weights)
        return found

    def guess(self) -> None:
        """Hold on to the old weights as tightly as so few rows ask for."""
        self._settle()
        per_row = self.reader.units.shape[1] / max(self.count, 1)
        if self.spread is not None:
            self.share = min(_SHARE_GUESSED * per_row, 1.0)
        elif self.is_short:
            self.ridge = min(max(RIDGE, _RIDGE_GUESSED * per_row), 1.0)

    def tighten(self, weights: Floats, gone: NDArray[np.bool_]) -> None:
        """Find out on the rows left out, where there are any, how tightly to hold on to the old weights.

        Parameters
        ----------
        weights : ndarray (g, n, k)
            The old ones.
        gone : ndarray of bool (units,)
            Units whose columns are no more.
        """
        self._settle()
        if self.held is None or not self.held.count:
            return
        ways = [(RIDGE * times, 0.0) for times in _TIGHTER]
        if self.spread is not None:
            ways = [(RIDGE, share) for share in _SHARES]
        missed = np.zeros(len(ways))
        for number, units in enumerate(self.reader.units):
            columns = np.flatnonzero((units < 0) | ~gone[units])
            missed += self._missed(number, columns, weights[number, columns], ways)
        self.ridge, self.share = ways[int(np.argmin(missed))]
        self.held = None

    def _missed(
        self, number: int, columns: NDArray[np.int64], old: Floats, ways: Sequence[tuple[float, float]]
    ) -> list[float]:
        """What the columns that are left of a product miss of the rows left out, learnt from the others in each way."""
        assert self.held is not None
        centres = [part[number] for part in self._centres]
        centres[0] = centres[0][columns]
        held = self.held.at(number, columns)
        learnt, unseen = self.total.at(number, columns).less(held).about(0, *centres), held.about(0, *centres)
        spread = None if self.spread is None else self.spread.at(number, columns).about(0, *_NOWHERE)
        missed = []
        for ridge, share in ways:
            gram, cross, _ = learnt if spread is None else _blend(learnt, spread, share)
            added = max(ridge * float(np.trace(gram)) / max(len(gram), 1), _LEAST_RIDGE)
            new = cho_solve((factorised(gram + added * np.eye(len(gram))), True), cross + added * old)
            seen, wanted, energies = unseen
            missed.append(float(energies.sum() - 2 * np.vdot(new, wanted) + np.vdot(new, seen @ new)))
        return missed

    def layers(
        self, weights: Floats, members: NDArray[np.int64], gone: NDArray[np.bool_], worth: Floats | None = None
    ) -> list[Layer]:
        """See the reader as layers, one per product.

        Parameters
        ----------
        weights : ndarray (g, n, k)
            What the ridge holds on to.
        members : ndarray of int (units,)
            Number of each unit as a candidate, −1 for none.
        gone : ndarray of bool (units,)
            Units whose columns are no more; their weights are what the others have to make up for.
        worth : ndarray (g, k), optional
            What the outputs are multiplied by before they are looked at, and solutions with them; ones by default.

        Returns
        -------
        list of Layer
        """
        inner, outer = self._centres
        made = []
        for number, units in enumerate(self.reader.units):
            gram, cross, energies = self.total.about(number, inner[number], outer[number])
            if self.spread is not None:
                further = self.spread.about(number, *_NOWHERE)
                gram, cross, energies = _blend((gram, cross, energies), further, self.share)
            ridge = max(self.ridge * float(np.trace(gram)) / len(gram), _LEAST_RIDGE)
            gram[np.diag_indices_from(gram)] += ridge
            cross += ridge * weights[number]
            energies += ridge * np.square(weights[number]).sum(axis=0)
            if worth is not None:
                cross *= worth[number]
                energies *= np.square(worth[number])
            stays = (units < 0) | ~gone[units]
            candidate = np.where(stays & (units >= 0), members[units], -1)
            numbers = np.unique(candidate[candidate >= 0])
            order = np.argsort(candidate, kind="stable")[np.count_nonzero(candidate < 0) :]
            fixed = np.flatnonzero(stays & (candidate < 0))
            blocks = order.reshape(numbers.size, -1) if numbers.size else np.empty((0, 1), dtype=np.int64)
            made.append(Layer(gram, cross, float(energies.sum()), numbers, blocks, fixed))
        return made
