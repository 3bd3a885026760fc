"""Small images of every format, and damages that are drawn from a seed."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.preprocessing.raw_images import photo


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    image = Image.fromarray(photo(45, 60)).convert(mode)
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = 6
    return found


IMAGES = [
    encoded("JPEG", quality=80),
    encoded("JPEG", progressive=True),
    encoded("JPEG", "L"),
    encoded("JPEG", "CMYK"),
    encoded("JPEG", restart_marker_blocks=2, exif=exif()),
    encoded("JPEG", subsampling=0, optimize=True, icc_profile=b"x" * 300),
    encoded("PNG"),
    encoded("PNG", "I;16"),
    encoded("GIF", "P"),
    encoded("BMP"),
    encoded("WEBP"),
]


# A mutation is drawn as a few integers, so that a failing one shrinks to something small.
MUTATIONS: list[Callable[[bytearray, random.Random], None]] = []


def mutation(function: Callable[[bytearray, random.Random], None]) -> Callable[[bytearray, random.Random], None]:
    MUTATIONS.append(function)
    return function


@mutation
def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


@mutation
def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


@mutation
def spoil_header(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 2, 4])):
        if data:
            data[chance.randrange(min(len(data), 700))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])


@mutation
def remove(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice([1, 2, 10, 500])]


@mutation
def insert(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice([b"\0", b"\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xd8", chance.randbytes(40)])


@mutation
def repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = data[start : start + chance.choice([4, 60, 1000])] * chance.choice([1, 3, 30])


@mutation
def overwrite(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    size = chance.choice([2, 16, 400])
    data[start : start + size] = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])


@mutation
def enlarge(data: bytearray, chance: random.Random) -> None:
    """Gives a JPEG's frame other dimensions, up to a decompression bomb."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = data.find(marker)
        if place >= 0:
            side = chance.choice([0, 1, 7, 4000, 65535])
            start = place + 5 + 2 * chance.randrange(2)
            data[start : start + 2] = side.to_bytes(2, "big")


@mutation
def change_marker(data: bytearray, chance: random.Random) -> None:
    """Makes a JPEG's marker another one: another kind of frame, a table for a comment, an end in the middle."""
    markers = [place for place in range(min(len(data), 2000) - 1) if data[place] == 0xFF and data[place + 1] >= 0xC0]
    if markers:
        data[chance.choice(markers) + 1] = chance.choice([*range(0xC0, 0xE2), 0xEE, 0xF7, 0xFE])


@mutation
def change_frame(data: bytearray, chance: random.Random) -> None:
    """Gives a JPEG's frame another precision, number of components, sampling or table."""
    for place in range(min(len(data), 2000) - 20):
        if data[place] == 0xFF and data[place + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA):
            data[place + chance.choice([4, 9, 10, 11, 12, 13, 14, 15, 17])] = chance.choice(
                [0, 1, 2, 3, 4, 8, 12, 16, 0x11, 0x12, 0x21, 0x22, 0x31, 0x41, 0x44, 0xFF]
            )
            return


def splice(one: bytes, other: bytes, chance: random.Random) -> bytes:
    """The beginning of an image and the end of another."""
    return one[: chance.randrange(len(one) + 1)] + other[chance.randrange(len(other) + 1) :]


def mutate(data: bytes, seed: int, times: int) -> bytes:
    chance = random.Random(seed)
    found = bytearray(data)
    for _ in range(times):
        chance.choice(MUTATIONS)(found, chance)
    return bytes(found)
