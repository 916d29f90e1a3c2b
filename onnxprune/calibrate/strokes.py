"""Strokes: bright curves on black, as drawn and written figures are."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["strokes"]

_POINTS = 24


def strokes(count: int, sizes: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one to three smooth curves per picture, all about as wide, around the centre.

    Parameters
    ----------
    count : int
    sizes : tuple of int
        Colours, height and width.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8 (count, colours, height, width)
    """
    colours, height, width = sizes
    side = min(height, width)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    ink = np.zeros((count, height, width), np.float32)
    # Half the width of a pen, and the height and width of the figure, as shares of the picture's side.
    pen = rng.uniform(0.03, 0.065, (count, 1, 1)).astype(np.float32) * side
    tall = rng.uniform(0.3, 0.37, (count, 1)) * side
    wide = rng.uniform(0.12, 0.36, (count, 1)) * side
    slant = rng.normal(0, 0.25, (count, 1))
    times = np.linspace(0, 1, _POINTS)
    basis = np.stack([(1 - times) ** 3, 3 * times * (1 - times) ** 2, 3 * times**2 * (1 - times), times**3])
    last = rng.uniform(-1, 1, (count, 2))
    for number in range(3):
        drawn = rng.random(count) < (1.0, 0.8, 0.35)[number]
        corners = rng.uniform(-1.25, 1.25, (count, 2, 4))
        corners[:, :, 0] = last
        last = np.clip(corners[:, :, 3], -1, 1)
        curve = np.clip(corners @ basis, -1, 1)
        y = curve[:, 0] * tall
        x = curve[:, 1] * wide - slant * y
        nearest = np.full((count, height, width), np.inf, np.float32)
        for point in range(_POINTS):
            down = (rows - (height / 2 + y[:, point, None, None])).astype(np.float32)
            right = (columns - (width / 2 + x[:, point, None, None])).astype(np.float32)
            np.minimum(nearest, down * down + right * right, out=nearest)
        edge = np.clip(pen + 0.5 - np.sqrt(nearest), 0, 1)
        np.maximum(ink, edge, out=ink, where=drawn[:, None, None])
    brightness = rng.uniform(0.85, 1.0, (count, 1, 1)).astype(np.float32)
    picture = np.rint(255 * brightness * ink).astype(np.uint8)[:, None]
    return np.asarray(np.broadcast_to(picture, (count, colours, height, width)))
