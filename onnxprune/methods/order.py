"""Knows orders of channels: by score, and interleaved over rows so that every prefix is balanced."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced", "by_rank", "ranking"]


def ranking(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order channels by descending score; of equal ones the lower index comes first.

    Parameters
    ----------
    scores : ndarray of float64 (n,)

    Returns
    -------
    ndarray of int64 (n,)
        A permutation, the highest score first.

    Examples
    --------
    >>> ranking(np.array([1.0, 3.0, 1.0])).tolist()
    [1, 0, 2]
    """
    return np.argsort(-scores, kind="stable").astype(np.int64)


def balanced(order: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Interleave an order so that it takes equally many channels of every row.

    Channels are sorted by (rank within their row, position in `order`). With R rows of equal size, every prefix whose
    length is a multiple of R has equally many channels of each; within a row the order is kept. Idempotent.

    Parameters
    ----------
    order : ndarray of int64 (n,)
        A permutation, the one to keep longest first.
    rows : ndarray of int64 (n,)
        Row of each channel (any labels).

    Returns
    -------
    ndarray of int64 (n,)
        A permutation.

    Examples
    --------
    >>> balanced(np.array([2, 3, 0, 1]), np.array([0, 0, 1, 1])).tolist()
    [2, 0, 3, 1]
    """
    row_of = rows[order]
    by_row = np.argsort(row_of, kind="stable")
    grouped = row_of[by_row]
    rank = np.empty(order.size, dtype=np.int64)
    rank[by_row] = np.arange(order.size) - np.searchsorted(grouped, grouped)
    return order[np.argsort(rank, kind="stable")]


def by_rank(order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores that fall along an order, from one to nearly zero; (n,).

    Examples
    --------
    >>> by_rank(np.array([1, 0])).tolist()
    [0.5, 1.0]
    """
    scores = np.empty(order.size)
    scores[order] = 1.0 - np.arange(order.size) / order.size
    return scores
