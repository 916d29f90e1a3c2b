"""Whether arrays are inputs of a network: names, shapes, element types and numbers, and the samples in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Slot, Slots
from onnxprune.calibrate.feeds import Feeds
from onnxprune.calibrate.layout import Layout, channel_axis, lay_out
from onnxprune.calibrate.parts import Part
from onnxprune.calibrate.scale import Scale
from onnxprune.errors import DataError

__all__ = ["Admitted", "admit"]

# Kinds of elements that a network's input may be made of: integers are looked up or counted, so floats are none.
_CASTS = frozenset(["ff", "ii", "bb", "if", "bf", "bi"])


@dataclass(frozen=True)
class Admitted:
    """A part that fits the network.

    Attributes
    ----------
    part : Part
    slots : Slots
    layouts : mapping of str to Layout
        How the samples lie, by input.
    names : mapping of str to str
        Name in the part, by input.
    count : int
        Samples.
    notes : tuple of str
        What was assumed.
    """

    part: Part
    slots: Slots
    layouts: Mapping[str, Layout]
    names: Mapping[str, str]
    count: int
    notes: tuple[str, ...] = field(default=())

    def samples(self, chosen: NDArray[np.int64], scale: Scale | None) -> Iterator[Feeds]:
        """Read some samples, one after the other.

        Parameters
        ----------
        chosen : ndarray of int (m,)
            Their numbers.
        scale : Scale or None
            What the network takes for the bytes of a picture.

        Raises
        ------
        DataError
            If a number is none.
        """
        arrays = self.part.read()
        for number in map(int, chosen):
            rows = ((slot, arrays[self.names[slot.name]]) for slot in self.slots.inputs)
            yield {s.name: self._value(s, self.layouts[s.name].row(array, number), scale) for s, array in rows}

    def _value(self, slot: Slot, row: NDArray[Any], scale: Scale | None) -> NDArray[Any]:
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            kind = "NaN" if np.isnan(row).any() else "infinity"
            raise DataError(
                f"{self.part.site}: the array for input '{slot.name}' holds {kind}; take that sample out of the data"
            )
        colours = channel_axis(slot)
        if scale is not None and row.dtype == np.uint8 and slot.dtype.kind == "f" and colours is not None:
            return np.asarray(scale.apply(row, colours)).astype(slot.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            value = row.astype(slot.dtype)
        if (value.dtype.kind in "iu" and (value != row).any()) or (
            value.dtype.kind == "f" and not np.isfinite(value).all()
        ):
            raise DataError(
                f"{self.part.site}: the array for input '{slot.name}' holds numbers up to {abs(row).max()}, too large "
                f"for the network's {slot.dtype}; scale them or take that sample out"
            )
        return np.ascontiguousarray(value)


def admit(part: Part, slots: Slots) -> Admitted:
    """Check that a part holds inputs of the network, as far as that shows without reading it.

    Raises
    ------
    DataError
        If a name, a shape or an element type does not fit.
    """
    names = _matched(part, slots)
    layouts, counts = {}, {}
    for slot in slots.inputs:
        header = part.headers[names[slot.name]]
        _check_type(part.site, header.dtype, slot)
        layout = lay_out(header.shape, slot)
        if layout is None:
            raise _misshapen(part.site, header.shape, slot)
        layouts[slot.name] = layout
        counts[slot.name] = 1 if layout.axis is None else header.shape[layout.axis]
    total = max(counts.values(), default=0)
    shared = {slot.name for slot in slots.inputs if layouts[slot.name].axis is None and slot.axis is None}
    if any(count != total for name, count in counts.items() if name not in shared):
        raise DataError(f"{part.site}: the inputs have different numbers of samples, {counts}; give equally many")
    notes = [layout.note for layout in layouts.values() if layout.note]
    notes += [_of_bytes(slot) for slot in slots.inputs if _is_plain(part.headers[names[slot.name]].dtype, slot)]
    return Admitted(part, slots, layouts, names, total, tuple(notes))


def _is_plain(dtype: np.dtype[Any], slot: Slot) -> bool:
    return dtype == np.uint8 and slot.dtype.kind == "f" and channel_axis(slot) is None


def _of_bytes(slot: Slot) -> str:
    return f"the bytes for input '{slot.name}', which takes no pictures, were taken as numbers from 0 to 255"


def _matched(part: Part, slots: Slots) -> dict[str, str]:
    wanted = [slot.name for slot in slots.inputs]
    if len(wanted) == 1 and list(part.headers) == [""]:
        return {wanted[0]: ""}
    missing = [name for name in wanted if name not in part.headers]
    if not missing:
        return {name: name for name in wanted}
    given = [name or "one without a name" for name in part.headers]
    raise DataError(
        f"{part.site}: there is no array for input '{missing[0]}' of the network, only {', '.join(given)}; name "
        f"arrays as the inputs: {', '.join(wanted)}"
    )


def _check_type(site: str, given: np.dtype[Any], slot: Slot) -> None:
    kinds = "".join({"u": "i", "V": "f"}.get(dtype.kind, dtype.kind) for dtype in (given, slot.dtype))
    if kinds not in _CASTS:
        raise DataError(
            f"{site}: the array for input '{slot.name}' holds {given}, the network takes {slot.dtype}; convert it, as "
            f"with array.astype('{slot.dtype}')"
        )


def _misshapen(site: str, shape: tuple[int, ...], slot: Slot) -> DataError:
    declared = ", ".join("N" if axis == slot.axis else str(size or "?") for axis, size in enumerate(slot.dims))
    if 0 in shape:
        return DataError(f"{site}: the array for input '{slot.name}' is empty, {list(shape)}; give at least one sample")
    return DataError(
        f"{site}: the array for input '{slot.name}' has the shape {list(shape)}, the network takes [{declared}]; "
        + ("N is any number of samples, all other sizes have to agree" if slot.axis is not None else "make them agree")
    )
