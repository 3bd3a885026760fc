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

# Bytes of row groups that a stream holds, or has on their way, where rows cannot be mapped.
READ_AHEAD_BYTES = 128 * 2**20

Stored = tuple[list[Blob], NDArray[np.int32]]


class Split:
    """The images and labels of one split, in file order. Safe to use from several processes, each with its own.

    `at_hand` says whether rows in any order come at the speed of memory or of a local disk, without a cache.
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
        # Many wait for a network at once; of a local disk's they would only take the processor from each other.
        self._threads = self._reading.threads if store.local_path is None else min(self._reading.threads, 2)
        self.at_hand = self._groups.at_hand
        self.row_group_bytes = max((file.bytes // file.row_groups for file in self._groups.files), default=0)

    @property
    def row_group_starts(self) -> NDArray[np.int64]:
        """The first row of each row group and, last, the number of rows: int64 [row groups + 1]."""
        return self._groups.starts

    def gather(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Rows by index: images uint8 [n, size, size, 3] in a new array, labels int32 [n].

        `IndexError` for an index outside 0..count-1; `InputError` names a file that is missing or damaged.
        """
        blobs, labels = self.stored(indices)
        images = np.empty((len(blobs), self._size, self._size, 3), np.uint8)
        for image, blob, index in zip(images, blobs, indices, strict=True):
            image[...] = self.image(blob, index)
        return images, labels

    def stored(self, indices: NDArray[np.int64]) -> Stored:
        """Rows by index: images as they are stored, not copied where they can be mapped; labels int32 [n]."""
        numbers, places = self._locate(indices)
        self._groups.check()
        groups: dict[int, RowGroup] = {}
        if not self._groups.near:  # in file order, so that each is fetched once
            groups = {number: self._groups.get(number) for number in np.unique(numbers).tolist()}
        return self._pick(numbers, places, groups)

    def stream(self, pieces: Iterable[NDArray[np.int64]]) -> Iterator[Stored]:
        """`stored` of each piece, in order. Where rows are not mapped, what later pieces need is read ahead."""
        if self._groups.near:
            yield from map(self.stored, pieces)
            return
        located = ((self._locate(piece)) for piece in pieces)
        ahead: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

        def numbers() -> Iterator[Sequence[int]]:
            for piece in located:
                ahead.append(piece)
                yield np.unique(piece[0]).tolist()

        for groups in read_ahead(numbers(), self._groups.fetch, self._groups.size, self._threads, READ_AHEAD_BYTES):
            yield self._pick(*ahead.pop(0), groups)

    def image(self, blob: Blob, index: int) -> NDArray[np.uint8]:
        """A stored image, row `index` of the split, as uint8 [size, size, 3]; a view of it where it is a tensor."""
        image = self._stored_images.decode(blob)
        if image is None:
            number, place = (int(array[0]) for array in self._groups.holding(np.array([index], np.int64)))
            file, group = self._groups.file(number)
            raise damaged(self._store, file, f"row {place} of row group {group} is no image of size {self._size}")
        return image

    def _locate(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        wanted = np.asarray(indices, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.count):
            raise IndexError(f"rows of {self.name} are 0..{self.count - 1}, asked for {wanted.min()}..{wanted.max()}")
        return self._groups.holding(wanted)

    def _pick(self, numbers: NDArray[np.int64], places: NDArray[np.int64], groups: dict[int, RowGroup]) -> Stored:
        blobs = []
        labels = np.empty(len(numbers), np.int32)
        get = self._groups.get
        for position, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            group = groups.get(number) or get(number)
            blobs.append(group.blob(place))
            labels[position] = group.labels[place]
        return blobs, labels
