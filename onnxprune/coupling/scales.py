"""How a weight is multiplied along some axes of its view: by one factor where positive, another where negative."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["multiplied"]


def multiplied(array: NDArray[Any], axes: tuple[int, ...], factors: NDArray[np.float64]) -> NDArray[Any]:
    """Multiply a weight by factors that depend on its sign.

    Parameters
    ----------
    array : ndarray
    axes : tuple of int
        Axes that the factors lie on, ascending.
    factors : ndarray (2, positions)
        Of positive and of negative numbers, at each position along the axes.

    Returns
    -------
    ndarray
        Of the same shape and type.

    Examples
    --------
    >>> multiplied(np.array([[1.0, -1.0], [2.0, 3.0]]), (1,), np.array([[1.0, 2.0], [1.0, 5.0]])).tolist()
    [[1.0, -5.0], [2.0, 6.0]]
    """
    sizes = [size if axis in axes else 1 for axis, size in enumerate(array.shape)]
    positive, negative = factors.reshape(2, *sizes)
    scaled: NDArray[Any] = (array.astype(np.float64) * np.where(array < 0, negative, positive)).astype(array.dtype)
    return scaled
