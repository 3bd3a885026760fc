"""Row groups read through a filesystem: by one ranged read if pages are plain, else by Parquet's own reader."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.common.buffers import Buffers
from preprocessing.common.retries import retrying
from preprocessing.common.storage import Store
from preprocessing.dataset.checks import check_footer, check_size, damaged, failed
from preprocessing.dataset.manifest import FileInfo, Manifest
from preprocessing.dataset.plain_pages import ChunkLocation, locate_chunks, to_plain
from preprocessing.dataset.row_group import RowGroup, from_chunks, from_values

# To open a remote file again costs a request or several; to keep a local file open costs a descriptor.
_OPEN_FILES = 128


class RowGroupReader:
    """Reads row groups of a dataset's files. Safe to use from several threads."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._open: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        # Remote files have no descriptor here. Local ones take a small part of the limit: there are other splits.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limited = store.is_local and limit != resource.RLIM_INFINITY
        self._most_open = min(_OPEN_FILES, limit // 16) if limited else _OPEN_FILES
        self._lock = threading.Lock()
        self._buffers = Buffers()

    def fetch(self, file: FileInfo, group: int) -> RowGroup:
        """Row group `group` of a file.

        Raises `InputError` if the file is missing or damaged, `StorageError` if storage fails.
        """

        def read() -> RowGroup:
            try:
                return self._read(file, group)
            except Exception:
                with self._lock:
                    self._open.pop(file.name, None)  # a broken connection stays broken
                raise

        try:
            # A local disk that fails once fails again, and what cannot be parsed there is not the network's fault.
            return read() if self._store.is_local else retrying(read)
        except (pa.ArrowException, OSError) as error:
            raise failed(self._store, file, error) from error

    def _read(self, file: FileInfo, group: int) -> RowGroup:
        source, metadata = self._source(file)
        location = locate_chunks(metadata, group)
        found = None
        if location is not None:
            found = self._read_plain(file, source, location)
        if found is None:
            found = self._read_any(source, metadata, group)
        if found is None:
            raise damaged(self._store, file, f"row group {group} holds no images of size {self._manifest.size}")
        return found

    def _read_plain(self, file: FileInfo, source: Any, location: ChunkLocation) -> RowGroup | None:
        start, end = location.both
        if not self._store.is_local:
            data = np.frombuffer(source.read_at(end - start, start), np.uint8)
        else:
            # Arrow takes new memory for each read, which costs as much as the read itself. The handle is this thread's
            # own, since this read moves its position; on a local disk that costs nothing.
            data = self._buffers.take((end - start,))
            with self._store.open_input(file.name) as own:
                own.seek(start)
                data = data[: own.readinto(data)]
        if len(data) != end - start:
            raise OSError(f"only {len(data):,} of {end - start:,} bytes could be read")
        images, labels = data[: location.images.end - start], data[location.labels.start - start :]
        return from_chunks(images, labels, location.rows, self._manifest.codec, self._manifest.size)

    def _read_any(self, source: Any, metadata: Any, group: int) -> RowGroup | None:
        parquet = pq.ParquetFile(source, metadata=metadata)
        table = parquet.read_row_group(group, columns=["image", "label"], use_threads=False)
        labels: NDArray[np.int32] = table.column("label").to_numpy().astype(np.int32)
        images = to_plain(table.column("image").to_pylist())
        return from_values(images, labels, self._manifest.codec, self._manifest.size)

    def _source(self, file: FileInfo) -> tuple[Any, Any]:
        """The opened file, from which any thread can read any bytes, and its footer."""
        with self._lock:
            if file.name in self._open:
                self._open.move_to_end(file.name)
                return self._open[file.name]
        source = self._store.open_input(file.name)
        check_size(self._store, file, source.size())
        metadata = pq.ParquetFile(source).metadata
        check_footer(self._store, file, metadata, self._manifest.row_group_rows)
        with self._lock:
            self._open[file.name] = source, metadata
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)  # closed when no thread uses it any more
        return source, metadata
