"""Moments of a reader too wide for a matrix of its order: each output is set right by one factor and its bias.

    p = aᵀW on the columns that are left;   per output   min over s, b of  E(y − s p − b)² + λ (s − 1)²

λ is the same share of E(p − p̄)² that other readers have as their ridge. Without means taken out b is none. Weights that
are stored as integers keep s = 1: what rounding makes of others cannot be told from these sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.reconstruct.moments import FEWEST, RIDGE, drawn
from onnxprune.reconstruct.readers import Reader

__all__ = ["WIDEST", "Corrected", "WideMoments"]

Floats = NDArray[np.float64]

WIDEST = 6144
"""Columns up to which a reader is solved anew by a matrix of that order."""


@dataclass(frozen=True)
class Corrected:
    """Weights (g, n, k), biases (g, k), and the share of the targets' variance that they miss; before, too."""

    weights: Floats
    biases: Floats
    missed: float
    missed_before: float


class WideMoments:
    """Moments of one reader's results.

    Parameters
    ----------
    reader : Reader
    samples : int
        How many samples there will be.
    weights : ndarray (g, n, k)
        Zero where a column is gone.
    """

    def __init__(self, reader: Reader, samples: int, weights: Floats) -> None:
        self.reader, self.weights = reader, weights
        self.wanted = -(-FEWEST // max(samples, 1))
        self.count = 0
        self.starts: list[Floats] = []
        # Sums of p, y, p², py and y² per output, shifted by the first batch's means.
        self.sums = np.zeros((5, *weights.shape[::2]))

    def places(self, shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Draw the output positions of a batch to look at; None for all."""
        return drawn(self.reader, shape, self.wanted, rng)

    def add(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add rows (g, R, n) and what the reader is to make of them (g, R, k)."""
        with np.errstate(over="ignore", invalid="ignore"):
            p, y = (part.astype(np.float64) for part in (rows @ self.weights.astype(rows.dtype), targets))
            if not self.starts:
                self.starts = [part.mean(axis=1, keepdims=True) * bool(self.reader.bias) for part in (p, y)]
            p, y = (part - start for part, start in zip((p, y), self.starts, strict=True))
            self.sums += [part.sum(axis=1) for part in (p, y, p * p, p * y, y * y)]
        self.count += rows.shape[1]

    @property
    def usable(self) -> bool:
        """Tell whether there are rows, and numbers only in what came of them."""
        return self.count > 0 and bool(np.isfinite(self.sums).all())

    def solve(self) -> Corrected:
        """Find the factors and biases."""
        p, y, pp, py, yy = self.sums / self.count
        if self.reader.bias:
            pp, py, yy = pp - p * p, py - p * y, yy - y * y
        factors = (py + RIDGE * pp) / np.maximum((1 + RIDGE) * pp, np.finfo(np.float64).tiny)
        factors = np.where((pp > 0) & (self.reader.grid is None), factors, 1.0)
        total = max(float(yy.sum()), 1e-30)
        missed, before = (float((yy - 2 * s * py + s * s * pp).sum()) / total for s in (factors, np.ones_like(factors)))
        inner, outer = ((start[:, 0] + part) for start, part in zip(self.starts, (p, y), strict=True))
        return Corrected(self.weights * factors[:, None], outer - factors * inner, missed, before)
