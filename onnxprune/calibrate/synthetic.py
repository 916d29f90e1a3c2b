"""Inputs for a network when nobody gives any: by what each input looks like, pictures, tokens or numbers."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Batch, Calibration, Network, Slot, Slots, batched
from onnxprune.calibrate.feeds import Feeds, random_feeds, shape_attempts
from onnxprune.calibrate.layout import channel_axis, picture_sizes, size_note
from onnxprune.calibrate.leaves import dead_leaves
from onnxprune.calibrate.ranges import Range, range_of
from onnxprune.calibrate.respond import find_scale, scaled
from onnxprune.calibrate.scale import Scale
from onnxprune.calibrate.strokes import strokes
from onnxprune.calibrate.surest import pool_of, surest
from onnxprune.calibrate.tokens import Tokens, companion, draw_tokens, written
from onnxprune.calibrate.towards import moved
from onnxprune.errors import ModelError
from onnxprune.graph.staged import open_session

__all__ = ["synthesise"]

# Grey pictures up to this side are taken for drawn figures, as those of digits are.
_FIGURE = 64
# Pictures that a scale is tried on: enough to see how varied the answers are, few where they are large.
_TRIED, _PIXELS = 64, 1 << 20
# Sizes of pictures that networks take laid out flat: those of MNIST and CIFAR-10.
_FLAT = {784: (1, 28, 28), 3072: (3, 32, 32)}
# Length of a text where the network leaves it open.
_LENGTH = 64
# Texts that a network writes, from which on they are the better stand-in alone.
_ENOUGH = 32


@dataclass(frozen=True)
class _Made:
    """How samples of one input are made by their numbers, what the report says, and how many there are at most.

    `alike` are those that are much like what the network sees.
    """

    make: Callable[[int], NDArray[Any]]
    note: str
    most: int | None = None
    alike: bool = False


@dataclass(frozen=True)
class _Wish:
    """What is asked for: how many samples, from which seed, at which scale; and multiply-accumulates of one of them,
    where pictures may be moved."""

    count: int
    seed: int
    scale: Scale | None
    macs: float | None


def synthesise(
    network: Network, *, count: int, seed: int = 0, scale: Scale | None = None, macs: float | None = None
) -> Calibration:
    """Make up inputs of a network.

    Parameters
    ----------
    network : Network
    count : int
        Samples; rounded to a multiple of a fixed batch.
    seed : int
    scale : Scale, optional
        What the network takes for the bytes of a picture; found out by default.
    macs : float, optional
        Multiply-accumulates of the network, of one sample; pictures are moved towards its classes where that is known.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> calibration = synthesise(network, count=1024)  # doctest: +SKIP
    >>> next(calibration.batches())["input"].shape  # doctest: +SKIP
    (128, 3, 32, 32)
    """
    network = replace(network, shapes=replace(network.shapes, inputs=_running_sizes(network)))
    slots = Slots.of(network)
    count = max(count // slots.batch, 1) * slots.batch if slots.fixed else count
    wish = _Wish(count, seed, scale, macs)
    made: dict[str, _Made] = {}
    for place, slot in enumerate(slots.inputs):
        found = _maker(network, slots, slot, wish, np.random.default_rng([seed, 3, place]))
        if found is not None:
            made[slot.name] = found
    wish = replace(wish, count=min([count, *(item.most for item in made.values() if item.most is not None)]))

    def start(numbers: NDArray[np.int64]) -> Iterator[Batch]:
        wanted = set(map(int, numbers))
        every = enumerate(_samples(network, slots, made, wish))
        return batched(((number, sample) for number, sample in every if number in wanted), slots)

    alike = len(made) == len(slots.inputs) and all(item.alike for item in made.values())
    return Calibration("synthetic", tuple(item.note for item in made.values()), wish.count, None, start, alike=alike)


def _samples(network: Network, slots: Slots, made: Mapping[str, _Made], wish: _Wish) -> Iterator[Feeds]:
    rng = np.random.default_rng([wish.seed, 4])
    one = {slot.name: slot.one for slot in slots.inputs}
    for number in range(wish.count):
        others = random_feeds(network.index, network.shapes, rng, one) if len(made) < len(one) else {}
        yield others | {name: item.make(number) for name, item in made.items()}


def _running_sizes(network: Network) -> dict[str, tuple[int, ...]]:
    """Sizes of the inputs that the network runs at: larger ones than are assumed, where it needs them."""
    index, shapes = network.index, network.shapes
    inputs = dict(shapes.inputs)
    loose = [slot for slot in Slots.of(network).inputs if None in slot.dims[1:]]
    if not loose:
        return inputs
    for slot in loose:
        if Tokens.of(slot, network) is not None and len(slot.dims) == 2 and slot.name in shapes.assumed:
            longer = (slot.shape[0], _LENGTH)
            inputs = {name: longer if shape == slot.shape else shape for name, shape in inputs.items()}
    attempts = [inputs, *shape_attempts(index, shapes)]
    try:
        session = open_session(network.model.copy(), network.providers)
    except ModelError:
        return dict(shapes.inputs)
    for sizes in attempts:
        try:
            session.run(random_feeds(index, shapes, np.random.default_rng(0), sizes))
        except ModelError:
            continue
        return sizes
    return dict(shapes.inputs)


def _maker(network: Network, slots: Slots, slot: Slot, wish: _Wish, rng: np.random.Generator) -> _Made | None:
    """Say how samples of one input are made; None where random numbers are all there is."""
    sizes = picture_sizes(slot) if channel_axis(slot) is not None else _FLAT.get(math.prod(slot.one))
    if sizes is not None and (slot.dtype.kind == "f" or slot.dtype == np.uint8):
        return _pictures(network, slot, sizes, wish, rng)
    tokens = Tokens.of(slot, network)
    if tokens is not None:
        return _texts(network, slots, tokens, wish, rng)
    beside = companion(slot, slot.one)
    if beside is not None:
        value = beside
        return _Made(lambda _: value, f"input '{slot.name}' is the same in all samples: {_shown(value)}")
    if slot.dtype.kind == "f":
        return _numbers(slot, range_of(network, slot), wish)
    return None


def _shown(value: NDArray[Any]) -> str:
    flat = value.reshape(-1)
    return "positions" if flat.size > 1 and flat[0] != flat[-1] else "ones" if flat.size and flat[0] else "zeros"


def _pictures(
    network: Network, slot: Slot, sizes: tuple[int, int, int], wish: _Wish, rng: np.random.Generator
) -> _Made:
    figures = sizes[0] == 1 and max(sizes) <= _FIGURE
    draw = strokes if figures else dead_leaves
    kind = "drawn strokes" if figures else "dead leaves, pictures of occluding shapes"
    told = size_note(slot, network.shapes.assumed)
    size = f"; {told}" if told else ""
    # Bytes, as pictures are, scaled when they are asked for.
    # Of strokes a network is sure anyway: the surest are less varied, and worse to learn from.
    count = wish.count if figures or slot.dtype == np.uint8 else pool_of(network, wish.count, sizes)
    pictures = draw(count, sizes, rng)
    if slot.dtype == np.uint8:
        bytes_ = np.ascontiguousarray(np.moveaxis(pictures, 1, -1) if channel_axis(slot) == -1 else pictures)
        note = f"input '{slot.name}': {kind}, as bytes{size}"
        return _Made(lambda number: bytes_[number : number + 1], note, alike=figures)
    scale, note = wish.scale, f"pictures are fed as {wish.scale.name}" if wish.scale is not None else ""
    if scale is None:
        few = int(np.clip(_PIXELS // (sizes[1] * sizes[2]), 16, _TRIED))
        scale, note = find_scale(network, slot, pictures[:few].astype(np.float32))
    best = surest(network, slot, pictures, scale, wish.count) if len(pictures) > wish.count else None
    if best is not None:
        kind += f", of {len(pictures):,} those that the network is surest of, class by class"
    chosen, fed = pictures[: wish.count] if best is None else pictures[best], scale
    if best is not None and wish.macs is not None:
        farther = moved(network, slot, chosen, fed, wish.macs, rng)
        kind += "" if farther is None else ", moved towards what it takes for these"
        chosen = chosen if farther is None else farther
    return _Made(
        lambda number: scaled(chosen[number : number + 1].astype(np.float32), slot, fed),
        f"input '{slot.name}': {kind}; {note}{size}",
        alike=figures,
    )


def _texts(network: Network, slots: Slots, tokens: Tokens, wish: _Wish, rng: np.random.Generator) -> _Made:
    slot = tokens.slot
    shape = (wish.count, *slot.one[1:]) if slot.axis == 0 else (wish.count, *slot.one)
    ids = draw_tokens(tokens, shape, rng)
    note = f"input '{slot.name}': token ids below {tokens.vocabulary}, half of them even, half by Zipf's law"
    if len(slot.shape) == 2:
        own = written(network, slots, tokens, (wish.count, slot.one[1]), rng)
        own = own[: len(own) // slots.batch * slots.batch] if slots.fixed else own
        if len(own) >= min(_ENOUGH, wish.count):
            note = f"input '{slot.name}': {len(own)} texts of {slot.one[1]} tokens that the network writes itself"
            return _Made(lambda number: own[number].reshape(slot.one).astype(slot.dtype), note, len(own), alike=True)
    return _Made(lambda number: ids[number].reshape(slot.one), note)


def _numbers(slot: Slot, within: Range, wish: _Wish) -> _Made:
    def make(number: int) -> NDArray[Any]:
        rng = np.random.default_rng([wish.seed, 5, number])
        return within.draw(slot.one, rng).astype(slot.dtype)

    return _Made(make, f"input '{slot.name}': {within.note}")
