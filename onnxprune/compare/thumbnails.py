"""Samples as small pictures, where a network takes any: what a report shows of inputs that changed their class."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Calibration, Network, Slots
from onnxprune.calibrate.layout import channel_axis
from onnxprune.evaluate.png import to_png

__all__ = ["shrunk", "thumbnails"]

_EDGE = 64
"""Pixels of a thumbnail's longer side at most."""


def thumbnails(data: Calibration, network: Network, numbers: Iterable[int]) -> dict[int, str]:
    """Draw some samples.

    Parameters
    ----------
    data : Calibration
    network : Network
    numbers : iterable of int
        Of the samples.

    Returns
    -------
    dict of int to str
        PNG files in base64, by sample, between the least and the largest value of each colour in all of them; empty
        where the network takes no pictures.
    """
    slots = Slots.of(network)
    slot = next((slot for slot in slots.inputs if slot.axis == 0 and channel_axis(slot) is not None), None)
    wanted = sorted(set(numbers))
    if slot is None or not wanted:
        return {}
    axis = channel_axis(slot)
    assert axis is not None
    found: dict[int, NDArray[np.float32]] = {}
    for batch in data.some(np.array(wanted, dtype=np.int64), slots):
        pictures = np.moveaxis(batch.feeds[slot.name], axis, -1)
        # A copy: the batch is not kept for the sake of a small picture of it.
        found |= {int(number): shrunk(picture) for number, picture in zip(batch.numbers, pictures, strict=True)}
    shown = [found[number] for number in wanted if number in found]
    low, high = (np.stack([each(picture, axis=(0, 1)) for picture in shown]) for each in (np.min, np.max))
    black, white = low.min(axis=0), high.max(axis=0)
    spread = np.where(white > black, white - black, 1.0)
    return {
        number: to_png(np.broadcast_to((found[number] - black) / spread, (*found[number].shape[:2], 3)))
        for number in wanted
        if number in found
    }


def shrunk(picture: NDArray[np.generic]) -> NDArray[np.float32]:
    """Means of blocks of a picture, square where it is not too narrow, so that it is small enough.

    Parameters
    ----------
    picture : ndarray (h, w, c)

    Returns
    -------
    ndarray of float32
    """
    times = -(-max(picture.shape[:2]) // _EDGE)
    down, across = (min(times, size) for size in picture.shape[:2])
    height, width = (size // step * step for size, step in zip(picture.shape[:2], (down, across), strict=True))
    cut = picture[:height, :width].astype(np.float32)
    return np.asarray(cut.reshape(height // down, down, width // across, across, -1).mean(axis=(1, 3)))
