"""Parts of calibration data: arrays whose shapes are known before their numbers are read; not what they are fed to."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import DataError

__all__ = ["Arrays", "Header", "Part", "part_of", "parts_of"]

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the name of their input; the name is empty where an array came without one."""


class Header(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Part:
    """Some samples that are read together.

    Attributes
    ----------
    site : str
        Where they come from, for messages.
    headers : mapping of str to Header
    read : callable
        Takes the numbers of the samples wanted and returns the arrays of all samples, of which only those need be
        right; `None` reads all.
    label : int or None
        Class of all its samples, where one is known.
    pictures : bool
        Whether the arrays are pictures that are brought to the size that the network takes.
    """

    site: str
    headers: Mapping[str, Header]
    read: Callable[[], Arrays] = field(repr=False)
    label: int | None = None
    pictures: bool = False


def part_of(site: str, arrays: Mapping[str, Any]) -> Part:
    """Make a part of arrays in memory.

    Raises
    ------
    DataError
        If a value is no array of numbers.
    """
    held = {name: _array(site, name, value) for name, value in arrays.items()}
    return Part(site, {name: Header(value.shape, value.dtype) for name, value in held.items()}, lambda: held)


def _array(site: str, name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{site}: {name or 'the value'} is no array of numbers ({error}); give arrays of one shape each"
        ) from error
    if array.dtype.kind not in "biuf" and not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{site}: {name or 'the value'} holds {array.dtype} ({type(value).__name__}), not numbers; give numeric "
            "arrays"
        )
    return array


def parts_of(items: Iterable[Any], limit: int) -> list[Part]:
    """Make parts of what a Python source yields, at most so many, since it may yield only once or without end."""
    parts = []
    for number, item in enumerate(items):
        if number >= limit:
            break
        site = f"item {number} of the calibration data"
        parts.append(part_of(site, item if isinstance(item, Mapping) else {"": item}))
    return parts
