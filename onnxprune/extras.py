"""Libraries that only some uses need: how they are loaded, and what to install where they are missing."""

import importlib
from typing import Any

from onnxprune.errors import DataError

__all__ = ["pillow"]


def pillow() -> Any:
    """Return the module `PIL.Image`, which reads pictures.

    Raises
    ------
    DataError
        If Pillow is not installed.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise DataError(
            f"pictures are read by Pillow, which cannot be loaded ({error}): install it with "
            "`pip install 'onnxprune[images]'`, or give the pictures as arrays in an .npz file"
        ) from error
