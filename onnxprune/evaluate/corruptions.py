"""Corruptions of pictures: noise, blur, weather and digital ones, in five severities each.

    noise     x + σ·N(0, 1);  Poisson(x·λ)/λ;  a share of numbers black or white;  x + x·σ·N(0, 1)
    blur      discs, Gaussians, streaks, the mean of some zooms
    weather   a field with a 1/f² spectrum mixed in (fog; its crests: frost), flakes and streaks of white, brightness
    digital   contrast and saturation less, pixels moved, larger pixels, JPEG, fewer levels

Strengths are those of CIFAR-10-C for pictures of up to 64 pixels and of ImageNet-C above that; what they give in pixels
of a picture of 224 is scaled. Fog, frost, snow and rain are made from noise here, and resemble theirs only.

References
----------
D. Hendrycks, T. Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019, arXiv 1903.12261.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from onnxprune.errors import DataError
from onnxprune.extras import pillow

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupted", "left_out"]

Pictures = NDArray[np.float32]
_Change = Callable[[Pictures, float, np.random.Generator], NDArray[np.floating]]

SEVERITIES = (1, 2, 3, 4, 5)
_SMALL, _USUAL = 64, 224


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes
    ----------
    name : str
    family : {"noise", "blur", "weather", "digital"}
    small, large : tuple of float
        Strengths of the severities, for small pictures and for others.
    change : callable
        Given pictures (n, c, h, w) between 0 and 1, a strength and a generator.
    coloured : bool
        Whether it means something for pictures in colour alone.
    """

    name: str
    family: str
    small: Sequence[float]
    large: Sequence[float]
    change: _Change
    coloured: bool = False

    def strength(self, height: int, severity: int) -> float:
        """How strong it is for pictures of so many rows."""
        return float((self.small if height <= _SMALL else self.large)[severity - 1])


def corrupted(pictures: Pictures, kind: str, severity: int, rng: np.random.Generator) -> Pictures:
    """Corrupt pictures.

    Parameters
    ----------
    pictures : ndarray of float32 (n, c, h, w)
        Between 0 and 1.
    kind : str
        A name of `CORRUPTIONS`.
    severity : int
        From 1 to 5.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32 (n, c, h, w)

    Raises
    ------
    DataError
        For "jpeg", if Pillow is not installed.
    """
    corruption = CORRUPTIONS[kind]
    found = corruption.change(pictures, corruption.strength(pictures.shape[2], severity), rng)
    return np.clip(found, 0.0, 1.0).astype(np.float32)


def left_out(channels: int) -> dict[str, str]:
    """Tell which kinds pictures of so many channels cannot be given here, and why.

    Parameters
    ----------
    channels : int

    Returns
    -------
    dict
        By name.
    """
    found = {name: "it is about colours" for name, kind in CORRUPTIONS.items() if kind.coloured and channels == 1}
    try:
        pillow()
    except DataError as error:
        found["jpeg"] = str(error)
    return found


# ---- noise -----------------------------------------------------------------------------------------------------------


