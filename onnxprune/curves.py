"""What a group's thinning alone costs in accuracy: curves for budgets of one accuracy in every layer.

Of each group so many channels are left as a few shares say, its readers are solved anew, and the network answers
samples whose classes are known. Every group is then thinned as far as one common accuracy allows, which is found by
bisection.

References
----------
M. El Halabi, S. Srinivas, S. Lacoste-Julien, "Data-Efficient Structured Pruning via Submodular Optimization", NeurIPS
2022, arXiv 2203.04940, section 5: per-layer budgets by equal accuracy.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from onnxprune.reconstruct.evidence import Evidence
from onnxprune.reconstruct.thinned import Thinned

__all__ = ["lost_accuracy"]

_SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)


def lost_accuracy(number: int, known: Evidence, order: NDArray[np.int64], thinned: Thinned) -> NDArray[np.float64]:
    """Lost accuracy where the first j channels of an order stay, for every j.

    Parameters
    ----------
    number : int
        Of the group.
    known : Evidence
        Of it.
    order : ndarray of int (n,)
    thinned : Thinned
        Tells how often the network is right then.

    Returns
    -------
    ndarray of float64 (n + 1,)
        Not increasing, zero at the end; between the shares that were tried a line.
    """
    counts = np.unique(np.clip(np.rint(np.array(_SHARES) * order.size), 1, max(order.size - 1, 1)).astype(np.int64))
    best = thinned.exam.right
    lost = best - thinned.right(number, [order[:count] for count in counts], known.solved)
    # Samples are few: what is lost with more channels than others is chance.
    lost = np.maximum(isotonic_regression(lost, increasing=False).x, 0.0)
    places = np.concatenate([[0], counts, [order.size]])
    return np.asarray(np.interp(np.arange(order.size + 1), places, np.concatenate([[max(best, lost[0])], lost, [0.0]])))
