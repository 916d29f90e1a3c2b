"""Small pictures as PNG files, for reports: true colours, eight bits, no library."""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS_RGB = (8, 2, 0, 0, 0)


def to_png(picture: NDArray[np.floating]) -> str:
    """Write a picture.

    Parameters
    ----------
    picture : ndarray (h, w, 3)
        Between 0 and 1.

    Returns
    -------
    str
        The file in base64.

    References
    ----------
    ISO/IEC 15948, "Portable Network Graphics", sections 5.3, 9.2 and 11.2.
    """
    height, width, _ = picture.shape
    values = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8).reshape(height, -1)
    rows = np.pad(values, ((0, 0), (1, 0)))  # the number of each row's filter is 0, as it is
    header = struct.pack(">II5B", width, height, *_EIGHT_BITS_RGB)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return base64.b64encode(_SIGNATURE + b"".join(_chunk(*part) for part in parts)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
