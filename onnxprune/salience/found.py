"""What derivatives say of the channels of all groups of a network: of a loss on data, or of the flow, without any."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxprune.budget import Cost
from onnxprune.calibrate.feeds import Feeds
from onnxprune.reconstruct.evidence import Data
from onnxprune.reconstruct.views import Workpiece
from onnxprune.salience.edges import Edges
from onnxprune.salience.removal import ROUNDS, STATISTICS, last_to_go
from onnxprune.salience.seeds import seeds_of
from onnxprune.salience.slopes import ones_for

__all__ = ["FLOW", "saliences"]

FLOW = "synflow"
FLOW_ROUNDS = 100
"""Times that the flow is looked at anew, as published."""

_SAMPLES = 512
"""Samples that derivatives are taken on at most, about."""


def saliences(work: Workpiece, data: Data, kind: str, cost: Cost, scores: str = "") -> list[NDArray[np.float64] | None]:
    """Scores of the channels of each group, the higher the later they go.

    Parameters
    ----------
    work : Workpiece
    data : Data
        Its batches are not looked at for a flow, which takes ones.
    kind : str
        A name of `STATISTICS`, or `FLOW`; where it is empty nothing is said.
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
    edges = Edges(work, data.providers, flowing=kind == FLOW)
    if kind == FLOW:
        none = np.zeros(edges.units, dtype=bool)
        ones = ones_for(work.index, work.shapes, data.seed, lambda ones: _passing(edges, ones, none))
        worth, rounds = partial(_passing, edges, ones), FLOW_ROUNDS
    else:
        worth, rounds = partial(_changing, edges, data, STATISTICS[kind], scores), ROUNDS
    found = last_to_go(groups, worth, cost.marginal, edges.units, rounds=rounds)
    return [found[group.name] for group in groups]


def _changing(
    edges: Edges,
    data: Data,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    scores: str,
    gone: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """What units are worth by how the loss of each sample changes."""
    used = int(np.searchsorted(np.cumsum(data.counts), _SAMPLES)) + 1
    classes: Sequence[NDArray[np.int64] | None] = data.classes or [None] * len(data.batches)
    rng = np.random.default_rng([data.seed, 10])  # the same draws every time
    found = [
        edges.changes(batch, count, gone, partial(seeds_of, rng=rng, scores=scores, classes=own))
        for batch, count, own in list(zip(data.batches, data.counts, classes, strict=True))[:used]
    ]
    return statistic(np.concatenate(found))


def _passing(edges: Edges, ones: Feeds, gone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What flows through units."""

    def seeds(outputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        return {name: np.ones_like(value) for name, value in outputs.items()}

    found: NDArray[np.float64] = edges.changes(ones, 1, gone, seeds).sum(axis=0)
    return found
