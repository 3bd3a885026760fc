"""Turns a raw image into uint8 RGB [size, size, 3], or says why not. docs/data-format.md describes the geometry."""

from __future__ import annotations

import io
import re
import warnings
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from preprocessing.common.jpeg_header import JpegHeader, parse_header, unsupported

# Intel's primitives give other pixels on other processors, and here they are not even faster.
cv2.ipp.setUseIPP(False)

# Raise it whenever a change makes the same file give other pixels: it is part of every job fingerprint.
DECODER_VERSION = 1
# Larger images are refused as decompression bombs. ImageNet's largest, a plain JPEG, has 61 million pixels. An image
# that is held whole while it is decoded may have half as many, so that no image takes a task beyond 600 MB.
MAX_PIXELS = 1 << 26
MAX_PIXELS_HELD = 1 << 25
MAX_BYTES = 64 << 20
# A progressive JPEG can ask for any number of passes over its pixels; real ones have about ten.
MAX_SCANS = 100
_OTHER_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
# The first bytes of image formats that are not decoded here.
_NOT_DECODED = (
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL"),
    (re.compile(rb"....ftyp(avif|avis)", re.DOTALL), "AVIF"),
    (re.compile(rb"....ftyp(hei|mif1)", re.DOTALL), "HEIC"),
    (re.compile(rb"8BPS"), "Photoshop"),
)
# What libjpeg reports about files whose pixels are complete. Every viewer shows them, and Pillow decodes them.
_HARMLESS = ("extraneous bytes before marker", "Invalid SOS parameters", "unknown JFIF revision", "Unknown Adobe color")
# What libjpeg does not support, by its message. Pillow would decode the first, but would not notice damaged data.
_UNSUPPORTED = {
    "Could not determine subsampling": "a JPEG of unusual subsampling",
    "Unsupported color conversion": "a lossless JPEG that is neither RGB nor gray",
}

EMPTY, TRUNCATED, CORRUPT, NOT_AN_IMAGE, TOO_LARGE = "empty", "truncated", "corrupt", "not an image", "too large"
UNSUPPORTED = "unsupported"
# From a decoder process.
CRASH, TIMEOUT = "decoder crash", "decoder timeout"


class Rejected(Exception):  # noqa: N818 - a verdict on the image, not a failure of the program
    """An image that cannot be used. `reason` is one of a few, to be counted; `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = " ".join(detail.split())[:200]


def decode(data: bytes, size: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The centre square of a raw image, antialiased to uint8 RGB [size, size, 3] and turned upright; in `out` if given.

    Decodes JPEG of any colour space, PNG, GIF (its first frame), BMP and WebP, whatever the file is called. Raises
    `Rejected`, and MemoryError if this process has too little memory.
    """
    pixels, width, height, divisor, orientation = _open(data, size)
    image = np.empty((size, size, 3), np.uint8) if out is None else out
    left, top, side = centre_square(width, height, divisor)
    fit(pixels[top : top + side, left : left + side], image)
    if orientation != 1:
        image[:] = turn_upright(image, orientation)
    return image


def scale_divisor(short: int, size: int) -> int:
    """How much a JPEG is scaled down while it is decoded: the largest of 1, 2, 4, 8 that leaves `size` pixels."""
    return next(divisor for divisor in (8, 4, 2, 1) if divisor == 1 or short >= size * divisor)


def centre_square(width: int, height: int, divisor: int) -> tuple[int, int, int]:
    """Left, top and side of the square that is kept, in pixels of an image scaled by 1 / `divisor` from this size.

    All three are whole pixels of the scaled image, so that cutting it out takes no interpolation.
    """
    side = min(width, height) // divisor
    return (width - side * divisor) // 2 // divisor, (height - side * divisor) // 2 // divisor, side


