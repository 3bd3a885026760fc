"""An image as it is stored: a `.npy` blob or a JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from preprocessing.schema import NPY_HEADER_BYTES, Codec, npy_header


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """The JPEG (4:2:0) of uint8 RGB [height, width, 3]."""
    return bytes(simplejpeg.encode_jpeg(image, quality=quality, colorspace="RGB", colorsubsampling="420"))


def decode_stored(blob: bytes, codec: Codec, size: int) -> NDArray[np.uint8] | None:
    """The image uint8 RGB [size, size, 3] of a stored blob, or None where it is not one of that size."""
    if codec == "jpeg":
        try:
            image: NDArray[Any] = simplejpeg.decode_jpeg(blob, colorspace="RGB")
        except ValueError:
            return None
        return image if image.shape == (size, size, 3) else None
    if blob[:NPY_HEADER_BYTES] != npy_header(size) or len(blob) != NPY_HEADER_BYTES + size * size * 3:
        return None
    return np.frombuffer(blob, np.uint8, offset=NPY_HEADER_BYTES).reshape(size, size, 3)
