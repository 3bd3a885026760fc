"""A local Parquet file, memory-mapped: row groups whose pages are plain, where they lie."""

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
from preprocessing.dataset.mapping import map_file
from preprocessing.dataset.pages import Span, locate
from preprocessing.dataset.row_group import RowGroup, from_chunks


class MappedFile:
    """Maps a file of a dataset; `InputError` where it cannot be read or is not as the manifest says."""

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
        """Raises `InputError` where the file has become shorter: to touch what is mapped beyond its end is SIGBUS."""
        try:
            status = self._path.stat()
        except OSError:
            return  # deleted, perhaps, and what is mapped lives on
        if (status.st_dev, status.st_ino) == self._identity:  # else the name has come to mean another file
            check_size(self._store, self._file, status.st_size)

    def row_group(self, group: int) -> RowGroup | None:
        """A row group that looks at the mapped bytes; None where its pages are not plain, or cannot be mapped."""
        place = locate(self._metadata, group)
        if place is None or place.whole.end > len(self._bytes):
            return None
        images, labels = self._span(place.images), self._span(place.labels)
        return from_chunks(images, labels, place.rows, self._manifest.codec, self._manifest.size)

    def _span(self, span: Span) -> Any:
        return self._bytes[span.start : span.end]


def _mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    try:
        return map_file(descriptor, size)
    except OSError:  # some network filesystems cannot be mapped, and address space has limits: such a file is read
        return np.empty(0, np.uint8)
