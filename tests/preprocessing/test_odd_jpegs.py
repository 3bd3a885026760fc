"""Untrusted bytes reach no decoder that is not safe for them, and what is refused is called by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.dataset.codecs import StoredImages, encode_jpeg
from preprocessing.images.decode import Rejected, decode
from tests.preprocessing.odd_jpegs import ARITHMETIC, LOSSLESS, PLAIN, UNSUPPORTED, lossless, with_frame
from tests.preprocessing.raw_images import photo

DECODE = """
import sys, zlib
from preprocessing.images.decode import decode
print(zlib.crc32(decode(sys.stdin.buffer.read(), 8)))
"""


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_scaled_lossless_image_leaves_its_decoders_memory_whole(name: str) -> None:
    # In a process of its own: what the fault spoils is the heap.
    done = subprocess.run([sys.executable, "-c", DECODE], input=LOSSLESS[name], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()


def test_lossless_pixels_are_exact() -> None:
    pixels = photo(32, 32)
    assert np.array_equal(decode(lossless(pixels), 32), pixels)
    gray = decode(lossless(pixels[:, :, :1]), 32)
    assert np.array_equal(gray, np.repeat(pixels[:, :, :1], 3, axis=2))


def test_a_damaged_lossless_image_is_rejected() -> None:
    data = lossless(photo(64, 64))
    with pytest.raises(Rejected):
        decode(data[:2000] + data[2300:], 64)


def test_arithmetic_coding_is_decoded() -> None:
    row = decode(ARITHMETIC, 8)[4, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert row[-1] - row[0] > 20


def test_unusual_subsampling_is_called_so() -> None:
    data = bytearray(PLAIN)
    data[data.index(b"\xff\xc0") + 11] = 0x31
    with pytest.raises(Rejected) as caught:
        decode(bytes(data), 8)
    assert (caught.value.reason, caught.value.detail) == ("unsupported", "a JPEG of unusual subsampling")


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_jpeg_that_no_decoder_takes_is_called_by_its_name(name: str) -> None:
    data, what = UNSUPPORTED[name]
    with pytest.raises(Rejected) as caught:
        decode(data, 32)
    assert (caught.value.reason, caught.value.detail) == ("unsupported", what)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
    ],
)
def test_an_image_of_another_format_is_called_unsupported(start: bytes, name: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode(start + bytes(100), 8)
    assert (caught.value.reason, caught.value.detail) == (
        "unsupported",
        f"{name}, which is not decoded; JPEG, PNG, GIF, BMP and WebP are",
    )


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (with_frame(PLAIN, size=b"\0\0\0\x50"), "a JPEG of 80 x 0 pixels"),
        (with_frame(PLAIN, size=b"\0\x40\0\0"), "a JPEG of 0 x 64 pixels"),
        (with_frame(PLAIN, precision=77), "77 bits"),
        (with_frame(PLAIN, components=0), "0 components"),
        (PLAIN[:2] + b"??" + PLAIN[2:], "no marker at byte 2"),
        (PLAIN[:2] + PLAIN[PLAIN.index(b"\xff\xda") :], "marker DA at byte 2, before any frame"),
    ],
)
def test_a_frame_that_makes_no_sense_is_corrupt(data: bytes, detail: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode(data, 32)
    assert caught.value.reason == "corrupt"
    assert detail in caught.value.detail


def test_a_stored_jpeg_reaches_the_decoder_only_if_it_is_what_was_stored() -> None:
    stored = StoredImages("jpeg", 64)
    whole = encode_jpeg(photo(64, 64), 95)
    assert stored.decode(np.frombuffer(whole, np.uint8)) is not None
    huge = with_frame(whole, size=b"\xff\xff\xff\xff")  # 12 GB of pixels
    others = [
        PLAIN,
        huge,
        lossless(photo(64, 64)),
        b"",
        whole[:10],
        b"\xff\xd8??",
        *(data for data, _ in UNSUPPORTED.values()),
    ]
    for data in others:
        assert stored.decode(np.frombuffer(data, np.uint8)) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "CMYK"])
def test_lack_of_memory_is_not_the_images_fault(kind: str, tmp_path: Path) -> None:
    image = Image.new("CMYK" if kind == "CMYK" else "RGB", (1500, 1500))
    image.save(tmp_path / "image", "PNG" if kind == "PNG" else "JPEG")
    code = """
import resource, sys
from preprocessing.images.decode import Rejected, decode
data = open(sys.argv[1], "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), used + (1 << 20)))
try:
    decode(data, 1400)
except MemoryError:
    sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "image")], capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
