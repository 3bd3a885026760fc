"""A split's row groups by number: mapped if possible, else read through the filesystem and cached."""

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
from preprocessing.dataset.row_group import RowGroup
from preprocessing.dataset.row_group_reader import RowGroupReader

# Bytes of row groups that are cached in memory. A split no larger than that is read once.
MEMORY_CACHE_BYTES = 64 * 2**20
CHECK_SECONDS = 1.0  # between checks whether mapped files are still as long as they were


@dataclass(frozen=True)
class Reading:
    """How rows are read. Nothing here changes what is read.

    `cache_dir` is a local folder that caches row groups of a remote dataset, `cache_bytes` of them at most; `threads`
    read ahead. `mapped=False` reads a local dataset as if it were remote.
    """

    cache_dir: str | None = None
    cache_bytes: int = 100 * 2**30
    threads: int = 8
    mapped: bool = True


class RowGroups:
    """The row groups of a split, numbered in the order of its files. Safe to use from several threads.

    `starts` is the first row of each and, last, the number of rows: int64 [row groups + 1]. `mapped` says whether they
    are mapped into memory, `random_access` whether rows in any order come at the speed of memory or of a local disk.
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
        self._mapped_files: dict[int, MappedFile] = {}
        self._mapped_groups: dict[int, RowGroup | None] = {}
        # All files are written alike, so the first one decides. Compressed pages are not mapped: rows in random order
        # would decompress each page again and again.
        self.mapped = store.is_local and reading.mapped and bool(self.files) and self._map(0) is not None
        self._checked = time.monotonic()
        self._reader = RowGroupReader(store, manifest)
        self._cached: OrderedDict[int, RowGroup] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()
        self._disk_cache: RowGroupCache | None = None
        self.bytes = sum(file.bytes for file in self.files)
        if not self.mapped and reading.cache_dir is not None:
            self._disk_cache = RowGroupCache(
                reading.cache_dir, reading.cache_bytes, manifest.hash, manifest.codec, manifest.size
            )
        self.random_access = self.mapped or self.bytes <= MEMORY_CACHE_BYTES

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of the row group of each row, and the row's index in it; both int64 [rows]."""
        files = np.searchsorted(self._first_rows, rows, side="right") - 1
        groups, indices = np.divmod(rows - self._first_rows[files], self._manifest.row_group_rows)
        return self._first_groups[files] + groups, indices

    def file(self, number: int) -> tuple[FileInfo, int]:
        """The file of a row group, and its number in that file."""
        index = int(np.searchsorted(self._first_groups, number, side="right")) - 1
        return self.files[index], number - int(self._first_groups[index])

    def size(self, number: int) -> int:
        """The approximate size of a row group in bytes."""
        file, _ = self.file(number)
        return file.bytes // file.row_groups

    def check(self) -> None:
        """Raises `InputError` if a mapped file was cut short. Looks at the files once a second at most."""
        now = time.monotonic()
        if now - self._checked > CHECK_SECONDS:
            self._checked = now
            for mapped in list(self._mapped_files.values()):
                mapped.check()

    def release(self) -> None:
        """Takes mapped files out of this process' resident memory; what is read again comes back."""
        for mapped in list(self._mapped_files.values()):
            mapped.release()

    def fetch(self, number: int) -> RowGroup:
        """`get` for a stream, which holds what it needs itself: a split too large for the memory cache bypasses it."""
        return self.get(number) if self.bytes <= MEMORY_CACHE_BYTES else self._read(number)

    def get(self, number: int) -> RowGroup:
        """A row group. Raises `InputError` for a file that is missing or damaged, `StorageError` if storage fails."""
        if self.mapped:
            group = self._mapped_groups.get(number)
            if group is not None:
                return group
            if number not in self._mapped_groups:
                group = self._mapped_groups[number] = self._map(number)
                if group is not None:
                    return group
        with self._lock:
            if number in self._cached:
                self._cached.move_to_end(number)
                return self._cached[number]
        group = self._read(number)
        with self._lock:
            if number not in self._cached:
                self._cached[number] = group
                self._cached_bytes += group.values.nbytes
            while self._cached_bytes > MEMORY_CACHE_BYTES and len(self._cached) > 1:
                _, dropped = self._cached.popitem(last=False)
                self._cached_bytes -= dropped.values.nbytes
        return group

    def _map(self, number: int) -> RowGroup | None:
        index = int(np.searchsorted(self._first_groups, number, side="right")) - 1
        if index not in self._mapped_files:
            self._mapped_files[index] = MappedFile(self._store, self.files[index], self._manifest)
        return self._mapped_files[index].row_group(number - int(self._first_groups[index]))

    def _read(self, number: int) -> RowGroup:
        file, group = self.file(number)
        if self._disk_cache is None:
            return self._reader.fetch(file, group)
        name = f"{self._name}-{self._manifest.row_group_rows}-{number:07}"
        return self._disk_cache.get(name, lambda: self._reader.fetch(file, group))


def _sums(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
