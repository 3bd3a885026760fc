"""Reads raw images in row order, ahead of the decoder, within a fixed amount of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import name_of, one_line
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy
from preprocessing.images.decode import MAX_BYTES, TOO_LARGE, Rejected, decode
from preprocessing.sources.base import WHOLE_FILE

# Images that are read together, while the ones before are decoded. The first window is small, for a quick start.
WINDOW_IMAGES = 64
FIRST_WINDOW_IMAGES = 4
WINDOW_BYTES = 24 << 20
# A bucket takes tens of milliseconds to answer, so it gets many requests at once. A few keep a disk busy.
REMOTE_THREADS = 16
LOCAL_THREADS = 2

# Turns an image's bytes into pixels, uint8 [size, size, 3], in the array given.
Decode = Callable[[bytes, int, NDArray[np.uint8]], object]


_Batch = Future[list[bytes | None]]


class RawImage(NamedTuple):
    """An image in memory, and where it comes from: byte `offset` of the source's file `path`.

    `offset` is WHOLE_FILE if the file is the image. `data` is None if it has more than MAX_BYTES, and is not read.
    """

    id: str
    path: str
    offset: int
    data: bytes | None

    @property
    def place(self) -> str:
        """Where the image is in the source, for messages."""
        return one_line(self.path) + ("" if self.offset == WHOLE_FILE else f" at byte {self.offset:,}")

    def decode(self, size: int, out: NDArray[np.uint8], using: Decode = decode) -> None:
        """Decodes the image into `out`, uint8 [size, size, 3], in this process or `using` another one.

        Raises `Rejected` for an image that cannot be used, and what else `using` raises.
        """
        if self.data is None:
            raise Rejected(TOO_LARGE, f"more than {MAX_BYTES:,} bytes")
        using(self.data, size, out)


def read_images(source: Store, table: pa.Table) -> Iterator[RawImage]:
    """Every image of `table` (columns id, path, offset, length), in its order.

    Raises `InputError` for a file that was changed or deleted since the source was listed, and `StorageError` for one
    that cannot be read.
    """
    columns = (table.column(name).to_pylist() for name in ("id", "path", "offset", "length"))
    pieces = [_Piece(name_of(path), offset, length, name) for name, path, offset, length in zip(*columns, strict=True)]
    threads = LOCAL_THREADS if source.is_local else REMOTE_THREADS
    with _Reader(source) as reader, ThreadPoolExecutor(threads) as pool:
        windows = iter(_windows(pieces))
        ahead = [(window, _read_ahead(pool, reader, window, threads)) for window in islice(windows, 2)]
        while ahead:
            window, batches = ahead.pop(0)
            for piece, (batch, number) in zip(window, batches, strict=True):
                yield RawImage(piece.id, piece.path, piece.offset, batch.result()[number])
            del window, batches, batch  # a window's bytes make room for those of the next
            ahead += [(window, _read_ahead(pool, reader, window, threads)) for window in islice(windows, 1)]


class _Piece(NamedTuple):
    """Bytes [offset, offset + length) of file `path`, or all of it (WHOLE_FILE): the image `id`. Sorts by place."""

    path: str
    offset: int
    length: int
    id: str


def _windows(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    window: list[_Piece] = []
    size, most = 0, FIRST_WINDOW_IMAGES
    for piece in pieces:
        if window and (len(window) == most or size + piece.length > WINDOW_BYTES):
            yield window
            window, size, most = [], 0, WINDOW_IMAGES
        window.append(piece)
        size += piece.length
    if window:
        yield window


def _read_ahead(
    pool: ThreadPoolExecutor, reader: _Reader, window: list[_Piece], threads: int
) -> list[tuple[_Batch, int]]:
    """Starts to read a window. Returns, for each of its pieces in order, a future and an index into its result."""
    # In the order in which the pieces lie on the disk: several times as fast as any other order on a spinning disk.
    order = sorted(range(len(window)), key=window.__getitem__)
    step = -(-len(order) // threads)
    found: dict[int, tuple[_Batch, int]] = {}
    for start in range(0, len(order), step):
        part = order[start : start + step]
        future = pool.submit(reader.read, [window[place] for place in part])
        found |= {place: (future, number) for number, place in enumerate(part)}
    return [found[place] for place in range(len(window))]


class _Reader:
    """Reads pieces; keeps open archives open. May be used by several threads."""

    def __init__(self, source: Store) -> None:
        self._source = source
        self._folder = source.local_path
        self._archives: dict[str, Any] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    def read(self, pieces: list[_Piece]) -> list[bytes | None]:
        return [None if piece.length > MAX_BYTES else self._read(piece) for piece in pieces]

    def _read(self, piece: _Piece) -> bytes:
        where = self._source.describe(piece.path)
        try:
            data = self._read_file(piece) if piece.offset == WHOLE_FILE else self._read_range(piece)
        except FileNotFoundError as error:
            raise InputError(
                f"{where} has been deleted since the source was listed: run the same command again"
            ) from error
        except (OSError, pa.ArrowException) as error:
            why = f"{reason(error)}; {remedy(error, local=self._source.is_local)}"
            raise StorageError(f"cannot read {where}: {why}") from error
        if len(data) != piece.length:
            raise InputError(
                f"{where} has changed since the source was listed "
                f"({len(data):,} bytes, not {piece.length:,}): run the same command again"
            )
        return data

    def _read_file(self, piece: _Piece) -> bytes:
        if self._folder is None:
            return self._source.read(piece.path)
        # As `Store.read`, at a third of its time.
        file = os.open(f"{self._folder}/{piece.path}", os.O_RDONLY)
        try:
            data = os.read(file, piece.length + 1)
            while 0 < len(data) < piece.length and (more := os.read(file, piece.length + 1 - len(data))):
                data += more
            return data
        finally:
            os.close(file)

    def _read_range(self, piece: _Piece) -> bytes:
        archive = self._archives.get(piece.path)
        if archive is None:
            # Two threads may both open it; one handle is then dropped, which is harmless.
            archive = self._archives.setdefault(piece.path, self._source.open_input(piece.path))
        return bytes(archive.read_at(piece.length, piece.offset))
