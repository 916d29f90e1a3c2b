"""Inputs for a network when nobody gives any: by what each input looks like, pictures, tokens or numbers."""

from collections.abc import Iterator

import numpy as np

from onnxprune.calibrate.calibration import Calibration, Network, Slots, batched
from onnxprune.calibrate.feeds import Feeds, random_feeds
from onnxprune.calibrate.layout import channel_axis, picture_sizes
from onnxprune.calibrate.leaves import dead_leaves
from onnxprune.calibrate.scale import CANDIDATES, Scale

__all__ = ["synthesise"]


def synthesise(network: Network, *, count: int, seed: int = 0, scale: Scale | None = None) -> Calibration:
    """Make up inputs of a network.

    Parameters
    ----------
    network : Network
    count : int
        Samples; fewer where they would not fit into memory, and a multiple of the size of a fixed batch.
    seed : int
    scale : Scale, optional
        What the network takes for the bytes of a picture; found out by default.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> calibration = synthesise(network, count=1024)  # doctest: +SKIP
    >>> len(next(calibration.batches())["input"])  # doctest: +SKIP
    128
    """
    slots = Slots.of(network)
    count = max(count // slots.batch, 1) * slots.batch if slots.fixed else count
    rng = np.random.default_rng([seed, 3])
    whole: Feeds = {}
    for slot in slots.inputs:
        axis = channel_axis(slot)
        if axis is not None and slot.dtype.kind == "f":
            pictures = dead_leaves(count, picture_sizes(slot), rng)
            pictures = np.moveaxis(pictures, 1, -1) if axis == -1 else pictures
            whole[slot.name] = (scale or CANDIDATES[4]).apply(pictures, axis).astype(slot.dtype)

    def start() -> Iterator[Feeds]:
        return batched(_samples(network, slots, whole, count, seed), slots)

    return Calibration("synthetic", (), count, None, start)


def _samples(network: Network, slots: Slots, whole: Feeds, count: int, seed: int) -> Iterator[Feeds]:
    rng = np.random.default_rng([seed, 4])
    one = {slot.name: slot.one for slot in slots.inputs}
    for number in range(count):
        made = {name: value[number : number + 1] for name, value in whole.items()}
        yield (random_feeds(network.index, network.shapes, rng, one) if len(made) < len(one) else {}) | made
