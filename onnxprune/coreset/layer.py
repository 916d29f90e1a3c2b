"""Knows a layer as its moments: what removing columns of its input costs when its weights are solved anew.

With inputs a, targets y (what the layer is to give) and weights W₀ to hold on to, all centred,

    loss(W) = E‖y − aᵀW‖² + λ‖W − W₀‖²      λ = ridge · mean diagonal of E[aaᵀ]

    G = E[aaᵀ] + λI,   T = E[ayᵀ] + λW₀,   energy = E‖y‖² + λ‖W₀‖²
    min over W supported on S  =  energy − tr(T_Sᵀ G_SS⁻¹ T_S),   at  W_S = G_SS⁻¹ T_S

The ridge pulls towards the weights that are there, not towards zero: a direction that the data does not show keeps
them. Moments of any number of samples have one size, so that data is streamed.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

__all__ = ["Layer", "factorised", "prefix_losses"]

Floats = NDArray[np.float64]
# A matrix that rounding has made indefinite gets this much of its mean diagonal, then ten times as much, and so on.
_JITTER, _TRIES, _SMALLEST = 1e-10, 9, 1e-120
# Of the longest rows of weights: shorter ones are nothing to hold on to.
_SHORT = 1e-12


@dataclass(frozen=True)
class Layer:
    """Moments of one layer, ridge included, and where its candidates for removal lie.

    Attributes
    ----------
    gram : ndarray of float64 (n, n)
        G, symmetric.
    cross : ndarray of float64 (n, k)
        T.
    energy : float
        What is lost where no column is left.
    members : ndarray of int (m,)
        Candidates that have columns here.
    blocks : ndarray of int (m, b)
        Columns of each.
    fixed : ndarray of int (f,)
        Columns that stay whatever goes.
    """

    gram: Floats
    cross: Floats
    energy: float
    members: NDArray[np.int64]
    blocks: NDArray[np.int64]
    fixed: NDArray[np.int64]

    def columns(self, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """Columns that are left, ascending, where these candidates are."""
        chosen = self.blocks[np.isin(self.members, kept)]
        return np.sort(np.concatenate([self.fixed, chosen.ravel()]))

    def solve(self, kept: NDArray[np.int64]) -> Floats:
        """Solve for the weights on the columns that are left.

        Parameters
        ----------
        kept : ndarray of int
            Candidates that stay.

        Returns
        -------
        ndarray of float64 (n, k)
            Zero where a column is gone.

        Examples
        --------
        >>> layer = Layer(np.eye(2), np.ones((2, 1)), 2.0, np.arange(2), np.arange(2)[:, None], np.arange(0))
        >>> layer.solve(np.array([1])).ravel().tolist()
        [0.0, 1.0]
        """
        columns = self.columns(kept)
        weights = np.zeros_like(self.cross)
        if columns.size:
            factor = factorised(self.gram[np.ix_(columns, columns)])
            weights[columns] = cho_solve((factor, True), self.cross[columns])
        return weights

    def anchored(self, shares: Floats) -> "Layer":
        """Miss every candidate by a share of the energy more than the data says, whatever the others make up for.

        With W the weights where all stay, a further ridge of each candidate j holds on to its own rows W_j:

            loss(W̃) + Σ δ_j ‖W̃_j − W_j‖²,    δ_j ‖W_j‖² = share_j · energy

        Data that shows a candidate seldom, but is not what the network will see, says little against it.

        Parameters
        ----------
        shares : ndarray (c,)
            Of all candidates.

        Returns
        -------
        Layer
        """
        weights = self.solve(np.unique(self.members))
        lengths = np.square(weights[self.blocks]).sum(axis=(1, 2))
        least = max(float(lengths.max(initial=0.0)) * _SHORT, _SMALLEST)
        held = self.energy * shares[self.members] / np.maximum(lengths, least)
        gram, cross = self.gram.copy(), self.cross.copy()
        columns, times = self.blocks.ravel(), np.repeat(held, self.blocks.shape[1])
        gram[columns, columns] += times
        cross[columns] += times[:, None] * weights[columns]
        return replace(self, gram=gram, cross=cross, energy=self.energy + float(held @ lengths))

    def loss(self, weights: Floats) -> float:
        """Loss of any weights (n, k), ridge included."""
        fit = 2.0 * float(np.vdot(weights, self.cross)) - float(np.vdot(weights, self.gram @ weights))
        return self.energy - fit


def factorised(matrix: Floats) -> Floats:
    """Return the lower Cholesky factor of a matrix that is positive definite but for rounding.

    Parameters
    ----------
    matrix : ndarray of float64 (n, n)
        Symmetric.

    Raises
    ------
    ValueError
        If it holds numbers that are none, or is far from positive definite.
    """
    scale = float(np.mean(np.diag(matrix))) if matrix.size else 0.0
    # Of nothing the inverse is nothing to speak of, but has to be finite.
    added = 0.0 if scale > _SMALLEST else _SMALLEST
    for attempt in range(_TRIES):
        try:
            lower: Floats = cholesky(matrix + added * np.eye(len(matrix)) if added else matrix, lower=True)
        except LinAlgError:
            added = _JITTER * 10.0**attempt * max(scale, _SMALLEST)
        else:
            return lower
    raise ValueError(f"a matrix of order {len(matrix)} is not positive semidefinite: these are no moments")


def prefix_losses(layer: Layer, order: NDArray[np.int64]) -> Floats:
    """Loss of a layer where the first j candidates of an order stay, for every j; from one Cholesky factor.

    With columns in the order's own order, G = LLᵀ and Z = L⁻¹T, what a prefix explains is ‖Z_prefix‖².

    Parameters
    ----------
    layer : Layer
    order : ndarray of int (c,)
        Candidates, of which those without columns here change nothing.

    Returns
    -------
    ndarray of float64 (c + 1,)
        At place j the loss with j candidates; not increasing.

    Examples
    --------
    >>> layer = Layer(np.eye(2), np.array([[1.0], [2.0]]), 5.0, np.arange(2), np.arange(2)[:, None], np.arange(0))
    >>> prefix_losses(layer, np.array([1, 0])).tolist()
    [5.0, 1.0, 0.0]
    """
    place = {int(member): row for row, member in enumerate(layer.members)}
    rows = np.array([place.get(int(candidate), -1) for candidate in order], dtype=np.int64)
    here = rows[rows >= 0]
    columns = np.concatenate([layer.fixed, layer.blocks[here].ravel()])
    lower = factorised(layer.gram[np.ix_(columns, columns)])
    explained = np.square(solve_triangular(lower, layer.cross[columns], lower=True)).sum(axis=1)
    start = float(explained[: layer.fixed.size].sum())
    steps = np.zeros(order.size)
    steps[rows >= 0] = explained[layer.fixed.size :].reshape(here.size, -1).sum(axis=1)
    losses = layer.energy - start - np.concatenate([[0.0], np.cumsum(steps)])
    return np.maximum(losses, 0.0)
