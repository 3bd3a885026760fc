"""Every kind of image people have, at the right place and in the right colours; every bad one with its reason."""

from __future__ import annotations

import io
import math
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from preprocessing.common.jpeg_header import parse_header
from preprocessing.images import decode as images
from preprocessing.images.decode import Rejected, centre_square, decode, scale_divisor
from tests.preprocessing.raw_images import jpeg, photo


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def reference(data: bytes, size: int) -> NDArray[np.uint8]:
    """Pillow's full decode and antialiased bilinear resize of the same square."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    divisor = scale_divisor(min(image.size), size) if data[:2] == b"\xff\xd8" else 1
    left, top, side = (value * divisor for value in centre_square(*image.size, divisor))
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return 10 * math.log10(255**2 / max(float(np.mean((one.astype(float) - other) ** 2)), 1e-3))


# No resizing at all; enlarging; every width of the blur; every scale of the JPEG decoder; area averaging.
SHAPES = [(64, 64), (64, 90), (50, 40), (75, 100), (100, 75), (127, 127)]
SCALED = [(128, 200), (200, 129), (260, 300), (530, 600), (1200, 1100)]


@pytest.mark.parametrize(("height", "width"), SHAPES + SCALED)
def test_resizing_is_much_like_pillows(height: int, width: int) -> None:
    data = jpeg(height, width, seed=height)
    assert psnr(decode(data, 64), reference(data, 64)) > (36 if (height, width) in SHAPES else 31)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (64, 80), (133, 70)])
def test_resizing_of_png_is_much_like_pillows(height: int, width: int) -> None:
    data = save(Image.fromarray(photo(height, width)), "PNG")
    assert psnr(decode(data, 64), reference(data, 64)) > 36


def test_the_square_is_central_to_the_pixel() -> None:
    for width, height in ((10, 7), (7, 10), (8, 8), (640, 427), (427, 640)):
        left, top, side = centre_square(width, height, 1)
        assert side == min(width, height)
        assert abs(2 * left + side - width) <= 1
        assert abs(2 * top + side - height) <= 1


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_a_scaled_square_is_inside_and_nearly_as_large(divisor: int) -> None:
    for width in range(300, 330):
        for height in (300, 317, 420):
            left, top, side = (value * divisor for value in centre_square(width, height, divisor))
            assert min(left, top) >= 0
            assert left + side <= width
            assert top + side <= height
            assert min(width, height) - side < divisor
            assert abs(2 * left + side - width) <= 2 * divisor


def test_the_divisor_leaves_enough_pixels() -> None:
    shorts = (10, 64, 127, 128, 255, 256, 511, 512, 9999)
    assert [scale_divisor(short, 64) for short in shorts] == [
        1,
        1,
        1,
        2,
        2,
        4,
        4,
        8,
        8,
    ]


QUADRANTS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))  # red, green / blue, yellow


def quadrants() -> Image.Image:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20], image[:20, 20:], image[20:, :20], image[20:, 20:] = QUADRANTS
    return Image.fromarray(image)


def colours(image: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The pure colour nearest to the middle of each quadrant."""
    middles = (image[2, 2], image[2, -3], image[-3, 2], image[-3, -3])
    return [tuple(255 * (pixel > 127).astype(int)) for pixel in middles]


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"subsampling": 0}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"keep_rgb": True}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
    ],
)
def test_every_format_keeps_its_colours(kind: str, mode: str, options: dict[str, Any]) -> None:
    data = save(quadrants().convert(mode), kind, **options)
    assert colours(decode(data, 10)) == list(QUADRANTS)


def test_gray_becomes_rgb() -> None:
    gray = photo(70, 50)[:, :, 1]
    for data in (save(Image.fromarray(gray), "JPEG"), save(Image.fromarray(gray), "PNG")):
        image = decode(data, 50)
        assert np.array_equal(image[:, :, 0], image[:, :, 1])
        assert np.abs(image[:, :, 2].astype(int) - gray[10:60]).mean() < 5


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.repeat(np.linspace(0, 65535, 32).astype(np.uint16)[None], 32, axis=0)
    image = decode(save(Image.fromarray(ramp), "PNG"), 32)
    assert np.array_equal(image[5, :, 0], ramp[5] >> 8)
    assert np.array_equal(decode(png16(ramp), 32)[5, :, 2], ramp[5] >> 8)


