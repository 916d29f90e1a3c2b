"""Knows which columns of some layers to keep where the rest is solved anew: greedy from none, from all, by exchange.

Of one set of candidates, read by layers r with weights v_r, the loss of keeping S is Σ_r v_r · loss_r(S). With P the
inverse of what is left of G and W = PT the weights on it, and with R what is left of G when S has been taken out,

    removing block I raises the loss by   tr(W_Iᵀ (P_II)⁻¹ W_I)        (optimal brain surgeon, by blocks)
    adding   block I lowers it by         tr(Q_Iᵀ (R_II)⁻¹ Q_I)        (orthogonal matching pursuit, by blocks)

where Q is what is left of T. The second is greedy maximisation of the weakly submodular F(S) = loss(∅) − loss(S):
F(S) ≥ (1 − e^−γ) F(S*), and 1 − e^(−γ/m) where up to m are added at once.

References
----------
M. El Halabi, S. Srinivas, S. Lacoste-Julien, "Data-Efficient Structured Pruning via Submodular Optimization", NeurIPS
2022, arXiv 2203.04940; B. Hassibi, D. Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon",
NeurIPS 1992; A. Das, D. Kempe, "Submodular meets Spectral", ICML 2011, Lemma 2.4 (the bound of γ).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_solve, eigvalsh, solve_triangular

from onnxprune.coreset.layer import Layer, factorised, prefix_losses
from onnxprune.threads import blas_threads

__all__ = ["backward", "exchanged", "forward", "losses", "steps", "submodularity", "summed"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# Columns from which blocks are weighed by what they contribute, see `summed`.
_WIDE = 1536
# Share of the candidates that goes, or comes, in one step; and that may be out before columns are dropped.
_STEP, _DROPPED = 0.02, 0.25
_TINY, _SMALLEST = 1e-12, float(np.finfo(np.float64).tiny) / 1e-12
# An exchange has to be worth this share of what it exchanges.
_GAIN = 1e-6


def summed(layer: Layer) -> Layer:
    """Look at a layer with one column per candidate, what it contributes to all outputs: weights are one or zero.

    The loss of a set is then never below that of the layer itself; orders of channels are nearly the same and found in
    a fraction of the time.

    Parameters
    ----------
    layer : Layer

    Returns
    -------
    Layer
        With gram H_ij = tr(W_iᵀ G_ij W_j), W being the solution with all columns.
    """
    count, width = layer.blocks.shape
    order = np.concatenate([layer.blocks.ravel(), layer.fixed])
    gram, cross = layer.gram[np.ix_(order, order)], layer.cross[order]
    weights = cho_solve((factorised(gram), True), cross)
    # tr(W_iᵀ G_ij W_j) is the sum of G ∘ WWᵀ over a block.
    starts = np.append(np.arange(count) * width, [count * width] if layer.fixed.size else []).astype(np.int64)
    found = np.add.reduceat(np.add.reduceat(gram * (weights @ weights.T), starts, axis=0), starts, axis=1)
    seen = np.add.reduceat(np.einsum("nk,nk->n", weights, cross), starts)
    fixed = np.array([count] if layer.fixed.size else [], dtype=np.int64)
    blocks = np.arange(count)[:, None]
    return Layer((found + found.T) / 2, seen[:, None], float(seen.sum()), layer.members, blocks, fixed)


def losses(layers: Sequence[Layer], weights: Sequence[float], order: Integers) -> Floats:
    """Loss of keeping the first j candidates of an order, for every j; (c + 1,)."""
    total = np.zeros(order.size + 1)
    for layer, weight in zip(layers, weights, strict=True):
        total += weight * prefix_losses(layer, order)
    return total


@dataclass
class _State:
    """A layer as candidates go (matrix is P, right is W) or come (R and Q); the owners' columns first, in order.

    Candidates that have been taken out stay for a while, as columns of zeros: to drop them is to copy all others.
    """

    weight: float
    matrix: Floats
    right: Floats
    owners: Integers
    width: int
    gone: NDArray[np.bool_]

    @property
    def order(self) -> int:
        """Order of square matrices whose product takes as long as the largest step."""
        columns = steps(self.owners.size) * self.width
        return int(np.cbrt(len(self.matrix) ** 2 * columns))

    def gains(self, count: int) -> Floats:
        """What each candidate is worth, by itself, to this layer, zero for those that are out; (count,)."""
        found, number, width = np.zeros(count), self.owners.size, self.width
        right = self.right[: number * width].reshape(number, width, self.right.shape[1])
        if width == 1:
            own = np.diag(self.matrix)[:number]
            gains = np.square(right[:, 0]).sum(axis=1) / np.maximum(own, _TINY * own.max(initial=_SMALLEST))
        else:
            places = np.arange(number * width).reshape(number, width)
            own = self.matrix[places[:, :, None], places[:, None, :]]
            spare = _TINY * np.trace(own, axis1=1, axis2=2) + np.finfo(np.float64).tiny
            gains = np.einsum("cbk,cbk->c", right, np.linalg.solve(own + spare[:, None, None] * np.eye(width), right))
        found[self.owners] = self.weight * np.where(self.gone, 0.0, gains)
        return found

    def take_out(self, chosen: Integers) -> None:
        """Eliminate the columns of some candidates from matrix and right side."""
        leave = np.isin(self.owners, chosen) & ~self.gone
        columns = np.flatnonzero(np.repeat(leave, self.width))
        _eliminate(self.matrix, self.right, columns)
        self.gone |= leave
        if np.count_nonzero(self.gone) > _DROPPED * self.gone.size:
            stays = np.ones(len(self.matrix), dtype=bool)
            stays[: self.gone.size * self.width] = np.repeat(~self.gone, self.width)
            self.matrix, self.right = self.matrix[np.ix_(stays, stays)], self.right[stays]
            self.owners, self.gone = self.owners[~self.gone], self.gone[~self.gone]


def _eliminate(matrix: Floats, right: Floats, out: Integers) -> None:
    """Schur complement of some rows and columns, which become zero, in a matrix and its right side, in place."""
    if not out.size:
        return
    side = matrix[:, out]
    solved = cho_solve((factorised(matrix[np.ix_(out, out)]), True), np.hstack([side.T, right[out]]))
    matrix -= side @ solved[:, : len(matrix)]
    right -= side @ solved[:, len(matrix) :]
    matrix[out], matrix[:, out], right[out] = 0.0, 0.0, 0.0


def _state(layer: Layer, weight: float, *, inverse: bool) -> _State:
    seen = summed(layer) if layer.blocks.shape[1] > 1 and len(layer.gram) > _WIDE else layer
    columns = np.concatenate([seen.blocks.ravel(), seen.fixed])
    matrix, right = seen.gram[np.ix_(columns, columns)], seen.cross[columns]
    if inverse:
        factor = factorised(matrix)
        matrix, right = cho_solve((factor, True), np.eye(len(matrix))), cho_solve((factor, True), right)
    else:
        _eliminate(matrix, right, np.arange(seen.blocks.size, len(matrix)))
        matrix, right = matrix[: seen.blocks.size, : seen.blocks.size], right[: seen.blocks.size]
    owners = seen.members.copy()
    return _State(weight, matrix, right, owners, seen.blocks.shape[1], np.zeros(owners.size, dtype=np.bool_))


def backward(layers: Sequence[Layer], weights: Sequence[float], count: int) -> Integers:
    """Order candidates by taking away, again and again, those whose loss is repaired best.

    Parameters
    ----------
    layers : sequence of Layer
        What reads the candidates.
    weights : sequence of float
        What a unit of each layer's loss is worth.
    count : int
        Number c of candidates.

    Returns
    -------
    ndarray of int (c,)
        A permutation, the one to keep longest first.

    Examples
    --------
    >>> layer = Layer(np.eye(2), np.array([[1.0], [2.0]]), 5.0, np.arange(2), np.arange(2)[:, None], np.arange(0))
    >>> backward([layer], [1.0], 2).tolist()
    [1, 0]
    """
    return _in_turn([_state(layer, w, inverse=True) for layer, w in zip(layers, weights, strict=True)], count)[::-1]


def forward(layers: Sequence[Layer], weights: Sequence[float], count: int) -> Integers:
    """Order candidates by adding, again and again, those that lower the loss most; see `backward`.

    Examples
    --------
    >>> layer = Layer(np.eye(2), np.array([[1.0], [2.0]]), 5.0, np.arange(2), np.arange(2)[:, None], np.arange(0))
    >>> forward([layer], [1.0], 2).tolist()
    [1, 0]
    """
    states = [_state(layer, w, inverse=False) for layer, w in zip(layers, weights, strict=True)]
    return _in_turn(states, count, come=True)


def _in_turn(states: Sequence[_State], count: int, *, come: bool = False) -> Integers:
    """Candidates in the order in which they go, those worth least first, or come, those worth most first."""
    left, found = np.arange(count), [np.empty(0, dtype=np.int64)]
    # A step is a product of few columns, which more threads only slow down.
    with blas_threads(max((state.order for state in states), default=0)):
        while left.size:
            worth = np.sum([state.gains(count) for state in states], axis=0) if states else np.zeros(count)
            step = steps(count - left.size if come else left.size)
            chosen = left[np.argsort(-worth[left] if come else worth[left], kind="stable")[:step]]
            found.append(chosen)
            left = np.setdiff1d(left, chosen)
            for state in states:
                state.take_out(chosen)
    return np.concatenate(found)


def steps(count: int) -> int:
    """How many candidates go at once from so many, or come at once to so many.

    Examples
    --------
    >>> steps(99), steps(200)
    (1, 4)
    """
    return max(1, int(_STEP * count))


def submodularity(layers: Sequence[Layer]) -> float | None:
    """Bound γ from below, up to which F is submodular: what candidates gain one by one, over what they gain together.

        γ = min over L, S of  Σ_i∈S (F(L ∪ i) − F(L)) / (F(L ∪ S) − F(L))  ≥  λ_min(D^−½ R D^−½)

    R is what is left of G once the columns that stay are taken out, D its diagonal, by blocks. What is left of R_II
    after L is at most D_II, and what is left of all no smaller than λ_min, so that both sums of Qᵀ(·)⁻¹Q are bounded.

    Parameters
    ----------
    layers : sequence of Layer

    Returns
    -------
    float or None
        Of the worst layer, between 0 and 1; None where one is so wide that it is not looked at column by column.

    Examples
    --------
    >>> gram, columns = np.array([[1.0, 0.6], [0.6, 1.0]]), np.arange(2)
    >>> layer = Layer(gram, np.ones((2, 1)), 5.0, columns, columns[:, None], np.arange(0))
    >>> round(submodularity([layer]), 6)
    0.4
    """
    if any(len(layer.gram) > _WIDE for layer in layers):
        return None
    return min((_least(_state(layer, 1.0, inverse=False)) for layer in layers), default=1.0)


def _least(state: _State) -> float:
    """Smallest eigenvalue once every block of a matrix is made one."""
    if not state.owners.size:
        return 1.0
    places = np.arange(len(state.matrix)).reshape(-1, state.width)
    lower = factorised(block_diag(*state.matrix[places[:, :, None], places[:, None, :]]))
    half = solve_triangular(lower, state.matrix, lower=True)
    white = solve_triangular(lower, half.T, lower=True)
    return float(np.clip(eigvalsh((white + white.T) / 2, subset_by_index=(0, 0))[0], 0.0, 1.0))


def exchanged(
    layers: Sequence[Layer], weights: Sequence[float], kept: Integers, count: int, *, rounds: int = 8
) -> Integers:
    """Improve a choice by exchanging a candidate that stays for one that does not, as long as the loss falls.

    In each round the candidate that is cheapest to take away goes, and the one comes that then lowers the loss most.

    Parameters
    ----------
    layers, weights
        See `backward`.
    kept : ndarray of int (m,)
        Candidates that stay, at least one.
    count : int
        Number of candidates.
    rounds : int
        Exchanges at most.

    Returns
    -------
    ndarray of int (m,)
        Ascending; never worse than `kept`.

    References
    ----------
    X. Meng et al., "OSSCAR: One-Shot Structured Pruning in Vision and Language Models with Combinatorial
    Optimization", ICML 2024 (local search after greedy).

    Examples
    --------
    >>> layer = Layer(np.eye(2), np.array([[1.0], [2.0]]), 5.0, np.arange(2), np.arange(2)[:, None], np.arange(0))
    >>> exchanged([layer], [1.0], np.array([0]), 2).tolist()
    [1]
    """
    chosen = np.sort(kept)
    for _ in range(rounds):
        others = np.setdiff1d(np.arange(count), chosen)
        if not others.size:
            break
        costs = np.zeros(count)
        for layer, weight in zip(layers, weights, strict=True):
            costs += _left(layer, weight, others, inverse=True).gains(count)
        out = chosen[np.argmin(costs[chosen])]
        rest = np.setdiff1d(chosen, [out])
        gains = np.zeros(count)
        for layer, weight in zip(layers, weights, strict=True):
            gains += _left(layer, weight, rest, inverse=False).gains(count)
        come = others[np.argmax(gains[others])]
        if gains[come] <= gains[out] * (1 + _GAIN):
            break
        chosen = np.sort(np.append(rest, come))
    return chosen


def _left(layer: Layer, weight: float, gone: Integers, *, inverse: bool) -> _State:
    """State of a layer once some candidates have gone, or have come."""
    state = _state(layer, weight, inverse=inverse)
    state.take_out(gone)
    return state
