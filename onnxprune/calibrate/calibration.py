"""Samples as batches that a network takes: what its inputs look like, and how samples are stacked for them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ValueInfoProto, helper

from onnxprune.calibrate.feeds import Feeds
from onnxprune.graph.index import Index
from onnxprune.graph.model import Model
from onnxprune.graph.runtime import CPU
from onnxprune.shapes.infer import Shapes

__all__ = ["PER_ELEMENT", "Batch", "Calibration", "Network", "Slot", "Slots", "batched", "elements"]

PER_ELEMENT = 72.0
"""Multiply-accumulates that take as long as one element of an activation does, where a network is differentiated."""

# Bytes that all tensors of a batch may have together, where any of them may be asked for, and its samples at most.
_BATCH_BYTES = 1 << 28
_LARGEST_BATCH = 128


@dataclass(frozen=True)
class Batch:
    """Samples that a network takes at once, and their numbers."""

    feeds: Feeds
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """Inputs that stand for what the network will see.

    Attributes
    ----------
    origin : {"given", "synthetic"}
    notes : tuple of str
        What was assumed (scale, layout, vocabulary), one sentence each.
    count : int
        Number of samples.
    labels : ndarray of int (count,) or None
        Classes of the samples, where the source has them.
    start : callable
        Begins to read the samples of some numbers, ascending, anew, batch by batch.
    places : ndarray of int (count,) or None
        Where each sample is in the source, counted from 0; None where they are all that there are.
    alike : bool
        Whether samples are what the network sees, or much like it; what is made up may be so in its statistics alone.
    """

    origin: str
    notes: tuple[str, ...]
    count: int
    labels: NDArray[np.int64] | None
    start: Callable[[NDArray[np.int64]], Iterator[Batch]] = field(repr=False)
    places: NDArray[np.int64] | None = None
    alike: bool = True

    def place(self, number: int) -> int:
        """Where a sample is in the source."""
        return number if self.places is None else int(self.places[number])

    def batches(self) -> Iterator[Feeds]:
        """Yield all samples in order, in batches that the network takes; as often as it is called.

        All batches have the size that the network declares, or one size of choice where it declares none; only then
        the last one may be smaller.

        Raises
        ------
        DataError
            If a file turns out to be damaged, or holds numbers that are none.
        """
        return (batch.feeds for batch in self.start(np.arange(self.count)))

    def some(self, wanted: NDArray[np.int64], slots: "Slots") -> Iterator[Batch]:
        """Read samples of some numbers, ascending, and as many others among them as fill a batch of a fixed size."""
        lacking = -len(wanted) % slots.batch if slots.fixed else 0
        others = np.setdiff1d(np.arange(self.count), wanted)[:lacking]
        return self.start(np.sort(np.concatenate([wanted, others])))


@dataclass(frozen=True)
class Network:
    """A network that inputs are looked for, and how to run it.

    Attributes
    ----------
    model, index, shapes
        The network; none of them is changed.
    providers : tuple of str
        From `choose_providers`.
    room : int
        Bytes that all tensors of a batch may have together.
    """

    model: Model
    index: Index
    shapes: Shapes
    providers: tuple[str, ...] = (CPU,)
    room: int = _BATCH_BYTES


@dataclass(frozen=True)
class Slot:
    """One input of a network.

    Attributes
    ----------
    name : str
    dims : tuple of int or None
        Declared sizes; None where any will do.
    shape : tuple of int
        Sizes that are assumed.
    dtype : numpy.dtype
    axis : int or None
        Along which samples are stacked; None where one value is for all.
    """

    name: str
    dims: tuple[int | None, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int | None

    @property
    def one(self) -> tuple[int, ...]:
        """Assumed shape of one sample."""
        return tuple(1 if axis == self.axis else size for axis, size in enumerate(self.shape))


@dataclass(frozen=True)
class Slots:
    """The inputs of a network that tensors go into.

    Attributes
    ----------
    inputs : tuple of Slot
    batch : int
        Samples per run.
    fixed : bool
        Whether the network declares that number.
    """

    inputs: tuple[Slot, ...]
    batch: int
    fixed: bool

    @classmethod
    def of(cls, network: Network) -> "Slots":
        """Read a network's signature."""
        index, shapes = network.index, network.shapes
        values = [v for v in index.proto.graph.input if v.name in shapes.inputs and v.name not in index.weights]
        axes = {value.name: _free_axis(value, _batch_name(values)) for value in values}
        fixed = all(axis is None for axis in axes.values())
        batch = _affordable(network) if not fixed else 1
        if fixed:
            sizes = {shapes.inputs[value.name][0] for value in values if len(shapes.inputs[value.name]) > 1}
            batch = sizes.pop() if len(sizes) == 1 else 1
            axes = {
                name: 0 if len(shapes.inputs[name]) > 1 and shapes.inputs[name][0] == batch else None for name in axes
            }
        return cls(tuple(_slot(value, shapes, axes[value.name]) for value in values), batch, fixed)


