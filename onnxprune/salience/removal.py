"""The order in which channels go: each time those that cost least for what they save; then all is looked at anew.

    Fisher's     Δ_u = ½ · mean over n of z_u(n)²        Taylor's     Θ_u = mean over n of |z_u(n)|
    of weights   I_u = mean over batches of (mean over n of z_u(n))²

The mean of z_u over samples is Σ w · ∂L/∂w over the weights w that read unit u, since what they make is linear in them.

References
----------
L. Theis, I. Korshunova, A. Tejani, F. Huszár, "Faster gaze prediction with dense networks and Fisher pruning", 2018,
arXiv 1801.05787; E. Crowley et al., arXiv 1810.04622 (Δ); P. Molchanov et al., "Pruning Convolutional Neural Networks
for Resource Efficient Inference", ICLR 2017, arXiv 1611.06440 (Θ); P. Molchanov, A. Mallya, S. Tyree, I. Frosio,
J. Kautz, "Importance estimation for neural network pruning", CVPR 2019, arXiv 1906.10771, equation 8 (I).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling import Group

__all__ = ["ROUNDS", "STATISTICS", "last_to_go"]

Floats = NDArray[np.float64]

ROUNDS = 8
"""Times that derivatives are taken."""
_LEFT = 0.1

_BATCH = 32
"""Samples whose gradients are summed before they are squared."""


def _of_weights(z: Floats) -> Floats:
    starts = np.arange(0, len(z), _BATCH)
    counts = np.diff([*starts, len(z)])
    return np.asarray(np.square(np.add.reduceat(z, starts, axis=0) / counts[:, None]).mean(axis=0))


STATISTICS: dict[str, Callable[[Floats], Floats]] = {
    "fisher": lambda z: np.asarray(np.square(z).mean(axis=0) / 2),
    "taylor": lambda z: np.asarray(np.abs(z).mean(axis=0)),
    "taylor-weights": _of_weights,
}
"""What units are worth, (units,), by changes of the loss (n, units)."""


def last_to_go(
    groups: Sequence[Group],
    worth: Callable[[NDArray[np.bool_]], Floats],
    saved: Callable[[NDArray[np.int64]], Floats],
    units: int,
    *,
    rounds: int = ROUNDS,
) -> dict[str, Floats]:
    """Scores of the channels of each group, the higher the later they go, between 0 and 1.

    Parameters
    ----------
    groups : sequence of Group
    worth : callable
        What units are worth, (units,), where some, (units,) of bool, are gone.
    saved : callable
        What a channel of each group saves, (g,), where so many, (g,), of each are left.
    units : int
    rounds : int
        Looks; a tenth of the channels is left before the last, and one of every group.

    Returns
    -------
    dict of str to ndarray (n,)
    """
    gone, score = np.zeros(units, dtype=bool), np.zeros(units)
    every = np.concatenate([group.units for group in groups])
    group_of = np.full(units, -1, dtype=np.int64)
    for number, group in enumerate(groups):
        group_of[group.units] = number
    for turn in range(rounds):
        alive = every[~gone[every]]
        left = np.bincount(group_of[alive], minlength=len(groups))
        price = np.maximum(saved(left), np.finfo(np.float64).tiny)
        keys = worth(gone)[alive] / price[group_of[alive]]
        order = alive[np.argsort(keys, kind="stable")]
        score[order] = (turn + (np.arange(order.size) + 1.0) / order.size) / rounds
        if turn == rounds - 1:
            break
        best = {int(group_of[unit]): int(unit) for unit in order}  # the last of each group stays
        spared = np.isin(order, list(best.values()))
        target = max(round(every.size * _LEFT ** ((turn + 1) / (rounds - 1))), len(groups))
        leave = order[~spared][: max(order.size - target, 0)]
        gone[leave] = True
    return {group.name: score[group.units] for group in groups}
