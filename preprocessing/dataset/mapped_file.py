"""A local Parquet file, memory-mapped: row groups whose pages are plain are used without a copy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.common.storage import Store
from preprocessing.dataset.checks import check_footer, check_size, failed
from preprocessing.dataset.manifest import FileInfo, Manifest
from preprocessing.dataset.mapping import map_file, release
from preprocessing.dataset.plain_pages import Span, locate_chunks
from preprocessing.dataset.row_group import RowGroup, from_chunks


class MappedFile:
    """Maps a file of a dataset.

    Raises `InputError` if the file is not as the manifest says, `StorageError` if it cannot be read.
    """

    def __init__(self, store: Store, file: FileInfo, manifest: Manifest) -> None:
        self._store, self._file, self._manifest = store, file, manifest
        folder = store.local_path
        assert folder is not None  # the caller's condition for mapping
        self._path = folder / file.name
        try:
            with self._path.open("rb") as opened:
                status = os.fstat(opened.fileno())
                check_size(store, file, status.st_size)
                self._metadata: Any = pq.read_metadata(opened)
                self._bytes = _mapped(opened.fileno(), status.st_size)
        except (pa.ArrowException, OSError) as error:
            raise failed(store, file, error) from error
        self._identity = status.st_dev, status.st_ino
        check_footer(store, file, self._metadata, manifest.row_group_rows)

    def check(self) -> None:
        """Raises `InputError` if the file has become shorter: reading mapped memory beyond its end is a SIGBUS."""
        try:
            status = self._path.stat()
        except OSError:
            return  # deleted, perhaps; its mapped bytes can still be read
        if (status.st_dev, status.st_ino) == self._identity:  # else another file has taken the name
            check_size(self._store, self._file, status.st_size)

    def release(self) -> None:
        """Takes the file out of this process' resident memory; what is read again comes back."""
        release(self._bytes)

    def row_group(self, group: int) -> RowGroup | None:
        """A row group as a view of the mapped bytes; None if its pages are not plain, or the file cannot be mapped."""
        location = locate_chunks(self._metadata, group)
        if location is None or location.both.end > len(self._bytes):
            return None
        images, labels = self._view(location.images), self._view(location.labels)
        return from_chunks(images, labels, location.rows, self._manifest.codec, self._manifest.size)

    def _view(self, span: Span) -> Any:
        return self._bytes[span.start : span.end]


def _mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    try:
        return map_file(descriptor, size)
    except OSError:  # some network filesystems cannot be mapped, and address space has limits: such a file is read
        return np.empty(0, np.uint8)
