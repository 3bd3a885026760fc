"""Writes one Parquet file of a dataset, row group by row group, in memory that does not grow with the file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from preprocessing.dataset.codecs import encode_jpeg
from preprocessing.dataset.parquet_writer import Page, ParquetWriter
from preprocessing.dataset.schema import (
    COLUMNS,
    LENGTH_BYTES,
    NPY_HEADER_BYTES,
    Codec,
    blob_bytes,
    npy_header,
    stride,
)

_PIXELS_AT = LENGTH_BYTES + NPY_HEADER_BYTES


class ShardWriter:
    """Writes rows to a local file and sums them up.

    An image is decoded into `next_image()`, uint8 [size, size, 3], and then `add`ed. After the `with` block: `rows`,
    `row_groups`, `class_counts` (label to images), `pixel_sum` and `pixel_square_sum` (exact, by channel, over the
    pixels as decoded, before any re-encoding).
    """

    def __init__(self, path: Path, size: int, codec: Codec, quality: int, row_group_rows: int) -> None:
        self._size = size
        self._codec = codec
        self._quality = quality
        self._capacity = row_group_rows
        self._labels: list[int] = []
        self._ids: list[str] = []
        self._jpegs: list[bytes] = []
        # The page as it goes into the file. Its memory is reused for every row group.
        self._page = np.empty((row_group_rows if codec == "tensor" else 1, stride(size)), np.uint8)
        head = blob_bytes(size).to_bytes(LENGTH_BYTES, "little") + npy_header(size)
        self._page[:, :_PIXELS_AT] = np.frombuffer(head, np.uint8)
        self._planes = [np.empty((size, size), np.uint8) for _ in range(3)]
        self._checksum = 0
        self._digest = hashlib.sha256()
        self.rows = 0
        self.row_groups = 0
        self.class_counts: dict[int, int] = {}
        self.pixel_sum = [0, 0, 0]
        self.pixel_square_sum = [0, 0, 0]
        self._file = path.open("wb", buffering=0)
        self._parquet = ParquetWriter(self._file, COLUMNS)

    @property
    def file_hash(self) -> str:
        """sha256 (hex) of the rows; docs/data-format.md defines it."""
        return self._digest.hexdigest()

    def next_image(self) -> NDArray[np.uint8]:
        """The array for the pixels of the next row, uint8 [size, size, 3]."""
        row = self._page[len(self._ids) if self._codec == "tensor" else 0]
        pixels: NDArray[np.uint8] = row[_PIXELS_AT:].reshape(self._size, self._size, 3)
        return pixels

    def add(self, label: int, name: str) -> None:
        """Adds the row whose pixels are in `next_image()`."""
        image = self.next_image()
        self._sum_up(image)
        if self._codec == "jpeg":
            self._jpegs.append(encode_jpeg(image, self._quality))
        else:  # now, while the row is in the processor's cache
            self._checksum = isal_zlib.crc32(self._page[len(self._ids)], self._checksum)
        self._labels.append(label)
        self._ids.append(name)
        self.class_counts[label] = self.class_counts.get(label, 0) + 1
        if len(self._ids) == self._capacity:
            self._flush()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._flush()
                self._parquet.close()

    def _sum_up(self, image: NDArray[np.uint8]) -> None:
        pixels = self._size * self._size
        # OpenCV is three times as fast on three planes as on three channels. Its results come from exact integer sums,
        # so that rounding gives those sums back.
        cv2.split(image, self._planes)
        for channel, plane in enumerate(self._planes):
            means, stds = cv2.meanStdDev(plane)
            mean, std = means.item(), stds.item()
            self.pixel_sum[channel] += round(mean * pixels)
            self.pixel_square_sum[channel] += round((std * std + mean * mean) * pixels)

    def _flush(self) -> None:
        count = len(self._ids)
        if not count:
            return
        if self._codec == "jpeg":
            images = Page.of(_plain(self._jpegs))
        else:
            rows: Any = self._page[:count].reshape(-1)
            images = Page(memoryview(rows), self._checksum)
        labels = Page.of(np.array(self._labels, "<i4").tobytes())
        ids = Page.of(_plain([name.encode() for name in self._ids]))
        self._parquet.write_row_group(count, [images, labels, ids])
        # Hashing the pixels themselves would take longer than writing them.
        self._digest.update(images.checksum.to_bytes(4, "little") + bytes(labels.values) + bytes(ids.values))
        self.rows += count
        self.row_groups += 1
        self._jpegs, self._labels, self._ids, self._checksum = [], [], [], 0


def _plain(values: list[bytes]) -> bytes:
    """Parquet's PLAIN encoding of binary values: each after its length."""
    return b"".join(len(value).to_bytes(LENGTH_BYTES, "little") + value for value in values)
