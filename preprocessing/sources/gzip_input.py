"""Files that may be gzipped, read from the beginning to the end."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy

_GZIP = b"\x1f\x8b"


class Stream(Protocol):
    """What can be read forwards."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""

    def seek(self, position: int, /) -> int:
        """Goes to a later position."""


@contextlib.contextmanager
def open_unpacked(store: Store, path: str) -> Iterator[Stream]:
    """A file's bytes, unpacked if it is gzipped.

    The block raises `InputError` for a file that is absent, or damaged as gzip, and `StorageError` if storage fails.
    """
    where = store.describe(path)
    try:
        with store.open_input(path) as source:
            packed = source.read(len(_GZIP)) == _GZIP
            source.seek(0)
            yield gzip.GzipFile(fileobj=source) if packed else source
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where} does not exist: download it, or run the same command again") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{where} is damaged ({' '.join(str(error).split())}): download it again") from error
    except (OSError, pa.ArrowException) as error:
        why = f"{reason(error)}; {remedy(error, local=store.is_local)}"
        raise StorageError(f"cannot read {where}: {why}") from error


def read_fully(stream: Stream, size: int) -> bytes:
    """`size` bytes, or fewer at the end."""
    parts, left = [], size
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
