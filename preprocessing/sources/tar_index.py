"""Where the members of a tar archive lie, read from its headers alone.

Python's tarfile takes a damaged header for the end of the archive, silently: images would be lost. Here everything that
is not exactly an archive, from the first header to the two empty blocks at the end, is an error.
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


def members(read_at: ReadAt, start: int, length: int) -> Iterator[Member]:
    """The files, links and devices of the archive in [start, start + length), with offsets for `read_at`.

    Raises `TarError` if the archive is damaged or ends early. Reads each block of the archive at most once.
    """
    end = start + length
    position = start
    long_name: str | None = None
    long_size: int | None = None
    while True:
        header = _read(read_at, position, BLOCK, end)
        if header == _EMPTY:
            if _read(read_at, position + BLOCK, BLOCK, end) != _EMPTY:
                raise TarError(f"an empty block at byte {position - start:,} and more after it")
            _check_end(read_at, position + 2 * BLOCK, start, end)
            return
        _check_sum(header, position - start)
        kind = header[156:157]
        size = _number(header[124:136], position - start)
        data = position + BLOCK
        if kind in _REGULAR and long_size is not None:
            size = long_size
        follows = data + -(-size // BLOCK) * BLOCK if kind not in _NO_DATA else data
        if follows > end:
            raise TarError(f"it ends at byte {length:,}, within a member that lasts to {follows - start:,}")
        if kind == _LONG_NAME:
            long_name = _text(_extension(read_at, data, size, end).split(b"\0")[0])
        elif kind == _PAX:
            attributes = _pax(_extension(read_at, data, size, end), position - start)
            long_name = attributes.get("path", long_name)
            if "size" in attributes:
                long_size = _decimal(attributes["size"], position - start)
        elif kind in (_PAX_GLOBAL, _LONG_LINK):
            pass
        elif kind in _REGULAR:
            name = long_name if long_name is not None else _name(header)
            if not name.endswith("/"):  # how old archives mark folders
                yield Member(name, data, size)
            long_name = long_size = None
        elif kind in _NO_DATA:
            if kind != _FOLDER:
                yield Member(long_name or _name(header), data, 0, "link" if kind in _LINKS else "device")
            long_name = long_size = None
        else:
            raise TarError(f"an unknown kind of member ({kind!r}) at byte {position - start:,}")
        position = follows


def _read(read_at: ReadAt, position: int, length: int, end: int) -> bytes:
    block = read_at(position, length) if position + length <= end else b""
    if len(block) != length:
        raise TarError("it ends without the empty blocks that close an archive: it is cut short")
    return block


def _check_end(read_at: ReadAt, position: int, start: int, end: int) -> None:
    """Raises `TarError` if another archive was appended: tar itself stops at the first one's end."""
    filling = read_at(position, max(0, min(_MAX_FILLING, end - position)))
    for place in range(0, len(filling) - BLOCK + 1, BLOCK):
        block = filling[place : place + BLOCK]
        if block != _EMPTY:
            try:
                _check_sum(block, 0)
            except TarError:
                return  # padding from the writer's memory
            raise TarError(f"another archive was appended at byte {position + place - start:,}")


def _check_sum(header: bytes, where: int) -> None:
    said = header[148:156]
    total = sum(header) - sum(said) + 8 * ord(" ")
    if _number(said, where) != total:
        raise TarError(f"a damaged header at byte {where:,}")


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


def _extension(read_at: ReadAt, data: int, size: int, end: int) -> bytes:
    if size > _MAX_EXTENSION:
        raise TarError(f"a name of {size:,} bytes")
    return _read(read_at, data, size, end)


def _pax(data: bytes, where: int) -> dict[str, str]:
    """The attributes of an extended header: records of `<length> <name>=<value>` and a newline."""
    found = {}
    rest = data
    while rest.strip(b"\0"):
        digits, space, _ = rest.partition(b" ")
        length = _decimal(_text(digits), where)
        record = rest[:length]
        if not space or length <= len(digits) + 1 or len(record) != length or not record.endswith(b"\n"):
            raise TarError(f"a damaged extended header at byte {where:,}")
        name, _, value = record[len(digits) + 1 : -1].partition(b"=")
        found[_text(name)] = _text(value)
        rest = rest[length:]
    return found


def _decimal(text: str, where: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise TarError(f"a damaged extended header at byte {where:,}")
    return int(text)
