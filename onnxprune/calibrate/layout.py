"""How the samples lie in an array: along which axis, and what has to be moved for the network to take them."""

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Slot

__all__ = ["Layout", "channel_axis", "lay_out", "picture_sizes", "size_note"]

_COLOURS = (1, 3)
_SMALLEST = 8


@dataclass(frozen=True)
class Layout:
    """What makes samples of an array.

    Attributes
    ----------
    axis : int or None
        Axis that samples lie along; None where the array is one sample.
    shape : tuple of int
        Shape of one sample for the network.
    turned : bool
        Whether channels come last in the array and first in the network.
    note : str
        What was assumed.
    """

    axis: int | None
    shape: tuple[int, ...]
    turned: bool = False
    note: str = ""

    def row(self, array: NDArray[Any], number: int) -> NDArray[Any]:
        """Take a sample."""
        before = (slice(None),) * (self.axis or 0)
        # np.take would copy the whole of an array that is transposed, for each of them.
        picked = array if self.axis is None else array[(*before, slice(number, number + 1))].copy()
        return (np.moveaxis(picked, -1, -3) if self.turned else picked).reshape(self.shape)


def _agree(shape: tuple[int, ...], dims: tuple[int | None, ...], axis: int | None) -> bool:
    """Tell whether sizes are those that are declared, along all axes but one."""
    places = enumerate(zip(shape, dims, strict=False))
    return len(shape) == len(dims) and all(place == axis or want in (None, size) for place, (size, want) in places)


def _put_in(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], 1, *shape[axis:])


def lay_out(shape: tuple[int, ...], slot: Slot) -> Layout | None:
    """Find the samples of an input in an array; None where it holds none.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array: that of the input with any number of samples, with an axis of samples in front, of one
        sample without that axis, of pictures with channels last, or of samples without axes of size one.
    slot : Slot

    Examples
    --------
    >>> slot = Slot("x", (1, 3, 8, 8), (1, 3, 8, 8), np.dtype("float32"), 0)
    >>> lay_out((5, 8, 8, 3), slot).turned
    True
    """
    dims, axis = slot.dims, slot.axis
    if 0 in shape:
        return None
    if _agree(shape, dims, axis):
        return Layout(axis, shape if axis is None else (*shape[:axis], 1, *shape[axis + 1 :]))
    if _agree(shape[1:], dims, None) or _agree(
        shape[1:], tuple(1 if a == axis else d for a, d in enumerate(dims)), None
    ):
        return Layout(0, shape[1:])
    if axis is not None and _agree(_put_in(shape, axis), dims, axis):
        return Layout(None, _put_in(shape, axis))
    return _turned(shape, slot) or _reshaped(shape, slot)


def _turned(shape: tuple[int, ...], slot: Slot) -> Layout | None:
    """Pictures with channels last for an input that takes them first."""
    if len(slot.dims) != 4 or slot.dims[1] not in _COLOURS or len(shape) not in (3, 4) or slot.axis != 0:
        return None
    height, width, channels = shape[-3:]
    one = (1, channels, height, width)
    if not _agree(one, slot.dims, 0):
        return None
    note = f"the pictures for input '{slot.name}' have channels last and were turned to channels first"
    return Layout(0 if len(shape) == 4 else None, one, turned=True, note=note)


def _reshaped(shape: tuple[int, ...], slot: Slot) -> Layout | None:
    """Samples that are those of the network but for axes of size one, or for being laid out flat."""
    rest = slot.dims if slot.axis is None else slot.dims[: slot.axis] + slot.dims[slot.axis + 1 :]
    if None in rest or len(shape) < 2:
        return None
    sizes = tuple(size for size in rest if size is not None)
    wanted, given = [[size for size in row if size != 1] for row in (sizes, shape[1:])]
    if given != wanted and not (len(wanted) == 1 and math.prod(given) == wanted[0]):
        return None
    note = f"samples of shape {list(shape[1:])} for input '{slot.name}' were reshaped to {list(sizes)}"
    return Layout(0, _put_in(sizes, slot.axis), note=note)


def channel_axis(slot: Slot) -> int | None:
    """Axis of the colours of pictures, counted from the end; None where an input takes no pictures."""
    if len(slot.shape) != 4 or slot.axis not in (0, None):
        return None
    first, last = (slot.dims[1], *slot.shape[2:]), (slot.dims[3], *slot.shape[1:3])
    for axis, (colours, height, width) in ((-3, first), (-1, last)):
        if colours in _COLOURS and min(height, width) >= _SMALLEST and (colours == 3 or _is_frame(height, width)):
            return axis
    return None


def _is_frame(height: int, width: int) -> bool:
    """Tell whether one channel has a picture's proportions; of sounds and series, time is much the longer side."""
    return 2 * min(height, width) > max(height, width)


def picture_sizes(slot: Slot) -> tuple[int, int, int]:
    """Colours, height and width of the pictures that an input takes."""
    _, *sizes = slot.shape
    colours, height, width = sizes if channel_axis(slot) == -3 else (sizes[2], *sizes[:2])
    return colours, height, width


def size_note(slot: Slot, assumed: Container[str]) -> str:
    """Say which size pictures have where the network leaves it open and nobody gave one; nothing elsewhere.

    Parameters
    ----------
    slot : Slot
    assumed : container of str
        Inputs whose symbolic dimensions nobody gave.
    """
    free = slot.dims[2:] if channel_axis(slot) == -3 else slot.dims[1:3]
    if channel_axis(slot) is None or slot.name not in assumed or None not in free:
        return ""
    _, height, width = picture_sizes(slot)
    sizes = ",".join(map(str, slot.shape))
    another = f"give another as --input-shape {slot.name}:{sizes}"
    return f"the network leaves the size of pictures open, {height}x{width} is assumed: {another}"