def fit(square: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resizes uint8 [side, side, 3] into [size, size, 3] much as Pillow's antialiased bilinear filter does."""
    size = out.shape[0]
    factor = square.shape[0] / size
    if factor > 2:
        cv2.resize(square, (size, size), dst=out, interpolation=cv2.INTER_AREA)
        return
    if factor > 1:
        # The triangle filter of width `factor` is nearly a blur by this weight and then a linear interpolation, at a
        # third of the time of INTER_AREA. The weight is fitted to real photographs; at factor 2 it is the theory's 1/4.
        weight = (0.187 - 0.052 * factor) * (factor * factor - 1)
        kernel = np.array([weight, 1 - 2 * weight, weight], np.float32)
        square = np.asarray(cv2.sepFilter2D(square, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE), np.uint8)
    cv2.resize(square, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)


def turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes the flips and turns that EXIF `orientation` (1..8) records, of an image [size, size, 3]."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


class _Opened(NamedTuple):
    """A decoded image, scaled by 1 / `divisor` from `width` x `height`, not yet cropped or turned."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    divisor: int
    orientation: int


def _open(data: bytes, size: int) -> _Opened:
    if not data:
        raise Rejected(EMPTY, "the file has no bytes")
    if data[:2] != b"\xff\xd8":
        return _open_other(data, 1)
    header = _check_header(data)
    # libjpeg writes beyond its memory if asked to scale a lossless image.
    divisor = 1 if header.lossless else scale_divisor(min(header.width, header.height), size)
    held = header.progressive or divisor == 1
    _check_pixels(header.width, header.height, MAX_PIXELS_HELD if held else MAX_PIXELS)
    if header.progressive and data.count(b"\xff\xda") > MAX_SCANS:
        raise Rejected(TOO_LARGE, f"a progressive JPEG of more than {MAX_SCANS} scans")
    if header.components == 4:
        return _open_other(data, divisor)
    try:
        pixels = _decode_jpeg(data, header, divisor)
    except ValueError as error:
        if any(words in str(error) for words in _HARMLESS):
            return _open_other(data, divisor)
        raise _explain(str(error)) from error
    return _Opened(pixels, header.width, header.height, divisor, header.orientation)


def _decode_jpeg(data: bytes, header: JpegHeader, divisor: int) -> NDArray[np.uint8]:
    """With libjpeg-turbo; raises ValueError with libjpeg's message."""
    rows, columns = (-(-header.height // divisor), -(-header.width // divisor)) if divisor > 1 else (0, 0)
    gray = header.lossless and header.components == 1  # lossless pixels are not converted
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        colorspace="GRAY" if gray else "RGB",
        min_height=rows,
        min_width=columns,
        min_factor=float(divisor),
    )
    return np.repeat(pixels, 3, axis=2) if gray else pixels


def _explain(complaint: str) -> Exception:
    """What libjpeg's message means."""
    if "Insufficient memory" in complaint:
        return MemoryError(complaint)
    for words, meaning in _UNSUPPORTED.items():
        if words in complaint:
            return Rejected(UNSUPPORTED, meaning)
    return Rejected(TRUNCATED if "remature end of JPEG file" in complaint else CORRUPT, complaint)


def _check_header(data: bytes) -> JpegHeader:
    """The header of a JPEG that is safe to decode; raises `Rejected` for any other."""
    try:
        header = parse_header(data)
    except ValueError as error:
        raise Rejected(CORRUPT, f"a JPEG with {error}") from error
    if header is None:
        raise Rejected(TRUNCATED, f"the JPEG's {len(data):,} bytes hold no frame")
    what = unsupported(header, data)
    if what is not None:
        raise Rejected(UNSUPPORTED, what)
    if not (header.width and header.height and header.components and header.precision == 8):
        size = f"{header.width} x {header.height} pixels"
        raise Rejected(CORRUPT, f"a JPEG of {size}, {header.components} components, {header.precision} bits")
    return header


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise Rejected(TOO_LARGE, f"{width} x {height} pixels, more than {most:,} in all")


def _open_other(data: bytes, divisor: int) -> _Opened:
    """Decodes with Pillow. `divisor` is for a JPEG; other formats are not scaled while they are decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata, and about bombs that the limits let through
        try:
            image = Image.open(io.BytesIO(data), formats=_OTHER_FORMATS)
        except Image.DecompressionBombError as error:
            raise Rejected(TOO_LARGE, str(error)) from error
        except MemoryError:  # says nothing about the image
            raise
        except Exception as error:
            raise _not_opened(data) from error
        width, height = image.size
        _check_pixels(width, height, MAX_PIXELS if divisor > 1 else MAX_PIXELS_HELD)
        try:
            if divisor > 1:
                image.draft(None, (width // divisor, height // divisor))
            orientation = int(image.getexif().get(0x0112, 1))
            pixels = _to_rgb(image)
            if pixels.shape[:2] != (-(-height // divisor), -(-width // divisor)):
                raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels but the header says {width} x {height}")
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise anything
            truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
            raise Rejected(TRUNCATED if truncated else CORRUPT, f"{image.format}: {error}") from error
    return _Opened(pixels, width, height, divisor, orientation)


def _not_opened(data: bytes) -> Rejected:
    """Why Pillow does not know this format."""
    for start, name in _NOT_DECODED:
        if start.match(data):
            return Rejected(UNSUPPORTED, f"{name}, which is not decoded; JPEG, PNG, GIF, BMP and WebP are")
    return Rejected(NOT_AN_IMAGE, f"begins with {data[:16]!r}")


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits: `convert` would clip them at 255
        gray = np.clip(np.asarray(image), 0, 65535) >> 8
        return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"), np.uint8)
