"""Least squares problems for tests: as rows, which brute force solves, and as the layer of moments that they make."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.coreset.layer import Layer

__all__ = ["Problem", "drawn", "optimum"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Rows a (r, n), targets (r, k), weights to hold on to (n, k), the ridge, and the candidates' columns."""

    rows: Floats
    targets: Floats
    held: Floats
    ridge: float
    members: NDArray[np.int64]
    blocks: NDArray[np.int64]
    fixed: NDArray[np.int64]

    @property
    def layer(self) -> Layer:
        """The same as moments."""
        count, columns = self.rows.shape
        gram = self.rows.T @ self.rows / count + self.ridge * np.eye(columns)
        cross = self.rows.T @ self.targets / count + self.ridge * self.held
        energy = float(np.square(self.targets).sum() / count + self.ridge * np.square(self.held).sum())
        return Layer(gram, cross, energy, self.members, self.blocks, self.fixed)

    def loss(self, weights: Floats) -> float:
        """Loss of any weights, from the rows."""
        fit = np.square(self.targets - self.rows @ weights).sum() / len(self.rows)
        return float(fit + self.ridge * np.square(weights - self.held).sum())

    def solve(self, kept: Sequence[int]) -> Floats:
        """Best weights where these candidates stay, the ridge being so many rows more."""
        count, columns = self.rows.shape
        left = np.sort(np.concatenate([self.fixed, self.blocks[np.isin(self.members, list(kept))].ravel()]))
        tall = np.vstack([self.rows / np.sqrt(count), np.sqrt(self.ridge) * np.eye(columns)])
        wanted = np.vstack([self.targets / np.sqrt(count), np.sqrt(self.ridge) * self.held])
        weights = np.zeros_like(self.held)
        weights[left] = np.linalg.lstsq(tall[:, left], wanted, rcond=None)[0]
        return weights

    def best(self, kept: Sequence[int]) -> float:
        """Least loss where these candidates stay."""
        return self.loss(self.solve(kept))


def drawn(
    seed: int,
    *,
    candidates: int = 6,
    width: int = 1,
    fixed: int = 0,
    kind: str = "",
    scale: float = 1.0,
    outputs: int = 3,
) -> Problem:
    """A problem of some kind: "", "duplicates", "zeros", "rank one", "orthogonal", "alike"."""
    rng = np.random.default_rng([11, seed])
    columns, count = candidates * width + fixed, 60
    mixed = rng.standard_normal((columns, columns)) + 2 * np.eye(columns)
    rows = rng.standard_normal((count, columns)) @ mixed
    places = rng.permutation(columns)
    blocks = places[: candidates * width].reshape(candidates, width)
    if kind == "duplicates":
        rows[:, blocks[1]] = rows[:, blocks[0]]
    elif kind == "zeros":
        rows[:, blocks[0]] = 0
    elif kind == "rank one":
        rows = np.outer(rows[:, 0], rng.standard_normal(columns))
    elif kind == "orthogonal":
        rows = np.linalg.qr(rows)[0] * np.sqrt(count)
    elif kind == "alike":
        rows = rows[:, :1] + 1e-6 * rows
    rows *= scale
    held = rng.standard_normal((columns, outputs))
    targets = rows @ held + 0.1 * scale * rng.standard_normal((count, outputs))
    ridge = 1e-3 * float(np.square(rows).sum()) / count / columns
    return Problem(rows, targets, held, ridge, np.arange(candidates), blocks, np.sort(places[candidates * width :]))


def optimum(problems: Sequence[Problem], worth: Sequence[float], kept: Sequence[int]) -> float:
    """Least loss of several problems together."""
    return sum(value * problem.best(kept) for problem, value in zip(problems, worth, strict=True))
