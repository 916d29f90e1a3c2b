"""What derivatives say of the channels of all groups of a network, on data."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxprune.budget import Cost
from onnxprune.reconstruct.evidence import Data
from onnxprune.reconstruct.views import Workpiece
from onnxprune.salience.edges import Edges
from onnxprune.salience.removal import STATISTICS, last_to_go
from onnxprune.salience.seeds import seeds_of

__all__ = ["saliences"]

_SAMPLES = 512
"""Samples that derivatives are taken on at most, about."""


def saliences(work: Workpiece, data: Data, kind: str, cost: Cost, scores: str = "") -> list[NDArray[np.float64] | None]:
    """Scores of the channels of each group, the higher the later they go.

    Parameters
    ----------
    work : Workpiece
    data : Data
    kind : str
        A name of `STATISTICS`; where it is empty nothing is said.
    cost : Cost
        What channels save.
    scores : str
        The output that classes are read off, where it is known.

    Returns
    -------
    list of ndarray (n,) or None

    Raises
    ------
    ModelError
        If a node cannot be differentiated, or the network does not run.
    """
    groups = work.coupling.groups
    if not kind:
        return [None] * len(groups)
    edges, statistic = Edges(work, data.providers), STATISTICS[kind]
    used = int(np.searchsorted(np.cumsum(data.counts), _SAMPLES)) + 1
    classes: Sequence[NDArray[np.int64] | None] = data.classes or [None] * len(data.batches)
    batches = list(zip(data.batches, data.counts, classes, strict=True))[:used]

    def worth(gone: NDArray[np.bool_]) -> NDArray[np.float64]:
        rng = np.random.default_rng([data.seed, 10])  # the same draws every time
        found = [
            edges.changes(batch, count, gone, partial(seeds_of, rng=rng, scores=scores, classes=own))
            for batch, count, own in batches
        ]
        return statistic(np.concatenate(found))

    found = last_to_go(groups, worth, cost.marginal, edges.units)
    return [found[group.name] for group in groups]
