"""Row groups through a filesystem: one ranged read each where pages are plain, Parquet's own reader where not."""

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
from preprocessing.dataset.pages import Place, locate, to_plain
from preprocessing.dataset.row_group import RowGroup, from_chunks, from_values

# A far file costs a request, or several, to open again; a near one a descriptor to keep open.
_OPEN_FILES = 128


class RowGroupStore:
    """Fetches row groups of a split's files. Safe to use from several threads."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._open: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        # Far files have no descriptor here. Near ones take a small part of what may be open: there are other splits.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        near = store.local_path is not None and limit != resource.RLIM_INFINITY
        self._most_open = min(_OPEN_FILES, limit // 16) if near else _OPEN_FILES
        self._lock = threading.Lock()
        self._buffers = Buffers()

    def fetch(self, file: FileInfo, group: int) -> RowGroup:
        """Row group `group` of a file; `InputError` if that is missing or damaged, `StorageError` if out of reach."""

        def read() -> RowGroup:
            try:
                return self._read(file, group)
            except Exception:
                with self._lock:
                    self._open.pop(file.name, None)  # a broken connection stays broken
                raise

        try:
            # A local disk that fails once fails again, and what cannot be parsed there is not the network's fault.
            return retrying(read) if self._store.local_path is None else read()
        except (pa.ArrowException, OSError) as error:
            raise failed(self._store, file, error) from error

    def _read(self, file: FileInfo, group: int) -> RowGroup:
        source, metadata = self._source(file)
        place = locate(metadata, group)
        found = None
        if place is not None:
            found = self._read_plain(file, source, place)
        if found is None:
            found = self._read_any(source, metadata, group)
        if found is None:
            raise damaged(self._store, file, f"row group {group} holds no images of size {self._manifest.size}")
        return found

    def _read_plain(self, file: FileInfo, source: Any, place: Place) -> RowGroup | None:
        start, end = place.whole
        if self._store.local_path is None:
            data = np.frombuffer(source.read_at(end - start, start), np.uint8)
        else:
            # New memory costs as much as the reading, and Arrow takes new memory for each read. A handle of its own,
            # since this read moves the position; it costs nothing here.
            data = self._buffers.take((end - start,))
            with self._store.open_input(file.name) as own:
                own.seek(start)
                data = data[: own.readinto(data)]
        if len(data) != end - start:
            raise OSError(f"{len(data):,} bytes came of {end - start:,}")
        images, labels = data[: place.images.end - start], data[place.labels.start - start :]
        return from_chunks(images, labels, place.rows, self._manifest.codec, self._manifest.size)

    def _read_any(self, source: Any, metadata: Any, group: int) -> RowGroup | None:
        parquet = pq.ParquetFile(source, metadata=metadata)
        table = parquet.read_row_group(group, columns=["image", "label"], use_threads=False)
        labels: NDArray[np.int32] = table.column("label").to_numpy().astype(np.int32)
        images = to_plain(table.column("image").to_pylist())
        return from_values(images, labels, self._manifest.codec, self._manifest.size)

    def _source(self, file: FileInfo) -> tuple[Any, Any]:
        """The opened file, which can be read at any place by any thread, and its footer."""
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
                self._open.popitem(last=False)  # closed when the last thread lets go of it
        return source, metadata
