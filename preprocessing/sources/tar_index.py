"""Finds the members of a tar archive, and reads only its headers.

Python's tarfile takes a damaged header for the end of the archive, silently: images would be lost. Here any
departure from the format, from the first header to the two empty blocks at the end, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

BLOCK = 512
_EMPTY = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7")
_LONG_NAME, _PAX, _PAX_GLOBAL, _LONG_LINK = b"L", b"x", b"g", b"K"
_LINKS = (b"1", b"2")
_DEVICES = (b"3", b"4", b"6")
_FOLDER = b"5"
_IGNORED = (_PAX_GLOBAL, _LONG_LINK)
_EXTENSIONS = (_LONG_NAME, _PAX, *_IGNORED)
_NO_DATA = (*_LINKS, *_DEVICES, _FOLDER)
# Names and attributes are short. A longer one is damaged, and would fill the memory.
_MAX_EXTENSION = 1 << 20
# An archive is padded to whole records, usually of 10 KiB. An appended archive begins after them.
_MAX_FILLING = 1 << 16


class Member(NamedTuple):
    """A file in an archive: bytes [offset, offset + size). A link or a device has a `kind`, and no bytes."""

    name: str
    offset: int
    size: int
    kind: Literal["", "link", "device"] = ""


class TarError(Exception):
    """What is wrong with an archive, and where."""


class ReadAt(Protocol):
    """Random access to the bytes of an archive."""

    def __call__(self, offset: int, length: int, /) -> bytes:
        """`length` bytes from `offset`, or fewer at the end."""


class _Archive(NamedTuple):
    """An archive at [start, end) of what `read_at` reads."""

    read_at: ReadAt
    start: int
    end: int

    def read(self, position: int, length: int) -> bytes:
        """All of [position, position + length). Raises `TarError` if the archive ends earlier."""
        block = self.read_at(position, length) if position + length <= self.end else b""
        if len(block) != length:
            raise TarError("it ends without the empty blocks that close an archive: it is cut short")
        return block


class _Header(NamedTuple):
    """A member's header: its kind, name and size, the byte of the archive where it begins, the position of its data."""

    kind: bytes
    name: str
    size: int
    where: int
    data: int


class _Extension(NamedTuple):
    """What extension headers say about the next member; None if its own header holds."""

    name: str | None = None
    size: int | None = None


def members(read_at: ReadAt, start: int, length: int) -> Iterator[Member]:
    """The files, links and devices of the archive in [start, start + length), with offsets for `read_at`.

    Raises `TarError` if the archive is damaged or ends early. Reads each block of the archive at most once.
    """
    archive = _Archive(read_at, start, start + length)
    position, extension = start, _Extension()
    while (header := _header(archive, position)) is not None:
        if extension.size is not None and header.kind in _REGULAR:
            header = header._replace(size=extension.size)
        position = _following(archive, header)
        if header.kind in _EXTENSIONS:
            extension = _extended(archive, extension, header)
        else:
            member = _member(header, extension)
            if member is not None:
                yield member
            extension = _Extension()


def _header(archive: _Archive, position: int) -> _Header | None:
    """The header at a position, checked; None at the end of the archive."""
    block = archive.read(position, BLOCK)
    if block == _EMPTY:
        _check_end(archive, position)
        return None
    where = position - archive.start
    _check_sum(block, where)
    return _Header(block[156:157], _name(block), _number(block[124:136], where), where, position + BLOCK)


def _following(archive: _Archive, header: _Header) -> int:
    """Where the next header begins. Raises `TarError` if the archive ends before that."""
    blocks = 0 if header.kind in _NO_DATA else -(-header.size // BLOCK)
    position = header.data + blocks * BLOCK
    if position > archive.end:
        ends, lasts = archive.end - archive.start, position - archive.start
        raise TarError(f"it ends at byte {ends:,}, within a member that lasts to {lasts:,}")
    return position


def _extended(archive: _Archive, extension: _Extension, header: _Header) -> _Extension:
    """`extension` with what an extension header adds to it."""
    if header.kind in _IGNORED:
        return extension
    if header.size > _MAX_EXTENSION:
        raise TarError(f"an extended header of {header.size:,} bytes, which is too long")
    data = archive.read(header.data, header.size)
    if header.kind == _LONG_NAME:
        return extension._replace(name=_text(data.split(b"\0")[0]))
    attributes = _pax(data, header.where)
    size = _decimal(attributes["size"], header.where) if "size" in attributes else extension.size
    return _Extension(attributes.get("path", extension.name), size)


def _member(header: _Header, extension: _Extension) -> Member | None:
    """A file, link or device; None for a folder. Raises `TarError` for an unknown kind."""
    if header.kind in _REGULAR:
        name = header.name if extension.name is None else extension.name
        return None if name.endswith("/") else Member(name, header.data, header.size)  # a folder in old archives
    if header.kind not in _NO_DATA:
        raise TarError(f"an unknown kind of member ({header.kind!r}) at byte {header.where:,}")
    if header.kind == _FOLDER:
        return None
    return Member(extension.name or header.name, header.data, 0, "link" if header.kind in _LINKS else "device")


def _check_end(archive: _Archive, position: int) -> None:
    """Raises `TarError` unless the empty block at `position` ends the archive.

    A second one has to follow, and no other archive: tar itself stops at the end of the first.
    """
    if archive.read(position + BLOCK, BLOCK) != _EMPTY:
        raise TarError(f"a single empty block at byte {position - archive.start:,}, with more data after it")
    position += 2 * BLOCK
    filling = archive.read_at(position, max(0, min(_MAX_FILLING, archive.end - position)))
    for place in range(0, len(filling) - BLOCK + 1, BLOCK):
        block = filling[place : place + BLOCK]
        if block != _EMPTY:
            if _is_header(block):
                raise TarError(f"another archive was appended at byte {position + place - archive.start:,}")
            return  # padding from the writer's memory


def _check_sum(header: bytes, where: int) -> None:
    said = header[148:156]
    total = sum(header) - sum(said) + 8 * ord(" ")
    if _number(said, where) != total:
        raise TarError(f"a damaged header at byte {where:,}")


def _is_header(block: bytes) -> bool:
    """Whether the checksum is right."""
    try:
        _check_sum(block, 0)
    except TarError:
        return False
    return True


def _number(field: bytes, where: int) -> int:
    if field[0] == 0x80:  # GNU's form for 8 GiB and more
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    if not all(ord("0") <= digit <= ord("7") for digit in text):
        raise TarError(f"a damaged header at byte {where:,}")
    return int(text, 8) if text else 0


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()


def _pax(data: bytes, where: int) -> dict[str, str]:
    """The attributes of an extended header: records of `<length> <name>=<value>` and a newline."""
    found = {}
    position, end = 0, len(data.rstrip(b"\0"))
    while position < end:  # `data` is not cut: copies of the rest would take hours for a megabyte of short records
        space = data.find(b" ", position)
        length = _decimal(_text(data[position:space]), where) if space >= 0 else 0
        record = data[position : position + length]
        if length <= space - position + 1 or len(record) != length or not record.endswith(b"\n"):
            raise TarError(f"a damaged extended header at byte {where:,}")
        name, _, value = record[space - position + 1 : -1].partition(b"=")
        found[_text(name)] = _text(value)
        position += length
    return found


def _decimal(text: str, where: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise TarError(f"a damaged extended header at byte {where:,}")
    return int(text)
