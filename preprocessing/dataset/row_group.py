"""One row group in memory: stored images by row, and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preprocessing.dataset import plain_pages
from preprocessing.dataset.schema import LENGTH_BYTES, Codec

# One image as it is stored: uint8 [bytes], a view that keeps the viewed memory alive.
Blob = NDArray[np.uint8]


class RowGroup:
    """The rows of one row group. `labels` is int32 [rows]."""

    __slots__ = ("_starts", "_values", "labels")

    def __init__(self, values: NDArray[np.uint8], starts: Sequence[int], labels: NDArray[np.int32]) -> None:
        self._values = values
        self._starts = starts
        self.labels = labels

    def blob(self, row: int) -> Blob:
        """The stored image of a row, without a copy."""
        return self._values[self._starts[row] : self._starts[row + 1] - LENGTH_BYTES]

    @property
    def values(self) -> NDArray[np.uint8]:
        """All images in PLAIN encoding, uint8 [bytes]."""
        return self._values


def from_chunks(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], rows: int, codec: Codec, size: int
) -> RowGroup | None:
    """The row group of two plain column chunks, headers included; None if they are not plain."""
    image_values, label_values = plain_pages.values(images, rows), plain_pages.values(labels, rows)
    if image_values is None or label_values is None or len(label_values) != 4 * rows:
        return None
    # The labels are copied: they need not be aligned, and keep nothing else alive.
    return from_values(image_values, np.frombuffer(label_values.tobytes(), "<i4"), codec, size)


def from_values(images: NDArray[np.uint8], labels: NDArray[np.int32], codec: Codec, size: int) -> RowGroup | None:
    """The row group of images in PLAIN encoding; None if there is not one image for each label."""
    starts = plain_pages.image_starts(images, len(labels), codec, size)
    return None if starts is None else RowGroup(images, starts, labels)


def to_bytes(group: RowGroup) -> list[memoryview]:
    """A row group as one file: the number of rows, the labels (both little-endian int32), the images."""
    head = np.concatenate([np.array([len(group.labels)], "<i4"), group.labels.astype("<i4")])
    return [memoryview(head.tobytes()), memoryview(group.values)]  # type: ignore[arg-type]


def from_bytes(data: NDArray[np.uint8], codec: Codec, size: int) -> RowGroup | None:
    """The row group that `to_bytes` wrote, as a view of `data`; None if `data` is something else."""
    if len(data) < 4:
        return None
    rows = int(data[:4].view("<i4")[0])
    if rows < 1 or len(data) < 4 + 4 * rows:
        return None
    start = 4 + 4 * rows
    return from_values(data[start:], data[4:start].view("<i4").copy(), codec, size)
