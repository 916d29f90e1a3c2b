"""Libraries that only some uses need: how they are loaded, and what to install where they are missing."""

import importlib
from typing import Any

from onnxprune.errors import DataError, OutputError

__all__ = ["jinja", "matplotlib", "pillow"]


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


def jinja() -> Any:
    """Return the module `jinja2`, which fills the templates of a page.

    Raises
    ------
    OutputError
        If Jinja is not installed.
    """
    return _for_pages("jinja2", "filled in by Jinja")


def matplotlib() -> Any:
    """Return the module `matplotlib`, which draws the figures of a page, with its figures loaded.

    Raises
    ------
    OutputError
        If Matplotlib is not installed.
    """
    _for_pages("matplotlib.figure", "drawn by Matplotlib")
    return importlib.import_module("matplotlib")


def _for_pages(module: str, use: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise OutputError(
            f"reports in HTML are {use}, which cannot be loaded ({error}): install it with "
            "`pip install 'onnxprune[report]'`, or give --report a name that ends in .json"
        ) from error
