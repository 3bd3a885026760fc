"""JPEGs of kinds that no usual encoder writes: lossless, arithmetic, 12-bit, hierarchical, with a DNL marker."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.preprocessing.raw_images import jpeg

# A ramp of 24 x 16 pixels, with arithmetic coding: gray, by libjpeg-turbo's `cjpeg -arithmetic -grayscale`.
ARITHMETIC = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01yid4h#wq4h;?x5fBp?C>j_R78o%jB^@X_Gd(;xGdMRuNL)@pL{~*OI8bd-S6^ahXlFi6ad~iLcwA*?"
    "WB<tj3kU!Z02l!Q5di<p00saM5C#9*00;pA002J#{{SWm;&544jMj3kc`YD^I81F||Je"
)


def lossless(pixels: NDArray[Any], precision: int = 8, frame: int = 3) -> bytes:
    """A lossless JPEG of integers [height, width, components], each predicted from its left or, first, upper neighbour.

    Three components are R, G, B and not converted. `frame` 11 says arithmetic coding, which this is not.
    """
    height, width, components = pixels.shape
    ids = b"RGB" if components == 3 else bytes(range(1, components + 1))
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    described = b"".join(bytes([name, 0x11, 0]) for name in ids)
    categories = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])  # codes of five bits for the lengths 0 to 16
    values = pixels.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[0, 0] = 1 << (precision - 1)
    predicted[0, 1:], predicted[1:, 0], predicted[1:, 1:] = values[0, :-1], values[:-1, 0], values[1:, :-1]
    bits = []
    for difference in (values - predicted).ravel().tolist():
        length = abs(difference).bit_length()
        bits.append(f"{length:05b}")
        if length:
            bits.append(f"{difference if difference > 0 else difference + (1 << length) - 1:0{length}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xEE, b"Adobe\0d\0\0\0\0\0"),
            _segment(0xC0 + frame, bytes([precision]) + size + bytes([components]) + described),
            _segment(0xC4, categories),
            _segment(0xDA, bytes([components]) + b"".join(bytes([name, 0]) for name in ids) + b"\x01\0\0"),
            scan,
            b"\xff\xd9",
        ]
    )


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def with_frame(
    data: bytes, *, marker: int = 0xC0, precision: int = 8, components: int = 3, size: bytes | None = None
) -> bytes:
    """A baseline JPEG that says otherwise in its frame header."""
    found = bytearray(data)
    start = found.index(b"\xff\xc0")
    found[start + 1], found[start + 4], found[start + 9] = marker, precision, components
    if size is not None:
        found[start + 5 : start + 9] = size
    return bytes(found)


def with_dnl(data: bytes) -> bytes:
    """The JPEG with its height after the pixels."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + b"\0\0" + data[start + 2 : -2] + b"\xff\xdc\0\4" + data[start : start + 2] + data[-2:]


PLAIN = jpeg(64, 80)
_RAMP = np.arange(64 * 80 * 4).reshape(64, 80, 4) % 251
LOSSLESS = {
    "lossless RGB": lossless(_RAMP[:, :, :3]),
    "lossless gray": lossless(_RAMP[:, :, :1]),
}
# With what is said of them.
UNSUPPORTED = {
    "12-bit": (
        with_frame(PLAIN, marker=0xC1, precision=12),
        "a 12-bit JPEG (frame SOF1); 8 bits a sample are supported",
    ),
    "12-bit lossless": (lossless(_RAMP[:, :, :1], 12), "a 12-bit JPEG (frame SOF3); 8 bits a sample are supported"),
    "16-bit lossless": (lossless(_RAMP[:, :, :1], 16), "a 16-bit JPEG (frame SOF3); 8 bits a sample are supported"),
    "DNL": (with_dnl(PLAIN), "a JPEG whose height comes after its pixels (marker DNL)"),
    "hierarchical": (with_frame(PLAIN, marker=0xC5), "a hierarchical JPEG (frame SOF5)"),
    "hierarchical progressive": (with_frame(PLAIN, marker=0xCE), "a hierarchical JPEG (frame SOF14)"),
    "lossless arithmetic": (
        lossless(_RAMP[:, :, :3], frame=11),
        "a lossless JPEG with arithmetic coding (frame SOF11)",
    ),
    "JPEG-LS": (with_frame(PLAIN, marker=0xF7), "JPEG-LS (frame SOF55)"),
    "reserved": (with_frame(PLAIN, marker=0xC8), "a JPEG of a reserved kind (marker JPG)"),
    "two components": (lossless(_RAMP[:, :, :2]), "a JPEG with 2 components; 1, 3 and 4 are supported"),
}
