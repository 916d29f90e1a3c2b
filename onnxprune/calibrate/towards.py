"""Made-up pictures moved towards what a network takes for its classes, by derivatives of its own answers.

    x ← x − η · std(x) · g / rms(g),   g the derivative of −log max p, its waves weighed by 1 / f

p are the probabilities of the classes. Weighed so, g has the spectrum of photographs; the network sees every picture at
another place each time, so that it is shapes that move, and not single pixels. A few steps are enough: then layers that
dead leaves leave idle are at work.

References
----------
D. Field, "Relations between the statistics of natural images and the response properties of cortical cells", JOSA A
1987; A. Mordvintsev, C. Olah, M. Tyka, "Inceptionism", 2015, for pictures that are moved by a network's own answers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import PER_ELEMENT, Network, Slot, Slots, elements
from onnxprune.calibrate.layout import channel_axis
from onnxprune.calibrate.respond import answers_of, fed, misfit
from onnxprune.calibrate.scale import Scale
from onnxprune.errors import ModelError
from onnxprune.gradient import Loss, differentiate
from onnxprune.graph.runtime import Effort, Session

__all__ = ["moved"]

_STEPS, _FEWEST, _SIZE = 3, 2, 0.05
"""Steps, as few as are worth it, and how far one goes, in terms of a picture's contrast."""
_JUDGED = 256
"""Pictures that are compared with what BatchNormalization has stored."""
_PLACES = 16
"""A picture is moved about by up to its size over this."""
_COST = 1e12
"""What it may cost, in multiply-accumulates of the forward pass."""


def moved(
    network: Network, slot: Slot, pictures: NDArray[np.uint8], scale: Scale, macs: float, rng: np.random.Generator
) -> NDArray[np.uint8] | None:
    """Move pictures.

    Parameters
    ----------
    network : Network
        With one list of scores per sample among its outputs.
    slot : Slot
        The input.
    pictures : ndarray of uint8 (n, colours, height, width)
    scale : Scale
    macs : float
        Multiply-accumulates of the network, of one sample.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8 (n, colours, height, width) or None
        None where it would take long, the network cannot be differentiated, or the statistics that BatchNormalization
        has stored say that they are farther from what the network was trained on then.
    """
    index, shapes = network.index, network.shapes
    (answer,) = answers_of(network)
    size = max((shape[0] for shape in shapes.inputs.values() if shape), default=1)
    each = macs + PER_ELEMENT * elements(index, shapes) / size
    steps = min(_STEPS, int(_COST / (len(pictures) * each)))
    if steps < _FEWEST:
        return None
    maker = index.producer.get(answer)
    known = maker is not None and index.nodes[maker].op_type == "Softmax"
    loss = Loss("prediction", answer, probabilities=known)
    try:
        proto = network.model.copy().materialise()
        gradient = differentiate(proto, [slot.name], loss=loss, outputs=[], input_shapes=shapes.inputs)
        session = Session(gradient.proto.SerializeToString(), network.providers, effort=Effort(fast=True))
    except ModelError:
        return None
    slope, slots = gradient.of[slot.name], Slots.of(network)

    def sloped(values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Derivative by pictures, but for a factor."""
        feeds = next(fed(network, slot, values, scale))
        found = session.run({name: _single(value) for name, value in feeds.items()}, [slope])[slope]
        last = channel_axis(slot) == -1
        found = found.reshape(len(values), *values.shape[2:], -1) if last else found.reshape(values.shape)
        found = np.moveaxis(found, -1, 1) if last else found
        return np.flip(found, 1) if scale.reverse else found

    made = pictures.copy()
    last = len(pictures) // slots.batch * slots.batch if slots.fixed else len(pictures)
    for first in range(0, last, slots.batch):
        part = slice(first, first + slots.batch)
        try:
            made[part] = _walked(pictures[part], sloped, steps, rng)
        except ModelError:
            return None
    before, after = (misfit(network, slot, each[:_JUDGED].astype(np.float32), scale) for each in (pictures, made))
    return None if before is not None and after is not None and after > before else made


def _walked(
    pictures: NDArray[np.uint8],
    sloped: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    steps: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Some pictures after all steps."""
    values, sizes = pictures.astype(np.float32), np.array(pictures.shape[2:])
    contrast = values.std(axis=(1, 2, 3), keepdims=True)
    waves = np.hypot(np.fft.fftfreq(sizes[0])[:, None], np.fft.rfftfreq(sizes[1])[None])
    weights = 1.0 / np.maximum(waves, 1.0 / sizes.max())
    for _ in range(steps):
        far = rng.integers(-(sizes // _PLACES), sizes // _PLACES + 1)
        slope = np.roll(sloped(np.roll(values, far, (2, 3))), -far, (2, 3))
        waved = np.fft.irfft2(np.fft.rfft2(slope) * weights, s=tuple(sizes))
        size = np.sqrt(np.square(waved).mean(axis=(1, 2, 3), keepdims=True))
        step = _SIZE * contrast * np.divide(waved, size, out=np.zeros_like(waved), where=size > 0)
        values = np.clip(values - np.where(np.isfinite(step), step, 0.0), 0.0, 255.0).astype(np.float32)
    return np.round(values).astype(np.uint8)


def _single(value: NDArray[Any]) -> NDArray[Any]:
    """Floats as the derivative takes them."""
    return value.astype(np.float32) if value.dtype.kind == "f" else value
