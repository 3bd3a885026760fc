"""Writes Parquet files without a library, for three plain required columns and nothing else.

A library's writer copies the pixels three times on their way into the file, which costs a fifth of the time of decoding
them, and puts its own version into every file. Here pages are written from where they were decoded. The file
follows https://github.com/apache/parquet-format: one uncompressed PLAIN data page per column and row group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from isal import isal_zlib

MAGIC = b"PAR1"
CREATED_BY = "lottery-trellis version 1"

# Of Thrift's compact protocol.
_I16, _I32, _I64, _BINARY, _LIST, _STRUCT = 4, 5, 6, 8, 9, 12
# Of parquet.thrift.
_INT32, _BYTE_ARRAY = 1, 6
_PLAIN, _RLE = 0, 3
_REQUIRED, _UTF8, _DATA_PAGE, _UNCOMPRESSED = 0, 0, 0, 0


class Sink(Protocol):
    """What a file is written to."""

    def write(self, data: memoryview, /) -> int:
        """Writes some or all of `data`; how many bytes."""


class Column(NamedTuple):
    """A required column: `kind` is "int32", "binary" or "string"."""

    name: str
    kind: str


class Page(NamedTuple):
    """The values of a column in PLAIN encoding, and the CRC-32 of these bytes."""

    values: memoryview
    checksum: int

    @classmethod
    def of(cls, values: bytes) -> Page:
        """The page of these bytes."""
        return cls(memoryview(values), isal_zlib.crc32(values))


class _Chunk(NamedTuple):
    offset: int
    bytes: int
    rows: int


class _Struct:
    """A Thrift struct in the compact protocol, built field by field in rising order of field ids."""

    def __init__(self) -> None:
        self._parts = bytearray()
        self._last = 0

    def integer(self, field: int, value: int, kind: int = _I32) -> _Struct:
        self._head(field, kind)
        self._parts += _zigzag(value)
        return self

    def binary(self, field: int, value: bytes) -> _Struct:
        self._head(field, _BINARY)
        self._parts += _varint(len(value)) + value
        return self

    def text(self, field: int, value: str) -> _Struct:
        return self.binary(field, value.encode())

    def struct(self, field: int, value: _Struct) -> _Struct:
        self._head(field, _STRUCT)
        self._parts += value.done()
        return self

    def many(self, field: int, kind: int, items: Sequence[bytes]) -> _Struct:
        self._head(field, _LIST)
        short = len(items) < 15
        self._parts.append((len(items) if short else 15) << 4 | kind)
        if not short:
            self._parts += _varint(len(items))
        for item in items:
            self._parts += item
        return self

    def done(self) -> bytes:
        return bytes(self._parts) + b"\0"

    def _head(self, field: int, kind: int) -> None:
        step, self._last = field - self._last, field
        assert 0 < step < 16  # a larger step has another form, which none of these structs needs
        self._parts.append(step << 4 | kind)


class ParquetWriter:
    """Writes row groups to `sink` and, in `close`, the footer. Before that it is no Parquet file.

    `metadata` are the footer's key-value pairs.
    """

    def __init__(self, sink: Sink, columns: Sequence[Column], metadata: Mapping[str, bytes] | None = None) -> None:
        self._sink = sink
        self._columns = columns
        self._metadata = metadata or {}
        self._groups: list[tuple[int, list[_Chunk]]] = []
        self._position = 0
        self._write(memoryview(MAGIC))

    def write_row_group(self, rows: int, pages: Sequence[Page]) -> None:
        """Writes `rows` rows, a page for each column."""
        chunks = []
        for page in pages:
            start = self._position
            self._write(_page_header(rows, page.values.nbytes, page.checksum))
            self._write(page.values)
            chunks.append(_Chunk(start, self._position - start, rows))
        self._groups.append((rows, chunks))

    def close(self) -> None:
        """Writes the footer; the sink stays open."""
        footer = self._footer()
        self._write(memoryview(footer + len(footer).to_bytes(4, "little") + MAGIC))

    def _write(self, data: memoryview) -> None:
        rest = data
        while rest.nbytes:
            rest = rest[self._sink.write(rest) :]  # an unbuffered file may take less than it is given
        self._position += data.nbytes

    def _footer(self) -> bytes:
        root = _Struct().text(4, "schema").integer(5, len(self._columns)).done()
        footer = (
            _Struct()
            .integer(1, 1)
            .many(2, _STRUCT, [root, *(_schema_element(column) for column in self._columns)])
            .integer(3, sum(rows for rows, _ in self._groups), _I64)
            .many(4, _STRUCT, [self._row_group(number) for number in range(len(self._groups))])
        )
        if self._metadata:
            footer.many(5, _STRUCT, [_key_value(key, value) for key, value in self._metadata.items()])
        return footer.text(6, CREATED_BY).done()

    def _row_group(self, number: int) -> bytes:
        rows, chunks = self._groups[number]
        columns = [_column_chunk(column, chunk) for column, chunk in zip(self._columns, chunks, strict=True)]
        size = sum(chunk.bytes for chunk in chunks)
        group = _Struct().many(1, _STRUCT, columns).integer(2, size, _I64).integer(3, rows, _I64)
        return group.integer(5, chunks[0].offset, _I64).integer(6, size, _I64).integer(7, number, _I16).done()


def _page_header(rows: int, size: int, checksum: int) -> memoryview:
    data = _Struct().integer(1, rows).integer(2, _PLAIN).integer(3, _RLE).integer(4, _RLE)
    signed = checksum - (1 << 32) if checksum >> 31 else checksum  # Thrift has no unsigned integers
    header = _Struct().integer(1, _DATA_PAGE).integer(2, size).integer(3, size).integer(4, signed).struct(5, data)
    return memoryview(header.done())


def _schema_element(column: Column) -> bytes:
    kind = _INT32 if column.kind == "int32" else _BYTE_ARRAY
    element = _Struct().integer(1, kind).integer(3, _REQUIRED).text(4, column.name)
    if column.kind == "string":
        logical = _Struct().struct(1, _Struct())
        element.integer(6, _UTF8).struct(10, logical)
    return element.done()


def _key_value(key: str, value: bytes) -> bytes:
    return _Struct().text(1, key).binary(2, value).done()


def _column_chunk(column: Column, chunk: _Chunk) -> bytes:
    metadata = (
        _Struct()
        .integer(1, _INT32 if column.kind == "int32" else _BYTE_ARRAY)
        .many(2, _I32, [_zigzag(_PLAIN), _zigzag(_RLE)])
        .many(3, _BINARY, [_binary(column.name)])
        .integer(4, _UNCOMPRESSED)
        .integer(5, chunk.rows, _I64)
        .integer(6, chunk.bytes, _I64)
        .integer(7, chunk.bytes, _I64)
        .integer(9, chunk.offset, _I64)
    )
    return _Struct().integer(2, chunk.offset, _I64).struct(3, metadata).done()


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _binary(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data
