"""A split's row groups by number: mapped where that can be, else fetched, and kept where there is room."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.common.storage import Store
from preprocessing.dataset.disk_cache import RowGroupCache
from preprocessing.dataset.manifest import FileInfo, Manifest
from preprocessing.dataset.mapped_file import MappedFile
from preprocessing.dataset.remote import RowGroupStore
from preprocessing.dataset.row_group import RowGroup

# Bytes of row groups kept for whoever asks in no order. A split no larger than that is fetched once.
KEPT_BYTES = 64 * 2**20
_CHECK_SECONDS = 1.0  # between looks at whether mapped files are still as long as they were


@dataclass(frozen=True)
class Reading:
    """How rows are read. Nothing here changes what is read.

    `cache_dir` is a local folder where row groups from far away are kept, in `cache_bytes` at most; `threads` read
    ahead. `mapped=False` reads a local dataset as if it were far away.
    """

    cache_dir: str | None = None
    cache_bytes: int = 100 * 2**30
    threads: int = 8
    mapped: bool = True


class RowGroups:
    """The row groups of a split, numbered in the order of its files. Safe to use from several threads.

    `starts` is the first row of each and, last, the number of rows: int64 [row groups + 1].
    """

    def __init__(self, store: Store, name: str, manifest: Manifest, reading: Reading) -> None:
        self.files = manifest.splits[name].files
        self._name, self._store, self._manifest = name, store, manifest
        rows = np.array([file.rows for file in self.files], np.int64)
        groups = -(-rows // manifest.row_group_rows)
        self._first_rows, self._first_groups = _sums(rows), _sums(groups)
        sizes = np.full(int(groups.sum()), manifest.row_group_rows, np.int64)
        sizes[self._first_groups[1:] - 1] += rows - groups * manifest.row_group_rows
        self.starts: NDArray[np.int64] = _sums(sizes)
        self._near_files: dict[int, MappedFile] = {}
        self._near_groups: dict[int, RowGroup | None] = {}
        # Files are alike, so the first tells: rows of compressed pages in any order would be unpacked again and again.
        self.near = store.local_path is not None and reading.mapped and bool(self.files) and self._map(0) is not None
        self._checked = time.monotonic()
        self._far = RowGroupStore(store, manifest)
        self._kept: OrderedDict[int, RowGroup] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._cache: RowGroupCache | None = None
        self.bytes = sum(file.bytes for file in self.files)
        if not self.near and reading.cache_dir is not None:
            self._cache = RowGroupCache(
                reading.cache_dir, reading.cache_bytes, manifest.hash, manifest.codec, manifest.size
            )
        self.at_hand = self.near or self.bytes <= KEPT_BYTES

    def holding(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of the row group of each row, and the row's place in it; both int64 [rows]."""
        files = np.searchsorted(self._first_rows, rows, side="right") - 1
        groups, places = np.divmod(rows - self._first_rows[files], self._manifest.row_group_rows)
        return self._first_groups[files] + groups, places

    def file(self, number: int) -> tuple[FileInfo, int]:
        """The file of a row group, and its number in that file."""
        index = int(np.searchsorted(self._first_groups, number, side="right")) - 1
        return self.files[index], number - int(self._first_groups[index])

    def size(self, number: int) -> int:
        """About how many bytes a row group has."""
        file, _ = self.file(number)
        return file.bytes // file.row_groups

    def check(self) -> None:
        """Raises `InputError` where a mapped file was cut short, as far as was looked at in the last second."""
        now = time.monotonic()
        if now - self._checked > _CHECK_SECONDS:
            self._checked = now
            for mapped in list(self._near_files.values()):
                mapped.check()

    def fetch(self, number: int) -> RowGroup:
        """`get` for a stream, which keeps what it needs itself: a larger split is not kept besides."""
        return self.get(number) if self.bytes <= KEPT_BYTES else self._fetch(number)

    def get(self, number: int) -> RowGroup:
        """A row group. `InputError` names a file that is missing, damaged or out of reach."""
        if self.near:
            group = self._near_groups.get(number)
            if group is not None:
                return group
            if number not in self._near_groups:
                group = self._near_groups[number] = self._map(number)
                if group is not None:
                    return group
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        group = self._fetch(number)
        with self._lock:
            if number not in self._kept:
                self._kept[number] = group
                self._kept_bytes += group.values.nbytes
            while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.values.nbytes
        return group

    def _map(self, number: int) -> RowGroup | None:
        index = int(np.searchsorted(self._first_groups, number, side="right")) - 1
        if index not in self._near_files:
            self._near_files[index] = MappedFile(self._store, self.files[index], self._manifest)
        return self._near_files[index].row_group(number - int(self._first_groups[index]))

    def _fetch(self, number: int) -> RowGroup:
        file, group = self.file(number)
        if self._cache is None:
            return self._far.fetch(file, group)
        name = f"{self._name}-{self._manifest.row_group_rows}-{number:07}"
        return self._cache.get(name, lambda: self._far.fetch(file, group))


def _sums(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
