"""The header of a JPEG: enough to choose a decoder, or to refuse the image."""

from __future__ import annotations

from typing import NamedTuple

_STANDALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # TEM, RST0..7, SOI: markers without a length
# Sequential and progressive frames, of Huffman and of arithmetic coding: what every decoder takes.
PLAIN_FRAMES = frozenset([0xC0, 0xC1, 0xC2, 0xC9, 0xCA])
_JPEG_LS = 0xF7
_FRAMES = frozenset([*range(0xC0, 0xD0), _JPEG_LS]) - {0xC4, 0xCC}
_LOSSLESS = 0xC3
_LOSSLESS_ARITHMETIC = 0xCB
_HIERARCHICAL = frozenset([0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF])
_PROGRESSIVE = frozenset([0xC2, 0xCA])
_DNL = b"\xff\xdc\x00\x04"
_ORIENTATION = 0x0112


class JpegHeader(NamedTuple):
    """Pixels, components, bits per sample, the frame's marker (0xC0 for SOF0), and EXIF orientation (1 is upright)."""

    width: int
    height: int
    components: int
    precision: int
    frame: int
    orientation: int

    @property
    def progressive(self) -> bool:
        """Whether the pixels come in several passes, so that a decoder has to hold them all."""
        return self.frame in _PROGRESSIVE

    @property
    def lossless(self) -> bool:
        """Whether the pixels are coded as differences: nothing in them can be scaled while it is decoded."""
        return self.frame == _LOSSLESS


def parse_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG, or None if the data end before its frame is described.

    Raises ValueError if they make no sense before that. A frame may have 0 pixels.
    """
    position, orientation, end = 2, 1, len(data)
    while position + 4 <= end:
        if data[position] != 0xFF:
            raise ValueError(f"no marker at byte {position:,}, where one is due")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2 or marker in (0xD9, 0xDA, 0x00):
            raise ValueError(f"marker {marker:02X} at byte {position:,}, before any frame")
        body = data[position + 4 : position + 2 + length]
        if marker in _FRAMES:
            if len(body) < 6:
                return None
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return JpegHeader(width, height, body[5], body[0], marker, orientation)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = exif_orientation(body[6:])
        position += 2 + length
    return None


def unsupported(header: JpegHeader, data: bytes) -> str | None:
    """What a sound JPEG has that no decoder here accepts; None if there is nothing."""
    if header.frame == _JPEG_LS:
        return "JPEG-LS (frame SOF55)"
    kind = f"frame SOF{header.frame - 0xC0}"
    if header.frame in _HIERARCHICAL:
        return f"a hierarchical JPEG ({kind})"
    if header.frame == _LOSSLESS_ARITHMETIC:
        return f"a lossless JPEG with arithmetic coding ({kind})"
    if header.frame == 0xC8:
        return "a JPEG of a reserved kind (marker JPG)"
    if header.precision != 8 and 2 <= header.precision <= 16:
        return f"a {header.precision}-bit JPEG ({kind}); 8 bits a sample are supported"
    if header.components not in (0, 1, 3, 4):
        return f"a JPEG with {header.components} components; 1, 3 and 4 are supported"
    if not header.height and _DNL in data:
        return "a JPEG whose height comes after its pixels (marker DNL)"
    return None


def exif_orientation(tiff: bytes) -> int:
    """The orientation, 1..8, that an EXIF block (from its TIFF header on) asks for; 1 if it has no valid one."""
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
