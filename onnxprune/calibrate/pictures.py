"""Folders of pictures: found, resized, cropped and turned into bytes for a network; folders in them are classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibrate.calibration import Slot, Slots
from onnxprune.calibrate.layout import channel_axis, picture_sizes
from onnxprune.calibrate.parts import Arrays, Header, Part
from onnxprune.errors import DataError
from onnxprune.extras import pillow

__all__ = ["SUFFIXES", "picture_parts", "pictures_in"]

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"])
# The share of a picture's shorter side that the crop at its centre takes: 224 of 256.
_CROP = 224 / 256
# Bytes of pictures that are kept once they are read: they are read once per stage.
_KEPT = 1 << 28


def pictures_in(folder: Path) -> list[tuple[Path, int | None]]:
    """Find pictures in a folder, or in the folders in it, which are classes in the order of their names."""
    direct = _files(folder)
    if direct:
        return [(path, None) for path in direct]
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and _files(path))
    numbered = all(path.name.isascii() and path.name.isdigit() for path in classes)
    labels = [int(path.name) if numbered else place for place, path in enumerate(classes)]
    return [(path, label) for home, label in zip(classes, labels, strict=True) for path in _files(home)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def picture_parts(found: list[tuple[Path, int | None]], slots: Slots) -> list[Part]:
    """Make a part of each picture.

    Raises
    ------
    DataError
        If the network takes no pictures, or Pillow is missing.
    """
    pillow()
    takes = [slot for slot in slots.inputs if channel_axis(slot) is not None]
    if len(slots.inputs) != 1 or not takes:
        inputs = ", ".join(f"'{slot.name}' {list(slot.shape)}" for slot in slots.inputs)
        raise DataError(
            f"{found[0][0].parent}: a folder of pictures is no input of this network, which takes {inputs}; give "
            "arrays by the names of its inputs in an .npz file"
        )
    slot = takes[0]
    colours, height, width = picture_sizes(slot)
    keep = len(found) * colours * height * width <= _KEPT
    shape = (1, colours, height, width) if channel_axis(slot) == -3 else (1, height, width, colours)
    header = Header(shape, np.dtype(np.uint8))
    return [
        Part(str(path), {slot.name: header}, _Reader(path, slot, keep=keep), label, pictures=True)
        for path, label in found
    ]


class _Reader:
    """Reads one picture; the second time from memory, where that is allowed."""

    def __init__(self, path: Path, slot: Slot, *, keep: bool) -> None:
        self._path, self._slot, self._keep = path, slot, keep
        self._held: Arrays | None = None

    def __call__(self) -> Arrays:
        if self._held is not None:
            return self._held
        read = {self._slot.name: _read(self._path, self._slot)}
        self._held = read if self._keep else None
        return read


def _read(path: Path, slot: Slot) -> NDArray[np.uint8]:
    """Bytes of a picture as large as the network takes it: resized to the crop's size and cut at the centre.

    A picture that already has the size is taken as it is.
    """
    image = pillow()
    colours, height, width = picture_sizes(slot)
    try:
        with image.open(path) as opened:
            picture = opened.convert("RGB" if colours == 3 else "L")
    except (OSError, ValueError, SyntaxError, EOFError, image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot read the picture ({reason}); take it out of the folder") from error
    if picture.size != (width, height):
        crop = _CROP if max(height, width) >= 64 else 1.0
        times = max(width / picture.width, height / picture.height) / crop
        resized = (max(round(picture.width * times), width), max(round(picture.height * times), height))
        picture = picture.resize(resized, image.Resampling.BILINEAR)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        picture = picture.crop((left, top, left + width, top + height))
    array = np.asarray(picture, np.uint8).reshape(height, width, colours)
    return array[None] if channel_axis(slot) == -1 else np.moveaxis(array, -1, 0)[None]
