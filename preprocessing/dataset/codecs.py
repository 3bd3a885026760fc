"""An image as it is stored: a `.npy` blob or a JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from preprocessing.common.jpeg_header import PLAIN_FRAMES, parse_header
from preprocessing.dataset.schema import NPY_HEADER_BYTES, Codec, npy_header


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
        """The image, uint8 RGB [size, size, 3], of a stored image's bytes; None if it is not one of that size.

        A tensor's is a view of `blob`.
        """
        if self._codec == "jpeg":
            if not self._is_sound(blob.tobytes()):
                return None
            try:
                image: NDArray[Any] = simplejpeg.decode_jpeg(blob, colorspace="RGB")
            except ValueError:
                return None
            return image if image.shape == self._shape else None
        # The header is in the page of memory that reading the pixels needs anyway: to check it costs next to nothing.
        if len(blob) != self._bytes or blob[:NPY_HEADER_BYTES].tobytes() != self._header:
            return None
        return blob[NPY_HEADER_BYTES:].reshape(self._shape)

    def _is_sound(self, data: bytes) -> bool:
        """Whether a JPEG is of the stored kind and size. The decoder would allocate any size that a header claims."""
        try:
            header = parse_header(data)
        except ValueError:
            return False
        if (
            header is None
            or header.frame not in PLAIN_FRAMES
            or header.precision != 8
            or header.components not in (1, 3)
        ):
            return False
        return (header.height, header.width, 3) == self._shape
