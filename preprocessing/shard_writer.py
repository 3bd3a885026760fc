"""Writing one Parquet file of a dataset, row group by row group, in memory that does not grow with the file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.codecs import encode_jpeg
from preprocessing.schema import NPY_HEADER_BYTES, SCHEMA, Codec, blob_bytes, hash_row_group, npy_header


class ShardWriter:
    """Writes rows to a local file and sums them up.

    After the `with` block: `rows`, `row_groups`, `hash` (sha256 hex over the rows), `class_counts` (label to images),
    `pixel_sum` and `pixel_square_sum` (exact, int64 [3], over the pixels as decoded, before any re-encoding).
    """

    def __init__(self, path: Path, size: int, codec: Codec, quality: int, row_group_rows: int) -> None:
        self._size = size
        self._quality = quality
        self._capacity = row_group_rows
        self._labels: list[int] = []
        self._ids: list[str] = []
        self._jpegs: list[bytes] = []
        self._tensors: NDArray[np.uint8] | None = None
        if codec == "tensor":
            self._tensors = np.empty((row_group_rows, blob_bytes(size)), np.uint8)
            self._tensors[:, :NPY_HEADER_BYTES] = np.frombuffer(npy_header(size), np.uint8)
        self._digest = hashlib.sha256()
        self.rows = 0
        self.row_groups = 0
        self.class_counts: dict[int, int] = {}
        self.pixel_sum = np.zeros(3, np.int64)
        self.pixel_square_sum = np.zeros(3, np.int64)
        # Readers map the pixels where they lie: no compression, no dictionary, and one page, however large. Statistics
        # would be the smallest and largest image, twice over in every footer.
        self._writer = pq.ParquetWriter(
            path,
            SCHEMA,
            version="2.6",
            compression="NONE",
            use_dictionary=False,
            write_statistics=False,
            data_page_size=1 << 30,
            write_batch_size=row_group_rows,
            store_schema=False,
        )

    @property
    def hash(self) -> str:
        """sha256 (hex) over the rows that were flushed."""
        return self._digest.hexdigest()

    def add(self, image: NDArray[np.uint8], label: int, name: str) -> None:
        """Adds a row; `image` is uint8 [size, size, 3] and is copied."""
        pixels = self._size * self._size
        mean, std = cv2.meanStdDev(image)
        # Both come from exact integer sums, so that rounding gives those sums back.
        mean, std = mean[:, 0], std[:, 0]
        self.pixel_sum += np.rint(mean * pixels).astype(np.int64)
        self.pixel_square_sum += np.rint((std * std + mean * mean) * pixels).astype(np.int64)
        if self._tensors is None:
            self._jpegs.append(encode_jpeg(image, self._quality))
        else:
            self._tensors[len(self._ids), NPY_HEADER_BYTES:] = image.reshape(-1)
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
        if kind is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        count = len(self._ids)
        if not count:
            return
        if self._tensors is None:
            blobs = np.frombuffer(b"".join(self._jpegs), np.uint8)
            lengths = np.array([len(jpeg) for jpeg in self._jpegs], np.uint32)
        else:
            blobs = self._tensors[:count].reshape(-1)
            lengths = np.full(count, self._tensors.shape[1], np.uint32)
        offsets = np.zeros(count + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        images = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(blobs)])
        labels = np.array(self._labels, np.int32)
        table = pa.Table.from_arrays([images, pa.array(labels), pa.array(self._ids, pa.string())], schema=SCHEMA)
        self._writer.write_table(table, row_group_size=self._capacity)
        hash_row_group(self._digest, lengths, blobs, labels, self._ids)
        self.rows += count
        self.row_groups += 1
        self._jpegs, self._labels, self._ids = [], [], []