def _gaussian(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(x + strength * rng.standard_normal(x.shape, dtype=np.float32))


def _shot(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(rng.poisson(x * strength) / strength)


def _impulse(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    drawn = rng.random(x.shape, dtype=np.float32)
    return np.asarray(np.where(drawn < strength / 2, np.float32(0), np.where(drawn < strength, np.float32(1), x)))


def _speckle(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(x + x * strength * rng.standard_normal(x.shape, dtype=np.float32))


# ---- blur ------------------------------------------------------------------------------------------------------------


def _scaled(x: Pictures, strength: float) -> float:
    return float(strength * x.shape[2] / _USUAL)


def _filtered(x: Pictures, kernel: NDArray[np.float64]) -> NDArray[np.floating]:
    return np.asarray(ndimage.convolve(x, kernel[None, None] / kernel.sum(), mode="nearest"))


def _defocus(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    radius = _scaled(x, strength)
    reach = int(np.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    # Pixels at the rim count by how much of them lies within.
    disc = np.clip(radius + 0.5 - np.hypot(offsets[:, None], offsets), 0.0, 1.0)
    return _filtered(x, disc)


def _soft(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(ndimage.gaussian_filter(x, (0, 0, strength, strength), mode="nearest"))


def _streak(length: float, angle: float) -> NDArray[np.float64]:
    """Kernel of a line."""
    reach = max(int(np.ceil(length / 2)), 1)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step in np.linspace(-length / 2, length / 2, 8 * reach + 1):
        row, column = reach + step * np.sin(angle), reach + step * np.cos(angle)
        top, left = int(np.floor(row)), int(np.floor(column))
        for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            if 0 <= y <= 2 * reach and 0 <= x <= 2 * reach:
                kernel[y, x] += max(0.0, 1 - abs(row - y)) * max(0.0, 1 - abs(column - x))
    return kernel


def _motion(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    length = _scaled(x, strength)
    return np.concatenate([_filtered(row[None], _streak(length, rng.uniform(0, np.pi))) for row in x])


def _zoomed(x: Pictures, factor: float) -> NDArray[np.floating]:
    """The middle of pictures, larger."""
    height, width = x.shape[2:]
    rows = (np.arange(height) - (height - 1) / 2) / factor + (height - 1) / 2
    columns = (np.arange(width) - (width - 1) / 2) / factor + (width - 1) / 2
    low, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    high, right = np.minimum(low + 1, height - 1), np.minimum(left + 1, width - 1)
    down = (rows - low).astype(np.float32)[:, None]
    along = (columns - left).astype(np.float32)
    between = x[:, :, low] * (1 - down) + x[:, :, high] * down
    return np.asarray(between[..., left] * (1 - along) + between[..., right] * along)


def _zoom(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(np.mean([_zoomed(x, factor) for factor in np.linspace(1.0, strength, 6)], axis=0))


# ---- weather ---------------------------------------------------------------------------------------------------------


def _field(count: int, sizes: Sequence[int], rng: np.random.Generator, power: float) -> NDArray[np.floating]:
    """Noise between 0 and 1 whose amplitudes fall with frequency, (n, 1, h, w)."""
    height, width = sizes
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    drawn = rng.standard_normal((count, 1, height, width))
    found = np.fft.irfft2(np.fft.rfft2(drawn) / frequency**power, s=(height, width))
    low, high = (each(found, axis=(2, 3), keepdims=True) for each in (np.min, np.max))
    return np.asarray((found - low) / np.maximum(high - low, 1e-12))


def _fog(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    most = x.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((x + strength * _field(len(x), x.shape[2:], rng, 2.0)) * most / (most + strength))


def _frost(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    crests = 1 - 2 * np.abs(_field(len(x), x.shape[2:], rng, 1.5) - 0.5)
    return np.asarray((1 - 0.4 * strength) * x + strength * 0.7 * crests**4)


def _fallen(x: Pictures, share: float, length: float, angle: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """Flakes or drops as streaks, (n, 1, h, w)."""
    drops = (rng.random((len(x), 1, *x.shape[2:])) < share).astype(np.float32)
    kernel = _streak(length, angle)
    return np.asarray(np.clip(ndimage.convolve(drops, kernel[None, None] / kernel.max(), mode="wrap"), 0, 1))


def _snow(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    flakes = _fallen(x, strength / 10, max(_scaled(x, 12), 1.5), np.pi / 3, rng)
    grey = np.maximum(x, x.mean(axis=1, keepdims=True) * 1.5 + 0.5)
    return np.asarray(np.maximum((1 - strength / 2) * x + strength / 2 * grey, flakes * (0.5 + strength / 2)))


def _rain(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    drops = _fallen(x, strength / 20, max(_scaled(x, 28), 3.0), np.pi / 2.2, rng)
    return np.asarray(x * (1 - strength / 3) + 0.6 * drops)


def _brighter(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(x + np.float32(strength))


# ---- digital ---------------------------------------------------------------------------------------------------------


def _contrast(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    mean = x.mean(axis=(2, 3), keepdims=True)
    return np.asarray((x - mean) * np.float32(strength) + mean)


def _saturation(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    grey = x.mean(axis=1, keepdims=True)
    return np.asarray(grey + (x - grey) * np.float32(strength))


def _elastic(x: Pictures, strength: float, rng: np.random.Generator) -> NDArray[np.floating]:
    height, width = x.shape[2:]
    smooth = max(height / 16, 1.0)
    found = np.empty_like(x)
    grid = np.indices((height, width), dtype=np.float64)
    for number, picture in enumerate(x):
        moves = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, height, width)), (0, smooth, smooth), mode="reflect")
        moves *= _scaled(x, strength) / max(float(np.abs(moves).max()), 1e-12)
        for channel, values in enumerate(picture):
            found[number, channel] = ndimage.map_coordinates(values, grid + moves, order=1, mode="reflect")
    return found


def _pixelate(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    height, width = x.shape[2:]
    rows, columns = (np.arange(size) * max(round(size * strength), 1) // size for size in (height, width))
    means = np.stack([x[:, :, rows == row].mean(axis=2) for row in range(rows[-1] + 1)], axis=2)
    means = np.stack([means[..., columns == column].mean(axis=3) for column in range(columns[-1] + 1)], axis=3)
    return np.asarray(means[:, :, rows][..., columns])


def _jpeg(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    image, found = pillow(), np.empty_like(x)
    grey = x.shape[1] == 1
    for number, picture in enumerate(np.rint(x * 255).astype(np.uint8)):
        buffer = io.BytesIO()
        image.fromarray(picture[0] if grey else picture.transpose(1, 2, 0)).save(buffer, "JPEG", quality=int(strength))
        read = np.asarray(image.open(buffer), dtype=np.float32) / 255
        found[number] = read[None] if grey else read.transpose(2, 0, 1)
    return found


def _levels(x: Pictures, strength: float, _: np.random.Generator) -> NDArray[np.floating]:
    return np.asarray(np.rint(x * (strength - 1)) / (strength - 1))


_TABLE = (
    Corruption("gaussian_noise", "noise", (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38), _gaussian),
    Corruption("shot_noise", "noise", (500, 250, 100, 75, 50), (60, 25, 12, 5, 3), _shot),
    Corruption("impulse_noise", "noise", (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27), _impulse),
    Corruption("speckle_noise", "noise", (0.06, 0.10, 0.12, 0.16, 0.20), (0.15, 0.20, 0.35, 0.45, 0.60), _speckle),
    Corruption("defocus_blur", "blur", (3, 4, 6, 8, 10), (3, 4, 6, 8, 10), _defocus),
    Corruption("gaussian_blur", "blur", (0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6), _soft),
    Corruption("motion_blur", "blur", (14, 18, 22, 28, 36), (10, 15, 20, 26, 34), _motion),
    Corruption("zoom_blur", "blur", (1.06, 1.11, 1.16, 1.21, 1.26), (1.11, 1.16, 1.21, 1.26, 1.33), _zoom),
    Corruption("fog", "weather", (0.2, 0.5, 0.75, 1.0, 1.5), (1.0, 1.5, 2.0, 2.5, 3.0), _fog),
    Corruption("frost", "weather", (0.2, 0.35, 0.5, 0.65, 0.8), (0.3, 0.5, 0.7, 0.85, 1.0), _frost),
    Corruption("snow", "weather", (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.35, 0.5, 0.65), _snow),
    Corruption("rain", "weather", (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.35, 0.5, 0.65), _rain),
    Corruption("brightness", "weather", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), _brighter),
    Corruption("contrast", "digital", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
    Corruption("saturation", "digital", (0.8, 0.6, 0.4, 0.2, 0.0), (0.8, 0.6, 0.4, 0.2, 0.0), _saturation, True),
    Corruption("elastic", "digital", (4, 6, 8, 10, 13), (3, 5, 7, 9, 12), _elastic),
    Corruption("pixelate", "digital", (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25), _pixelate),
    Corruption("jpeg", "digital", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7), _jpeg),
    Corruption("quantise", "digital", (32, 16, 8, 6, 4), (16, 8, 6, 4, 3), _levels),
)
CORRUPTIONS: dict[str, Corruption] = {row.name: row for row in _TABLE}
