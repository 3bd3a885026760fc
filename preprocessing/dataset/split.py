"""Rows of a split by index, one by one, in batches or as a stream that is read ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from preprocessing.common.storage import Store
from preprocessing.dataset.checks import damaged
from preprocessing.dataset.codecs import StoredImages
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.prefetch import read_ahead
from preprocessing.dataset.row_group import Blob, RowGroup
from preprocessing.dataset.row_groups import Reading, RowGroups

# Bytes of row groups that a stream holds or is reading, if rows cannot be mapped.
READ_AHEAD_BYTES = 128 * 2**20

Stored = tuple[list[Blob], NDArray[np.int32]]


class Split:
    """The images and labels of one split, in file order. Safe to use from several processes, each with its own.

    `mapped` says whether rows are views of memory-mapped files; `random_access` whether rows in any order come at the
    speed of memory or of a local disk, without a disk cache.
    `row_group_bytes` is the size of its largest row groups.
    """

    def __init__(self, store: Store, name: str, manifest: Manifest, reading: Reading | None = None) -> None:
        self.name = name
        self.count = manifest.splits[name].count
        self._store = store
        self._reading = reading or Reading()
        self._groups = RowGroups(store, name, manifest, self._reading)
        self._stored_images = StoredImages(manifest.codec, manifest.size)
        self._size = manifest.size
        # Many threads can wait for a network at once; on a local disk they would compete for the processor.
        self._threads = min(self._reading.threads, 2) if store.is_local else self._reading.threads
        self.mapped = self._groups.mapped
        self.random_access = self._groups.random_access
        self.row_group_bytes = max((file.bytes // file.row_groups for file in self._groups.files), default=0)

    @property
    def row_group_starts(self) -> NDArray[np.int64]:
        """The first row of each row group and, last, the number of rows: int64 [row groups + 1]."""
        return self._groups.starts

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Rows by index: images uint8 [n, size, size, 3] in a new array, labels int32 [n].

        Raises `IndexError` for an index outside 0..count-1, `InputError` for a file that is missing or damaged,
        `StorageError` if storage fails.
        """
        blobs, labels = self.stored(indices)
        images = np.empty((len(blobs), self._size, self._size, 3), np.uint8)
        for image, blob, index in zip(images, blobs, indices, strict=True):
            image[...] = self.image(blob, index)
        return images, labels

    def stored(self, indices: NDArray[np.int64]) -> Stored:
        """Rows by index: images as they are stored, without a copy if they are mapped; labels int32 [n]."""
        numbers, rows = self._locate(indices)
        self._groups.check()
        groups: dict[int, RowGroup] = {}
        if not self._groups.mapped:  # in file order, so that each is fetched once
            groups = {number: self._groups.get(number) for number in np.unique(numbers).tolist()}
        return self._pick(numbers, rows, groups)

    def stream(self, pieces: Iterable[NDArray[np.int64]]) -> Iterator[Stored]:
        """`stored` of each piece, in order. If rows are not mapped, the row groups of later pieces are read ahead."""
        if self._groups.mapped:
            yield from map(self.stored, pieces)
            return
        located = map(self._locate, pieces)
        ahead: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

        def numbers() -> Iterator[Sequence[int]]:
            for piece in located:
                ahead.append(piece)
                yield np.unique(piece[0]).tolist()

        for groups in read_ahead(numbers(), self._groups.fetch, self._groups.size, self._threads, READ_AHEAD_BYTES):
            yield self._pick(*ahead.pop(0), groups)

    def image(self, blob: Blob, index: int) -> NDArray[np.uint8]:
        """A stored image, row `index` of the split, as uint8 [size, size, 3]; a view of `blob` if it is a tensor."""
        image = self._stored_images.decode(blob)
        if image is None:
            number, row = (int(array[0]) for array in self._groups.locate(np.array([index], np.int64)))
            file, group = self._groups.file(number)
            raise damaged(self._store, file, f"row {row} of row group {group} is not an image of size {self._size}")
        return image

    def release(self) -> None:
        """Takes mapped files out of this process' resident memory. Rows, also those in use, come back when read."""
        self._groups.release()

    def _locate(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        wanted = np.asarray(indices, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.count):
            raise IndexError(f"rows of {self.name} are 0..{self.count - 1}, asked for {wanted.min()}..{wanted.max()}")
        return self._groups.locate(wanted)

    def _pick(self, numbers: NDArray[np.int64], rows: NDArray[np.int64], groups: dict[int, RowGroup]) -> Stored:
        blobs = []
        labels = np.empty(len(numbers), np.int32)
        get = self._groups.get
        for position, (number, row) in enumerate(zip(numbers.tolist(), rows.tolist(), strict=True)):
            group = groups.get(number) or get(number)
            blobs.append(group.blob(row))
            labels[position] = group.labels[row]
        return blobs, labels
