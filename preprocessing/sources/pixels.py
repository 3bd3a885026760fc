"""Images that a source has as raw pixels, as files that the decoder reads back exactly."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The files live for as long as the job: speed counts more than size.
_COMPRESSION = 1


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of gray [height, width] or RGB [height, width, 3]."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=_COMPRESSION)
    return sink.getvalue()


def png_estimate(height: int, width: int, channels: int) -> int:
    """About how many bytes such a PNG has."""
    return 100 + height * width * channels * 3 // 4
