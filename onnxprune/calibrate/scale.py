"""What numbers a network expects for the bytes of a picture."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import UsageError

__all__ = ["COLOURED", "GREY", "Scale", "wished"]


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
_CIFAR = ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
_CAFFE = (103.939 / 255, 116.779 / 255, 123.68 / 255)
_UNIT, _BYTES = Scale("0 to 1", (0.0,), (1.0,)), Scale("0 to 255", (0.0,), (1 / 255,))
_SYMMETRIC, _HALF = Scale("-1 to 1", (0.5,), (0.5,)), Scale("-0.5 to 0.5", (0.5,), (1.0,))

COLOURED = (
    Scale("mean and deviation of ImageNet", *_IMAGENET),
    Scale("mean and deviation of CIFAR-10", *_CIFAR),
    _UNIT,
    _SYMMETRIC,
    _BYTES,
    _HALF,
    Scale("0 to 255 less the mean of ImageNet, blue first", _CAFFE, (1 / 255,), reverse=True),
)
"""Scales that are in use for pictures in colour, the usual ones first."""

GREY = (Scale("mean and deviation of MNIST", (0.1307,), (0.3081,)), _UNIT, _SYMMETRIC, _BYTES, _HALF)
"""Scales that are in use for grey pictures."""


def wished(*, span: str = "", mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> Scale | None:
    """Make the scale that a user asks for, None where nothing is asked.

    Parameters
    ----------
    span : str
        What black and white become, as "0,1", "-1,1" or "0,255".
    mean, std : tuple of float
        As ``(x - mean) / std`` where x is within the span, 0 to 1 by default; a mean above 2 is taken for one of 0 to
        255, and both are then.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> wished(span="-1,1").apply(np.array([[[[0, 255]]]], np.uint8), -3).ravel().tolist()
    [-1.0, 1.0]
    """
    if not span and not mean and not std:
        return None
    low, high = _span(span) if span else (0.0, 255.0 if max(mean, default=0.0) > 2 else 1.0)
    for flag, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (0, 1, 3) or not all(math.isfinite(value) for value in values):
            raise UsageError(f"{flag} {','.join(map(str, values))}: give one number, or one for each of three colours")
    if any(value <= 0 for value in std):
        raise UsageError(f"--std {','.join(map(str, std))}: give numbers above 0")
    width = high - low
    # x = low + width * bytes / 255
    shifts = tuple((value - low) / width for value in mean or (0.0,))
    parts = [f"--input-range {span}"] * bool(span)
    parts += [f"{flag} {','.join(map(str, v))}" for flag, v in (("--mean", mean), ("--std", std)) if v]
    return Scale(" ".join(parts), shifts, tuple(value / width for value in std or (1.0,)))


def _span(text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        low, high = 0.0, 0.0
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise UsageError(
            f"--input-range {text}: give what black and white become, the smaller first, as in 0,1 or -1,1"
        )
    return low, high
