"""Rows of a split by index. Local tensors are copied out of memory-mapped files; anything else is read by row group."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.codecs import decode_stored
from preprocessing.errors import InputError
from preprocessing.manifest import FileInfo, Manifest
from preprocessing.schema import LENGTH_BYTES, SCHEMA, blob_bytes, image_bytes, npy_header, row_group_sizes, stride
from preprocessing.storage import Store

# Row groups kept where rows cannot be mapped: enough for the neighbours of a batch.
CACHED_ROW_GROUPS = 8


class Split:
    """The images and labels of one split, in file order. Safe to use from several processes, each with its own."""

    def __init__(self, store: Store, name: str, manifest: Manifest) -> None:
        info = manifest.splits[name]
        self.name = name
        self.count = info.count
        self._files = info.files
        self._store = store
        self._size = manifest.size
        self._codec = manifest.codec
        self._group_rows = manifest.row_group_rows
        ends = np.cumsum([file.rows for file in info.files], dtype=np.int64)
        self._starts = np.concatenate([np.zeros(1, np.int64), ends])
        self._mapped: dict[int, _MappedFile] = {}
        self._row_groups: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._labels: NDArray[np.int32] | None = None

    @property
    def labels(self) -> NDArray[np.int32]:
        """Labels of all rows, int32 [count]; read once."""
        if self._labels is None:
            parts = [self._read_labels(file) for file in self._files]
            labels = np.concatenate([np.zeros(0, np.int32), *parts])
            labels.setflags(write=False)
            self._labels = labels
        return self._labels

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Rows by index: images uint8 [n, size, size, 3] in a new array, labels int32 [n].

        `IndexError` for an index outside 0..count-1; `InputError` names a file that is missing or damaged.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.count):
            raise IndexError(f"rows of {self.name} are 0..{self.count - 1}, asked for {wanted.min()}..{wanted.max()}")
        images = np.empty((len(wanted), self._size, self._size, 3), np.uint8)
        places = np.searchsorted(self._starts, wanted, side="right") - 1
        rows = wanted - self._starts[places]
        if self._codec == "tensor" and self._store.local_path is not None:
            flat = images.reshape(len(wanted), image_bytes(self._size))
            for number in np.unique(places):
                chosen = np.flatnonzero(places == number)
                self._map(int(number)).copy(rows[chosen], flat, chosen)
        else:
            # Row group by row group, so that each is read once whatever the order of the indices.
            for position in np.lexsort((rows, places)):
                images[position] = self._read_row(int(places[position]), int(rows[position]))
        return images, self.labels[wanted]

    def _map(self, number: int) -> _MappedFile:
        if number not in self._mapped:
            self._mapped[number] = _MappedFile(self._store, self._files[number], self._size, self._group_rows)
        return self._mapped[number]

    def _read_row(self, number: int, row: int) -> NDArray[np.uint8]:
        group, offset = divmod(row, self._group_rows)
        key = (number, group)
        if key in self._row_groups:
            self._row_groups.move_to_end(key)
        else:
            table = self._read(self._files[number], "image", group)
            self._row_groups[key] = table.column("image").to_pylist()
            while len(self._row_groups) > CACHED_ROW_GROUPS:
                self._row_groups.popitem(last=False)
        blobs = self._row_groups[key]
        image = decode_stored(blobs[offset], self._codec, self._size) if offset < len(blobs) else None
        if image is None:
            raise _damaged(self._store, self._files[number], f"row {row} is no image of size {self._size}")
        return image

    def _read_labels(self, file: FileInfo) -> NDArray[np.int32]:
        return np.asarray(self._read(file, "label", None).column("label").to_numpy(), np.int32)

    def _read(self, file: FileInfo, column: str, group: int | None) -> pa.Table:
        try:
            with self._store.open_input(file.name) as source:
                parquet = pq.ParquetFile(source)
                _check(self._store, file, parquet.metadata, source.size(), self._group_rows)
                if group is None:
                    return parquet.read(columns=[column], use_threads=False)
                return parquet.read_row_group(group, columns=[column], use_threads=False)
        except FileNotFoundError as error:
            raise _damaged(self._store, file, "it is missing") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self._store, file, str(error).splitlines()[0]) from error


class _MappedFile:
    """One local file of tensors, memory-mapped; where each row lies is worked out from the footer and checked."""

    def __init__(self, store: Store, file: FileInfo, size: int, group_rows: int) -> None:
        self._store = store
        self._file = file
        self._size = size
        self._group_rows = group_rows
        folder = store.local_path
        assert folder is not None  # the caller's condition for mapping
        path = folder / file.name
        try:
            with path.open("rb") as source:
                self._map = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            metadata = pq.read_metadata(path)
        except FileNotFoundError as error:
            raise _damaged(store, file, "it is missing") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(store, file, str(error).splitlines()[0]) from error
        _check(store, file, metadata, len(self._map), group_rows)
        self._group_starts = self._find_row_groups(metadata)

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._map, np.uint8)

    @cached_property
    def _expected(self) -> NDArray[np.uint8]:
        head = blob_bytes(self._size).to_bytes(LENGTH_BYTES, "little") + npy_header(self._size)
        return np.frombuffer(head, np.uint8)

    def copy(self, rows: NDArray[np.int64], out: NDArray[np.uint8], positions: NDArray[np.int64]) -> None:
        """Copies the pixels of `rows` of this file to `positions` of `out`, uint8 [n, size * size * 3]."""
        groups, offsets = np.divmod(rows, self._group_rows)
        starts = self._group_starts[groups] + offsets * stride(self._size)
        data, head, end = self._bytes, len(self._expected), stride(self._size)
        for position, start in zip(positions.tolist(), starts.tolist(), strict=True):
            # The head is in the page that the copy needs anyway, so that checking it costs next to nothing.
            if not np.array_equal(data[start : start + head], self._expected):
                raise _damaged(self._store, self._file, f"no image of size {self._size} at byte {start}")
            out[position] = data[start + head : start + end]

    def _find_row_groups(self, metadata: pq.FileMetaData) -> NDArray[np.int64]:
        starts = np.empty(metadata.num_row_groups, np.int64)
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            column = metadata.row_group(group).column(0)
            data = rows * stride(self._size)
            start = column.data_page_offset + column.total_compressed_size - data
            # One uncompressed page is a short header and then the values: anything else leaves another gap.
            plain = (
                column.path_in_schema == "image"
                and column.compression == "UNCOMPRESSED"
                and not column.has_dictionary_page
                and column.data_page_offset < start < column.data_page_offset + 64
                and start + data <= len(self._map)
            )
            if not plain:
                raise _damaged(self._store, self._file, f"row group {group} is not laid out as tensors are")
            starts[group] = start
        return starts


def _check(store: Store, file: FileInfo, metadata: pq.FileMetaData, size: int, group_rows: int) -> None:
    if size != file.bytes:
        raise _damaged(store, file, f"it has {size:,} bytes, the manifest says {file.bytes:,}")
    groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if groups != row_group_sizes(file.rows, group_rows):
        raise _damaged(store, file, f"its row groups are not {file.rows:,} rows by {group_rows}")
    if not metadata.schema.to_arrow_schema().equals(SCHEMA):
        raise _damaged(store, file, "its columns are not image, label and id")


def _damaged(store: Store, file: FileInfo, how: str) -> InputError:
    remedy = "copy the file again, or make the dataset again with jobs/preprocess.py --overwrite"
    return InputError(f"{store.uri}/{file.name} is damaged: {how}; {remedy}")
