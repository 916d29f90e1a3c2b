"""What numbers a network expects for the bytes of a picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CANDIDATES", "Scale"]


@dataclass(frozen=True)
class Scale:
    """Pictures are fed as ``(bytes / 255 - mean) / std``.

    Attributes
    ----------
    name : str
        How the report calls it.
    mean, std : tuple of float
        One number, or one for each of three colours, in the order of the network's channels.
    reverse : bool
        Whether the network takes blue first.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse: bool = False

    def apply(self, pictures: NDArray[Any], axis: int) -> NDArray[np.float32]:
        """Scale pictures of 0 to 255.

        Parameters
        ----------
        pictures : ndarray
        axis : int
            That of the colours, counted from the end; red comes first along it.
        """
        colours = pictures.shape[axis]
        flipped = np.flip(pictures, axis) if self.reverse else pictures
        ends = (1,) * (-axis - 1)
        mean, std = (_spread(values, colours).reshape(-1, *ends) for values in (self.mean, self.std))
        return np.asarray((flipped.astype(np.float32) / np.float32(255) - mean) / std, dtype=np.float32)


def _spread(values: tuple[float, ...], colours: int) -> NDArray[np.float32]:
    """One number per colour; of three numbers, a grey picture takes the mean."""
    array = np.asarray(values, np.float32)
    return array if array.size == colours else np.full(colours, array.mean(), np.float32)


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE = (103.939 / 255, 116.779 / 255, 123.68 / 255)

CANDIDATES = (
    Scale("0 to 1", (0.0,), (1.0,)),
    Scale("0 to 255", (0.0,), (1 / 255,)),
    Scale("-1 to 1", (0.5,), (0.5,)),
    Scale("-0.5 to 0.5", (0.5,), (1.0,)),
    Scale("mean and deviation of ImageNet", *_IMAGENET),
)
"""Scales that are in use."""
