"""Dead leaves: pictures of occluding discs and boxes, whose statistics are much like those of photographs."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["dead_leaves"]

_AT_ONCE = 1 << 22


def dead_leaves(count: int, sizes: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw pictures.

    Parameters
    ----------
    count : int
    sizes : tuple of int
        Colours (1 or 3), height and width.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8 (count, colours, height, width)
        Red first.
    """
    colours, height, width = sizes
    step = max(1, _AT_ONCE // (height * width))
    pictures = np.empty((count, colours, height, width), np.uint8)
    for first in range(0, count, step):
        drawn = _draw(min(step, count - first), height, width, rng)
        pictures[first : first + step] = np.rint(drawn if colours == 3 else drawn.mean(axis=1, keepdims=True))
    return pictures


def _colours(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Colours that are mostly grey: luminance varies more than what sets red, green and blue apart."""
    grey = rng.standard_normal((*shape, 1), dtype=np.float32)
    tint = rng.standard_normal((*shape, 3), dtype=np.float32)
    return grey * np.float32(0.9) + tint * np.float32(0.35)


def _draw(count: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    leaves = 40
    side = max(height, width)
    picture = np.empty((count, 3, height, width), np.float32)
    picture[:] = _colours((count,), rng)[:, :, None, None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    smallest, largest = 0.04 * side, 0.6 * side
    for _ in range(leaves):
        # Radii by a power law, r^-3 between the smallest and the largest: the same picture at every scale.
        u = rng.random(count, dtype=np.float32)
        radius = 1 / np.sqrt(u / smallest**2 + (1 - u) / largest**2)
        y, x = (rng.random(count, dtype=np.float32) * size for size in (height, width))
        flat = np.exp(rng.normal(0, 0.4, count)).astype(np.float32)
        box = rng.random(count) < 0.5
        dy = np.abs(rows[None] - y[:, None, None]) / (radius * flat)[:, None, None]
        dx = np.abs(columns[None] - x[:, None, None]) / (radius / flat)[:, None, None]
        inside = np.where(box[:, None, None], np.maximum(dy, dx), dy * dy + dx * dx) < 1
        colour = _colours((count,), rng)
        np.copyto(picture, colour[:, :, None, None], where=inside[:, None])
    picture += _texture(count, height, width, rng) * rng.uniform(0.05, 0.3, (count, 1, 1, 1)).astype(np.float32)
    contrast = rng.uniform(0.15, 0.3, (count, 1, 1, 1)).astype(np.float32)
    level = rng.normal(0.47, 0.12, (count, 1, 1, 1)).astype(np.float32)
    return np.asarray(np.clip(255 * (level + contrast * picture), 0, 255))


def _texture(count: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise whose amplitude falls as one over frequency, of variance one."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    noise = rng.standard_normal((count, 1, height, width), dtype=np.float32)
    spectrum = np.fft.rfft2(noise) / frequency
    made = np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    return np.asarray(made / made.std(axis=(2, 3), keepdims=True))
