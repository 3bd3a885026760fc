"""Files that may be gzipped, read from the beginning to the end."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20


class Unpacked:
    """The bytes of a file, unpacked if it is gzipped. Its methods raise as `open_unpacked` does."""

    def __init__(self, store: Store, path: str, source: Any) -> None:
        self._store = store
        self._path = path
        with self._explained():
            packed = source.read(len(_GZIP)) == _GZIP
            source.seek(0)
        self._file = gzip.GzipFile(fileobj=source) if packed else source

    def read(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end."""
        parts, left = [], size
        with self._explained():
            while left and (part := self._file.read(min(left, _BLOCK))):
                parts.append(part)
                left -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Reads on for `size` bytes, or to the end. Returns how many are missing."""
        while size and (part := self.read(min(size, _BLOCK))):
            size -= len(part)
        return size

    def seek(self, position: int) -> None:
        """Goes to a later position."""
        with self._explained():
            self._file.seek(position)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        where = self._store.describe(self._path)
        try:
            yield
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{where} is damaged ({' '.join(str(error).split())}): download it again") from error
        except (OSError, pa.ArrowException) as error:
            why = f"{reason(error)}; {remedy(error, local=self._store.is_local)}"
            raise StorageError(f"cannot read {where}: {why}") from error


@contextlib.contextmanager
def open_unpacked(store: Store, path: str) -> Iterator[Unpacked]:
    """Opens a file. Raises `InputError` if it is absent or damaged as gzip, and `StorageError` if storage fails."""
    try:
        source = store.open_input(path)
    except FileNotFoundError as error:
        where = store.describe(path)
        raise InputError(f"{where} was deleted a moment ago: put it back, and run the same command again") from error
    with source:
        yield Unpacked(store, path, source)
