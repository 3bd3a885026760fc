"""Finds a row group's images and labels in its Parquet file, and the images in a page, if pages are plain."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocessing.dataset.schema import LENGTH_BYTES, Codec, stride

_PLAIN_FOOTER = {"PLAIN", "RLE", "BIT_PACKED"}  # the last two are for levels, which required columns do not have
_LONGEST_HEADER = 64  # bytes of a page header without statistics, with room to spare
_WIDEST_GAP = 4096  # bytes between two columns; pyarrow puts some metadata there


class Span(NamedTuple):
    """Bytes `start` up to `end` of a file."""

    start: int
    end: int


class ChunkLocation(NamedTuple):
    """Where in its file a row group's column chunks are, page headers included. `labels` comes soon after `images`."""

    rows: int
    images: Span
    labels: Span

    @property
    def both(self) -> Span:
        """Both columns: one read can fetch them."""
        return Span(self.images.start, self.labels.end)


def locate_chunks(metadata: Any, group: int) -> ChunkLocation | None:
    """Where row group `group` of a `pyarrow.parquet.FileMetaData` is; None if its pages are not plain."""
    row_group = metadata.row_group(group)
    spans = []
    for number, name in enumerate(("image", "label")):
        column = row_group.column(number)
        plain = (
            column.path_in_schema == name
            and column.compression == "UNCOMPRESSED"
            and not column.has_dictionary_page
            and set(column.encodings) <= _PLAIN_FOOTER
        )
        if not plain:
            return None
        start = column.data_page_offset
        spans.append(Span(start, start + column.total_compressed_size))
    images, labels = spans
    adjacent = 0 <= labels.start - images.end <= _WIDEST_GAP
    return ChunkLocation(row_group.num_rows, images, labels) if adjacent else None


def values(chunk: NDArray[np.uint8], rows: int) -> NDArray[np.uint8] | None:
    """The PLAIN values of a required column's chunk; None if it is not one data page of `rows` values."""
    header = _page_header(chunk[:_LONGEST_HEADER].tobytes())
    if header is None:
        return None
    kind, size, compressed, count, encoding = header
    start = len(chunk) - size
    one_plain_page = kind == 0 and encoding == 0 and size == compressed and count == rows
    # Only the header may come before the values; its length is not known without parsing all of it.
    return chunk[start:] if one_plain_page and 0 < start <= _LONGEST_HEADER else None


def image_starts(page: NDArray[np.uint8], rows: int, codec: Codec, size: int) -> Sequence[int] | None:
    """Where in a page's PLAIN values each stored image begins and, last, where one more would.

    None if the page does not hold `rows` images.
    """
    if codec == "tensor":
        step = stride(size)
        return range(LENGTH_BYTES, LENGTH_BYTES + (rows + 1) * step, step) if len(page) == rows * step else None
    starts, at = array("q"), 0
    buffer = memoryview(page)  # type: ignore[arg-type]
    for _ in range(rows):
        if at + LENGTH_BYTES > len(buffer):
            return None
        starts.append(at + LENGTH_BYTES)
        at += LENGTH_BYTES + int.from_bytes(buffer[at : at + LENGTH_BYTES], "little")
    starts.append(at + LENGTH_BYTES)
    return starts if at == len(buffer) else None


def to_plain(blobs: Sequence[bytes]) -> NDArray[np.uint8]:
    """The PLAIN values of `blobs`: each after its length."""
    parts = [part for blob in blobs for part in (len(blob).to_bytes(LENGTH_BYTES, "little"), blob)]
    return np.frombuffer(b"".join(parts), np.uint8)


def _page_header(data: bytes) -> tuple[int, int, int, int, int] | None:
    """Kind, sizes before and after compression, values and encoding of a page, from Thrift's compact protocol."""
    try:
        fields, at = {}, 0
        last = 0
        while True:
            step, kind = data[at] >> 4, data[at] & 15
            at, last = at + 1, last + step
            if kind == 5 and step:  # i32
                fields[last], at = _zigzag(data, at)
            elif kind == 12 and last == 5:  # the data page's own header: only its first two i32 fields matter
                if data[at] != 0x15:
                    return None
                count, at = _zigzag(data, at + 1)
                if data[at] != 0x15:
                    return None
                encoding, at = _zigzag(data, at + 1)
                return fields[1], fields[2], fields[3], count, encoding
            else:
                return None
    except (IndexError, KeyError):
        return None


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
