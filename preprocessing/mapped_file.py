"""A local Parquet file, memory-mapped: row groups whose pages are plain, where they lie."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.file_checks import check_footer, check_size, damaged
from preprocessing.manifest import FileInfo, Manifest
from preprocessing.pages import Span, locate
from preprocessing.row_group import RowGroup, from_chunks
from preprocessing.storage import Store


class MappedFile:
    """Maps a file of a dataset; `InputError` where it is missing or not as the manifest says."""

    def __init__(self, store: Store, file: FileInfo, manifest: Manifest) -> None:
        self._store, self._file, self._manifest = store, file, manifest
        folder = store.local_path
        assert folder is not None  # the caller's condition for mapping
        path = folder / file.name
        try:
            # Kept open for `check`: a name can have come to mean another file.
            self._handle = path.open("rb")
            check_size(store, file, os.fstat(self._handle.fileno()).st_size)
            self._map = mmap.mmap(self._handle.fileno(), 0, access=mmap.ACCESS_READ)
            self._metadata: Any = pq.read_metadata(path)
        except FileNotFoundError as error:
            raise damaged(store, file, "it is missing") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(store, file, str(error).splitlines()[0]) from error
        check_footer(store, file, self._metadata, manifest.row_group_rows)
        self._bytes = np.frombuffer(self._map, np.uint8)

    def check(self) -> None:
        """Raises `InputError` where the file has become shorter: to touch what is mapped beyond its end is SIGBUS."""
        check_size(self._store, self._file, os.fstat(self._handle.fileno()).st_size)

    def row_group(self, group: int) -> RowGroup | None:
        """A row group that looks at the mapped bytes; None where its pages are not plain."""
        place = locate(self._metadata, group)
        if place is None or place.whole.end > len(self._bytes):
            return None
        images, labels = self._span(place.images), self._span(place.labels)
        return from_chunks(images, labels, place.rows, self._manifest.codec, self._manifest.size)

    def _span(self, span: Span) -> Any:
        return self._bytes[span.start : span.end]
