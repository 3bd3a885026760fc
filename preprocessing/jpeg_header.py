"""What a JPEG says of itself before its pixels: enough to choose a decoder, or to refuse."""

from __future__ import annotations

from typing import NamedTuple

_STANDALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # TEM, RST0..7, SOI: markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset([0xC2, 0xC6, 0xCA, 0xCE])
_ORIENTATION = 0x0112


class JpegHeader(NamedTuple):
    """Pixels, components (1, 3 or 4), bits per sample, kind of coding, and EXIF orientation (1..8; 1 is upright)."""

    width: int
    height: int
    components: int
    precision: int
    progressive: bool
    orientation: int


def parse_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG, or None where the data end, or make no sense, before its frame is described."""
    position, orientation, end = 2, 1, len(data)
    while position + 4 <= end:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2 or marker in (0xD9, 0xDA, 0x00):
            return None
        body = data[position + 4 : position + 2 + length]
        if marker in _FRAMES:
            if len(body) < 6:
                return None
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            if not height or not width:
                return None
            return JpegHeader(width, height, body[5], body[0], marker in _PROGRESSIVE, orientation)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = exif_orientation(body[6:])
        position += 2 + length
    return None


def exif_orientation(tiff: bytes) -> int:
    """The orientation, 1..8, that an EXIF block (from its TIFF header on) asks for; 1 where it says nothing sound."""
    order = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    little = order == "little"

    def number(start: int, length: int) -> int:
        return int.from_bytes(tiff[start : start + length], "little" if little else "big")

    directory = number(4, 4)
    for entry in range(min(number(directory, 2), 1000)):
        start = directory + 2 + 12 * entry
        if start + 12 > len(tiff):
            break
        if number(start, 2) == _ORIENTATION:
            value = number(start + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
