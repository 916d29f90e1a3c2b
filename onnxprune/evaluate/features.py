"""Which pixels a network goes by, and what others make of those alone: BackSelect.

    K₀ = all pixels;  K_{t+1} = K_t without the pixels p, a step's share, of largest log q(y | x on K_t \\ {p})
    confidence of network i in what j goes by:  mean q_i(y_j | x on the pixels that j keeps)

y is the class that the selecting network sees in the whole picture; pixels that are gone have the colour `blank`. All
that is left is scored anew in every step, each pixel by a picture without it, so pixels go by square blocks where there
are many: no more than `MOST` of them, and as many pictures are run in the first step, fewer in each that follows. From
256 blocks down to 26, 5 % of those left a step, it is 4,616 pictures for each input and network.

References
----------
B. Carter, J. Mueller, S. Jain, D. Gifford, "What made you do this? Understanding black-box decisions with sufficient
input subsets", AISTATS 2019, arXiv 1810.03805, algorithm BackSelect; L. Liebenwein et al., "Lost in pruning", MLSys
2021, arXiv 2103.03014, section 4 (several pixels a step, the last 10 % shown to other networks).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.evaluate.figures import log_shares
from onnxprune.evaluate.robustness import Predict

__all__ = ["FRACTION", "MOST", "STEP", "Selection", "back_select", "blocks_of", "confidences"]

FRACTION = 0.1
"""Share of the pixels that is left."""
STEP = 0.05
"""Share of the pixels left that goes at once: 5 % of all would take a third of them in the last step, unseen."""
MOST = 256
"""Blocks of pixels at most."""


@dataclass(frozen=True)
class Selection:
    """What a network goes by in each of some inputs.

    Attributes
    ----------
    classes : ndarray of int (n,)
        What the network sees in the whole inputs.
    ranks : ndarray of float64 (n, m)
        Share of the blocks that went before each block; 1 for those that stay.
    blocks : ndarray of int (h, w)
        Number of each pixel's block.
    """

    classes: NDArray[np.int64]
    ranks: NDArray[np.float64]
    blocks: NDArray[np.int64]

    @property
    def heat(self) -> NDArray[np.float64]:
        """Ranks of the pixels, (n, h, w)."""
        return np.asarray(self.ranks[:, self.blocks])

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Pixels that stay, (n, h, w)."""
        return np.asarray(self.heat == 1.0)


def back_select(
    predict: Predict,
    inputs: NDArray[np.float32],
    *,
    blank: NDArray[np.float32],
    most: int = MOST,
    batch: int = 128,
    advance: Callable[[], None] = lambda: None,
) -> Selection:
    """Take away what a network misses least, step by step.

    Parameters
    ----------
    predict : callable
    inputs : ndarray (n, c, h, w)
    blank : ndarray (c, 1, 1)
        Colour of the pixels that are gone.
    most : int
        How many blocks a picture is looked at in, at most; those of one pixel where so many do.
    batch : int
        Pictures that are run at once; it changes nothing.
    advance : callable
        Called after each input.

    Returns
    -------
    Selection
        The first of several that are missed as little goes first.

    Examples
    --------
    >>> weight = np.zeros((2, 1, 4, 5), np.float32)
    >>> weight[0, 0, 1, 2] = weight[0, 0, 3, 3] = 1
    >>> scores = lambda x: np.tensordot(x, weight, ([1, 2, 3], [1, 2, 3]))
    >>> found = back_select(scores, np.ones((1, 1, 4, 5), np.float32), blank=np.zeros((1, 1, 1), np.float32))
    >>> np.argwhere(found.kept[0]).tolist()
    [[1, 2], [3, 3]]
    """
    classes = _scored(predict, inputs, batch).argmax(axis=1)
    height, width = inputs.shape[2:]
    blocks = blocks_of(height, width, most)
    ranks = np.empty((len(inputs), int(blocks[-1, -1]) + 1))
    for number, (picture, wanted) in enumerate(zip(inputs, classes, strict=True)):
        ranks[number] = _removed(predict, picture, int(wanted), blocks, blank=blank, batch=batch)
        advance()
    return Selection(classes, ranks, blocks)


def confidences(
    networks: Mapping[str, Predict],
    inputs: NDArray[np.float32],
    selections: Mapping[str, Selection],
    *,
    blank: NDArray[np.float32],
    batch: int = 128,
) -> dict[str, dict[str, float]]:
    """Show to every network what each one goes by.

    Parameters
    ----------
    networks : mapping of str to callable
    inputs : ndarray (n, c, h, w)
    selections : mapping of str to Selection
        Of these inputs, by the name of the network that selected.
    blank : ndarray (c, 1, 1)
    batch : int

    Returns
    -------
    dict
        By network that is shown the pixels, then by network that selected them: mean probability of the selecting
        network's class.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in networks}
    for owner, selection in selections.items():
        shown = np.where(selection.kept[:, None], inputs, blank)
        for name, predict in networks.items():
            logs = np.take_along_axis(_scored(predict, shown, batch), selection.classes[:, None], axis=1)
            found[name][owner] = float(np.exp(logs).mean())
    return found


def blocks_of(height: int, width: int, most: int = MOST) -> NDArray[np.int64]:
    """Number of the block of each pixel (h, w): squares as nearly as they divide the picture, as small as may be."""
    edge = 1
    while -(-height // edge) * -(-width // edge) > most:
        edge += 1
    rows, columns = (np.arange(size) * -(-size // edge) // size for size in (height, width))
    return np.asarray(rows[:, None] * (columns[-1] + 1) + columns)


def _stages(count: int) -> Iterator[int]:
    """How many of so many blocks are left after each step."""
    last, left = max(round(count * FRACTION), 1), count
    while left > last:
        left = max(min(round(left * (1 - STEP)), left - 1), last)
        yield left


def _removed(
    predict: Predict,
    picture: NDArray[np.float32],
    wanted: int,
    blocks: NDArray[np.int64],
    *,
    blank: NDArray[np.float32],
    batch: int,
) -> NDArray[np.float64]:
    """Share of the blocks that went before each block, 1 of those that stay."""
    count = int(blocks[-1, -1]) + 1
    ranks, left = np.ones(count), np.arange(count)
    for remaining in _stages(count):
        present = ranks[blocks] == 1.0
        # Logarithms: the order is that of confidences, and those near 1 stay apart.
        without = (present & (blocks != part[:, None, None]) for part in np.split(left, range(batch, left.size, batch)))
        pictures = (np.where(mask[:, None], picture, blank) for mask in without)
        scores = np.concatenate([log_shares(predict(part))[:, wanted] for part in pictures])
        order = np.argsort(-scores, kind="stable")[: left.size - remaining]
        ranks[left[order]] = (count - left.size + np.arange(order.size)) / count
        left = np.delete(left, order)
    return ranks


def _scored(predict: Predict, inputs: NDArray[np.float32], batch: int) -> NDArray[np.float64]:
    """Logarithms of probabilities (n, c), in batches."""
    return np.concatenate(
        [log_shares(predict(inputs[start : start + batch])) for start in range(0, len(inputs), batch)]
    )