def _symbols(value: ValueInfoProto) -> list[str]:
    """Names of an input's free sizes, "?" for those without one, and "" for the others."""
    dims = value.type.tensor_type.shape.dim
    return ["" if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims]


def _batch_name(values: Sequence[ValueInfoProto]) -> str:
    """Name of the first size of an input, where it is free."""
    names = [symbols[0] for symbols in map(_symbols, values) if symbols and symbols[0]]
    return names[0] if names else ""


def _free_axis(value: ValueInfoProto, batch: str) -> int | None:
    """Axis that has the batch's name, or a free first one."""
    symbols = _symbols(value)
    if batch not in ("", "?") and batch in symbols:
        return symbols.index(batch)
    return 0 if symbols and symbols[0] else None


def _slot(value: ValueInfoProto, shapes: Shapes, axis: int | None) -> Slot:
    shape = shapes.inputs[value.name]
    declared = [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]
    dims = tuple(declared) if len(declared) == len(shape) else (None,) * len(shape)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return Slot(value.name, dims, shape, dtype, axis)


def elements(index: Index, shapes: Shapes) -> float:
    """Elements of all that a network computes, at the sizes that are assumed."""
    return float(sum(math.prod(shape) for name, shape in shapes.shapes.items() if name not in index.constants))


def _affordable(network: Network) -> int:
    """Samples per run that are fast and bounded in memory; one where the network does not take more."""
    index, shapes = network.index, network.shapes
    grown = [any(shapes.batches.get(name, ())) for name in index.outputs if name in shapes.shapes]
    if grown and not any(grown):
        return 1
    batch = max((shapes.inputs[name][0] for name in shapes.inputs if shapes.inputs[name]), default=1)
    return int(np.clip(network.room * batch / max(4 * elements(index, shapes), 1), 1, _LARGEST_BATCH))


def batched(samples: Iterable[tuple[int, Feeds]], slots: Slots) -> Iterator[Batch]:
    """Stack samples.

    Parameters
    ----------
    samples : iterable of (int, dict of str to ndarray)
        A number and one sample each, of size one along the axis that samples are stacked along.
    slots : Slots

    Yields
    ------
    Batch
        Samples of different sizes are in different batches, those that are larger than is assumed in smaller ones. What
        cannot fill a batch of a fixed size is left out.
    """
    pending: list[tuple[int, Feeds]] = []
    alike, most = tuple[Any, ...](), slots.batch
    for number, sample in samples:
        key = tuple(_kind(sample[slot.name], slot) for slot in slots.inputs)
        if key != alike:
            yield from _stacked(pending, slots)
            alike, most, pending = key, _most(sample, slots), []
        pending.append((number, sample))
        if len(pending) == most:
            yield from _stacked(pending, slots)
            pending = []
    yield from _stacked(pending, slots)


def _most(sample: Feeds, slots: Slots) -> int:
    """Samples of this size per run: fewer where they are larger than is assumed."""
    if slots.fixed:
        return slots.batch
    assumed, given = (
        sum(math.prod(shape) for shape in shapes)
        for shapes in ([slot.one for slot in slots.inputs], [sample[slot.name].shape for slot in slots.inputs])
    )
    return max(slots.batch * min(assumed, given) // max(given, 1), 1)


def _kind(value: NDArray[Any], slot: Slot) -> Any:
    """What has to be the same in all samples of a batch."""
    return value.shape if slot.axis is not None else (value.shape, value.tobytes())


def _stacked(pending: list[tuple[int, Feeds]], slots: Slots) -> Iterator[Batch]:
    if not pending or (slots.fixed and len(pending) < slots.batch):
        return
    numbers, samples = zip(*pending, strict=True)
    feeds = {
        slot.name: samples[0][slot.name]
        if slot.axis is None or len(samples) == 1
        else np.concatenate([sample[slot.name] for sample in samples], axis=slot.axis)
        for slot in slots.inputs
    }
    yield Batch(feeds, np.array(numbers, dtype=np.int64))
