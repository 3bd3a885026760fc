"""The bytes of raw images, in the order of the rows, fetched ahead of the decoder in memory that stays small."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from preprocessing.common.errors import InputError
from preprocessing.common.names import name_of
from preprocessing.common.storage import Store
from preprocessing.sources.base import WHOLE_FILE

# Images fetched together; while they are decoded, the next ones are fetched. The first are few, for a quick start.
WINDOW_IMAGES = 64
FIRST_WINDOW_IMAGES = 4
WINDOW_BYTES = 24 << 20
# A bucket answers in tens of milliseconds, whatever is asked: many requests at once. A disk needs a few to be busy.
REMOTE_THREADS = 16
LOCAL_THREADS = 2


_Batch = Future[list[bytes | None]]


class Piece(NamedTuple):
    """Where a raw image is: bytes [offset, offset + length) of file `path`; the whole file where `whole`."""

    path: str
    offset: int
    length: int
    whole: bool


def read_images(source: Store, table: pa.Table, most: int) -> Iterator[bytes | None]:
    """The bytes of every image of `table` (columns path, offset, length), in its order; None for more than `most`.

    Raises `InputError` for a file that is gone since the source was listed, or is shorter now.
    """
    pieces = [
        Piece(name_of(path), max(offset, 0), length, offset == WHOLE_FILE)
        for path, offset, length in zip(
            *(table.column(name).to_pylist() for name in ("path", "offset", "length")), strict=True
        )
    ]
    threads = REMOTE_THREADS if source.local_path is None else LOCAL_THREADS
    with _Reader(source, most) as reader, ThreadPoolExecutor(threads) as pool:
        windows = iter(_windows(pieces))
        coming = [_fetch(pool, reader, window, threads) for window in islice(windows, 2)]
        while coming:
            for future, place in coming.pop(0):
                yield future.result()[place]
            coming += [_fetch(pool, reader, window, threads) for window in islice(windows, 1)]


def _windows(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    window: list[Piece] = []
    size, most = 0, FIRST_WINDOW_IMAGES
    for piece in pieces:
        if window and (len(window) == most or size + piece.length > WINDOW_BYTES):
            yield window
            window, size, most = [], 0, WINDOW_IMAGES
        window.append(piece)
        size += piece.length
    if window:
        yield window


def _fetch(pool: ThreadPoolExecutor, reader: _Reader, window: list[Piece], threads: int) -> list[tuple[_Batch, int]]:
    """Starts to read a window; for each of its pieces, in order, a future and the place in its result."""
    # In the order in which the pieces lie on the disk: several times as fast as any other where it turns.
    order = sorted(range(len(window)), key=window.__getitem__)
    step = -(-len(order) // threads)
    found: dict[int, tuple[_Batch, int]] = {}
    for start in range(0, len(order), step):
        part = order[start : start + step]
        future = pool.submit(reader.read_all, [window[place] for place in part])
        found.update({place: (future, number) for number, place in enumerate(part)})
    return [found[place] for place in range(len(window))]


class _Reader:
    """Reads pieces; open archives are kept open. May be used by several threads."""

    def __init__(self, source: Store, most: int) -> None:
        self._source = source
        self._most = most
        self._folder = source.local_path
        self._archives: dict[str, Any] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    def read_all(self, pieces: list[Piece]) -> list[bytes | None]:
        return [self._read(piece) for piece in pieces]

    def _read(self, piece: Piece) -> bytes | None:
        if piece.length > self._most:
            return None
        try:
            data = self._read_file(piece) if piece.whole else self._read_range(piece)
        except FileNotFoundError as error:
            gone = f"{self._source.describe(piece.path)} is gone since the source was listed: run again"
            raise InputError(gone) from error
        except OSError as error:
            why = f"{error.strerror or error}; check the disk and the permissions of this user"
            raise InputError(f"cannot read {self._source.describe(piece.path)}: {why}") from error
        if len(data) != piece.length:
            raise InputError(
                f"{self._source.describe(piece.path)} has changed since the source was listed "
                f"({len(data):,} bytes for {piece.length:,}): run again"
            )
        return data

    def _read_file(self, piece: Piece) -> bytes:
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

    def _read_range(self, piece: Piece) -> bytes:
        archive = self._archives.get(piece.path)
        if archive is None:
            # Two threads may both open it; one handle is then dropped, which does no harm.
            archive = self._archives.setdefault(piece.path, self._source.open_input(piece.path))
        return bytes(archive.read_at(piece.length, piece.offset))
