"""Of many made-up pictures those that a network is surest of, as many of every class as there are.

What layers compute of such pictures is more like what they compute of photographs than what they make of any picture:
deep layers are as active, and all classes take part.
"""

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Network, Slot
from onnxprune.calibrate.respond import answers_of, fed, shares
from onnxprune.calibrate.scale import Scale
from onnxprune.errors import ModelError
from onnxprune.graph.staged import open_session

__all__ = ["pool_of", "surest"]

# So many are made up for each that is taken, as far as memory allows.
_POOL, _BYTES = 4, 1 << 28


def pool_of(network: Network, count: int, sizes: tuple[int, int, int]) -> int:
    """How many pictures to make up for so many that are wanted: more where the network tells classes apart.

    Parameters
    ----------
    network : Network
    count : int
    sizes : tuple of int
        Colours, height and width.
    """
    if not answers_of(network):
        return count
    return max(count, min(_POOL * count, _BYTES // int(np.prod(sizes))))


def surest(
    network: Network, slot: Slot, pictures: NDArray[np.uint8], scale: Scale, count: int
) -> NDArray[np.int64] | None:
    """Choose pictures.

    Parameters
    ----------
    network : Network
    slot : Slot
        The input.
    pictures : ndarray of uint8 (n, colours, height, width)
    scale : Scale
    count : int
        Up to n.

    Returns
    -------
    ndarray of int (count,) or None
        Ascending; None where the network cannot be run on them, or answers with numbers that are none or belong to no
        picture.
    """
    (answer,) = answers_of(network)
    try:
        session = open_session(network.model.copy(), network.providers, fast=True)
        batches = fed(network, slot, pictures, scale)
        found = [(session.run(feeds, [answer])[answer], len(feeds[slot.name])) for feeds in batches]
    except ModelError:
        return None
    if any(len(rows) != samples for rows, samples in found):
        return None  # as of boxes: rows are places of all pictures
    answers = np.concatenate([rows for rows, _ in found]).astype(np.float64)
    if len(answers) < count or not np.isfinite(answers).all():
        return None
    sure = shares(answers)
    return _chosen(sure.argmax(axis=1), sure.max(axis=1), sure.shape[1], count)


def _chosen(classes: NDArray[np.int64], sure: NDArray[np.float64], kinds: int, count: int) -> NDArray[np.int64]:
    """Numbers of the surest of every class, an equal share of each, then of the surest of all."""
    order = np.lexsort((-sure, classes))
    starts = np.searchsorted(classes[order], np.arange(kinds))
    late = np.empty(len(order), dtype=bool)
    late[order] = np.arange(len(order)) - starts[classes[order]] >= max(count // kinds, 1)
    return np.sort(np.lexsort((-sure, late))[:count])
