"""Moments of a reader, gathered batch by batch: what its least squares problem needs, whatever the number of samples.

    G = Σ (a − ā)(a − ā)ᵀ / R,   T = Σ (a − ā)(y − ȳ)ᵀ / R,   energy = Σ ‖y − ȳ‖² / R      over R rows

Rows are shifted by the means of the first ones before they are multiplied in float32, so that large means cost no
digits; sums are float64. A product of few rows is slow, so that rows wait for others. Of the positions of a picture
some are drawn, as many as give so many rows per column.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.layer import Layer
from onnxprune.reconstruct.readers import Reader
from onnxprune.threads import blas_threads

__all__ = ["FEWEST", "RIDGE", "ROWS", "TO_CHOOSE", "Moments", "drawn"]

Floats = NDArray[np.float64]
RIDGE = 1e-3
"""Of the mean diagonal of the gram."""
ROWS, TO_CHOOSE, FEWEST = 16, 4, 6144
"""Rows per column that weights are solved on, and that channels are chosen on; and rows at least."""
_ROW_BYTES = 1 << 30
# Below any variance that float32 can show, and far enough above the smallest float64 to be squared and divided.
_LEAST_RIDGE = 1e-100


def drawn(reader: Reader, shape: Sequence[int], wanted: int, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Draw so many positions of a reader's output of some shape, or as many as memory allows; None for all."""
    positions = reader.form.positions(shape)
    affordable = _ROW_BYTES // (4 * reader.units.size * max(shape[0], 1))
    wanted = max(min(wanted, affordable), 1)
    return None if positions <= wanted else np.sort(rng.choice(positions, wanted, replace=False))


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
    """

    def __init__(self, reader: Reader, samples: int, *, centred: bool, rows: int = ROWS) -> None:
        self.reader, self.centred = reader, centred
        self.wanted = -(-max(rows * reader.units.shape[1], FEWEST) // max(samples, 1))
        self.count = 0
        products, columns = reader.units.shape
        self.gram = np.zeros((products, columns, columns))
        self.cross = np.zeros((products, columns, reader.width))
        self.squares = np.zeros((products, reader.width))
        self.sums: list[Floats] = []
        self.starts: list[Floats] = []
        self.waiting: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.late = 0

    def places(self, shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Draw the output positions of a batch to look at; None for all."""
        return drawn(self.reader, shape, self.wanted, rng)

    def add(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add rows (g, R, n) and what the reader is to make of them (g, R, k); infinities come out as not usable."""
        self.waiting.append((rows, targets))
        self.count += rows.shape[1]
        self.late += rows.shape[1]
        if self.late >= self.gram.shape[1]:
            self._settle()

    def _settle(self) -> None:
        """Take in the rows that wait."""
        if self.waiting:
            pairs = zip(*self.waiting, strict=True)
            parts = [np.concatenate(part, axis=1) if len(part) > 1 else part[0] for part in pairs]
            self.waiting, self.late = [], 0
            with np.errstate(over="ignore", invalid="ignore"), blas_threads(self.gram.shape[1]):
                self._add(*parts)

    def _add(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        if not self.starts:
            self.starts = [
                part.mean(axis=1, keepdims=True, dtype=np.float64) * self.centred for part in (rows, targets)
            ]
            self.sums = [np.zeros_like(start) for start in self.starts]
        rows, targets = (
            part - start.astype(np.float32) for part, start in zip((rows, targets), self.starts, strict=True)
        )
        across = rows.transpose(0, 2, 1)
        self.gram += across @ rows
        self.cross += across @ targets
        self.squares += np.square(targets, dtype=np.float64).sum(axis=1)
        for total, part in zip(self.sums, (rows, targets), strict=True):
            total += part.sum(axis=1, keepdims=True, dtype=np.float64)

    def move(self, rows: NDArray[Any], targets: NDArray[Any], moved: NDArray[Any]) -> None:
        """Take for rows that were added, all of them there by now, targets that lie elsewhere by (g, R, k)."""
        inner, outer = (start.astype(np.float32) for start in self.starts)
        with blas_threads(self.gram.shape[1]):
            self.cross += (rows - inner).transpose(0, 2, 1) @ moved
        self.squares += (moved * (2 * (targets - outer) + moved)).sum(axis=1, dtype=np.float64)
        self.sums[1] += moved.sum(axis=1, keepdims=True, dtype=np.float64)

    @property
    def usable(self) -> bool:
        """Tell whether there are rows, and numbers only in what came of them."""
        self._settle()
        parts = (self.gram, self.cross, self.squares, *self.sums)
        return self.count > 0 and all(np.isfinite(part).all() for part in parts)

    @property
    def means(self) -> tuple[Floats, Floats]:
        """Mean row (g, n) and mean target (g, k); zeros where nothing is centred."""
        self._settle()
        pairs = zip(self.starts, self.sums, strict=True)
        inner, outer = ((start + total / self.count * self.centred)[:, 0] for start, total in pairs)
        return inner, outer

    def biases(self, weights: Floats) -> Floats:
        """Biases (g, k) that make means right with some weights (g, n, k)."""
        inner, outer = self.means
        found: Floats = outer - np.einsum("gn,gnk->gk", inner, weights)
        return found

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
        self._settle()
        inner, outer = (total[:, 0] / self.count * self.centred for total in self.sums)
        made = []
        for number, units in enumerate(self.reader.units):
            gram = self.gram[number] / self.count - np.outer(inner[number], inner[number])
            cross = self.cross[number] / self.count - np.outer(inner[number], outer[number])
            energies = self.squares[number] / self.count - outer[number] ** 2
            ridge = max(RIDGE * float(np.trace(gram)) / len(gram), _LEAST_RIDGE)
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