def png16(gray: NDArray[np.uint16]) -> bytes:
    """A 16-bit RGB PNG, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    height, width = gray.shape
    rows = np.repeat(gray[:, :, None], 3, axis=2).astype(">u2").reshape(height, -1).view(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["II", "MM"])
def test_every_orientation_is_turned_upright(orientation: int, kind: str, order: str) -> None:
    # What a camera does that is held so: the inverse of what Pillow does to turn the picture upright.
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = quadrants()
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif.endian = "<" if order == "II" else ">"
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    data = save(stored, kind, exif=exif.tobytes())
    assert colours(decode(data, 10)) == list(QUADRANTS)


def test_an_orientation_that_makes_no_sense_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert colours(decode(save(quadrants(), "JPEG", exif=exif.tobytes()), 10)) == list(QUADRANTS)
    header = parse_header(b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + jpeg(20, 30)[2:])
    assert header is not None
    assert (header.width, header.height, header.orientation) == (30, 20, 1)


WHOLE = jpeg(200, 220)


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", "empty", "no bytes"),
        (b"<!DOCTYPE html><html>Not found", "not an image", "begins with b'<!DOCTYPE html>"),
        (b"%PDF-1.4 ...", "not an image", "begins with"),
        (WHOLE[:2], "truncated", "hold no frame"),
        (WHOLE[:150], "truncated", "hold no frame"),
        (WHOLE[: len(WHOLE) // 2], "truncated", "remature end"),
        (WHOLE[:-2], "truncated", "remature end"),
        (save(quadrants(), "PNG")[:-40], "truncated", "PNG: "),
        (save(quadrants(), "GIF")[:200], "truncated", "GIF: "),
    ],
)
def test_bad_images_and_their_reasons(data: bytes, reason: str, detail: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode(data, 32)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_a_damaged_middle_is_corrupt() -> None:
    data = bytearray(WHOLE)
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff\xd0" * 20  # restart markers where none are due
    with pytest.raises(Rejected) as caught:
        decode(bytes(data), 32)
    assert caught.value.reason == "corrupt"


def test_what_libjpeg_complains_of_without_harm() -> None:
    expected = decode(WHOLE, 32)
    scan = WHOLE.index(b"\xff\xda")
    other_scan = bytearray(WHOLE)
    other_scan[scan + 11 : scan + 14] = b"\0\0\0"  # its parameters, which mean nothing in a baseline image
    other_version = bytearray(WHOLE)
    other_version[11] = 7
    for data in (other_scan, other_version):
        assert np.array_equal(decode(bytes(data), 32), expected)
        with pytest.raises(Rejected, match="truncated"):
            decode(bytes(data[:-400]), 32)


def test_bytes_after_the_image_and_before_a_marker_do_no_harm() -> None:
    expected = decode(WHOLE, 32)
    assert np.array_equal(decode(WHOLE + b"trailing", 32), expected)
    assert np.array_equal(decode(WHOLE[:-2] + b"\0" * 7 + WHOLE[-2:], 32), expected)


def test_bombs_are_refused_before_they_are_decoded() -> None:
    bomb = bytearray(WHOLE)
    frame = bomb.index(b"\xff\xc0")
    bomb[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    png = bytearray(save(quadrants(), "PNG"))
    png[16:24] = (100_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    for data, pixels in ((bytes(bomb), "65535 x 65535"), (bytes(png), "10000000000 pixels")):
        with pytest.raises(Rejected) as caught:
            decode(data, 32)
        assert caught.value.reason == "too large"
        assert pixels in caught.value.detail


def test_decoding_into_memory_that_is_there() -> None:
    page = np.zeros((3, 77 + 32 * 32 * 3), np.uint8)
    out = page[1, 77:].reshape(32, 32, 3)
    for data in (WHOLE, jpeg(32, 32), jpeg(300, 290), jpeg(20, 30)):
        assert decode(data, 32, out) is out
        assert np.array_equal(out, decode(data, 32))
    assert not page[0].any()
    assert not page[2].any()


@pytest.mark.parametrize("side", [90, 100, 110, 120, 127, 200])
def test_fine_patterns_do_not_alias(side: int) -> None:
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    data = save(Image.fromarray(stripes), "PNG")
    assert decode(data, 64).std() < reference(data, 64).std() + 20


def test_pinned_pixels() -> None:
    """The same pixels on every processor. Where a change of ours makes others, DECODER_VERSION has to be raised."""
    found = []
    for height, width in ((64, 70), (90, 100), (300, 280), (40, 50)):
        y, x = np.mgrid[0:height, 0:width]
        channels = [(x * a + y * b + x * y // 97) % 256 for a, b in ((1, 2), (2, 1), (1, 1))]
        image = np.stack(channels, axis=2).astype(np.uint8)
        found.append(zlib.crc32(decode(bytes(simplejpeg.encode_jpeg(image, quality=90)), 64)))
    assert (images.DECODER_VERSION, found) == (1, [3255589451, 3839452618, 3072570825, 1487488711])
    assert not cv2.ipp.useIPP()  # which would give others on Intel's
