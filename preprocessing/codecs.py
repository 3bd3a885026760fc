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


class StoredImages:
    """Decodes the stored images of a dataset."""

    def __init__(self, codec: Codec, size: int) -> None:
        self._codec = codec
        self._shape = (size, size, 3)
        self._header = npy_header(size)
        self._bytes = NPY_HEADER_BYTES + size * size * 3

    def decode(self, blob: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """The image, uint8 RGB [size, size, 3], of a stored image's bytes; None where it is not one of that size.

        A tensor's is a view of `blob`.
        """
        if self._codec == "jpeg":
            try:
                image: NDArray[Any] = simplejpeg.decode_jpeg(blob, colorspace="RGB")
            except ValueError:
                return None
            return image if image.shape == self._shape else None
        # The header is in the page of memory that reading the pixels needs anyway: to check it costs next to nothing.
        if len(blob) != self._bytes or blob[:NPY_HEADER_BYTES].tobytes() != self._header:
            return None
        return blob[NPY_HEADER_BYTES:].reshape(self._shape)
