"""The part of `pyarrow.fs.FileSystem` that stores use, for HDFS: without the JVM that pyarrow's own needs."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from hdfs_native import FileReader, FileStatus, WriteOptions
from pyarrow import fs as pafs

from preprocessing.common.stores.hdfs_connection import TRANSFER_SECONDS, Connection, finish

_MOST_LISTINGS = 10
_READ_AT_ONCE = 16 << 20  # bytes


class HdfsFiles:
    """Files by their whole path. Every method raises `OSError` of its own kind, and ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get_file_info(self, what: Any) -> Any:
        """The `FileInfo` of a path, or a list of those that a `FileSelector` selects."""
        return self._look_at(what) if isinstance(what, str) else self._select(what.base_dir, what.recursive)

    def open_input_file(self, name: str) -> HdfsFile:
        """The file, opened; `FileNotFoundError` if there is none."""
        return HdfsFile(_Blocks(self._connection.call(lambda client: client.read(name))))

    def read(self, name: str) -> bytes:
        """The whole file."""
        return _Blocks(self._connection.call(lambda client: client.read(name))).read()

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """Makes a file, and the folders to it; `FileExistsError` if there is one. A failure leaves a part of it."""
        options = WriteOptions(overwrite=False, create_parent=True)
        # The wrapper around `inner` would close it when collected as garbage, and wait for ever if no NameNode answers.
        writer = self._connection.call(lambda client: client.inner.create(name, options))
        for piece in pieces:
            finish(TRANSFER_SECONDS, writer.write, piece)
        finish(TRANSFER_SECONDS, writer.close)

    def move(self, source: str, target: str, *, replace: bool) -> None:
        """Renames a file in one step, over the target or, with `FileExistsError`, only if there is no target."""
        self._connection.call(lambda client: client.rename(source, target, replace))

    def delete_file(self, name: str) -> None:
        """Deletes a file; `FileNotFoundError` if there is none."""
        if not self._connection.delete(name, recursive=False):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def delete_dir(self, name: str) -> None:
        """Deletes a folder and all in it."""
        self._connection.delete(name, recursive=True)

    def _look_at(self, name: str) -> Any:
        try:
            return _info(self._connection.call(lambda client: client.get_file_info(name)))
        except FileNotFoundError:
            return pafs.FileInfo(name, pafs.FileType.NotFound)

    def _select(self, folder: str, recursive: bool) -> list[Any]:
        for _ in range(_MOST_LISTINGS):
            found = self._look_at(folder)
            if found.type == pafs.FileType.NotFound:
                return []
            if found.type == pafs.FileType.File:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
            try:
                return [_info(status) for status in self._connection.entries(folder, recursive)]
            except FileNotFoundError:  # it, or a folder in it, was deleted meanwhile
                continue
        raise OSError("folders in it are deleted again and again while it is listed")


class HdfsFile(pa.PythonFile):  # type: ignore[misc]
    """A `pyarrow.NativeFile` that several threads can read at once."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks  # Arrow has taken it as well, in `__new__`

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """At most `nbytes` bytes from `offset` on. Arrow's own lets one thread wait for the other."""
        return self._blocks.read_range(offset, nbytes)


class _Blocks(io.RawIOBase):
    """The bytes of a file, in the form that `pyarrow.PythonFile` wants."""

    def __init__(self, reader: FileReader) -> None:
        self._reader, self._size, self._position = reader, len(reader), 0

    def read_range(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self._size)  # hdfs-native panics beyond the end
        starts = range(offset, end, _READ_AT_ONCE)
        parts = [finish(TRANSFER_SECONDS, self._reader.read_range, at, min(_READ_AT_ONCE, end - at)) for at in starts]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read(self, size: int | None = -1) -> bytes:
        length = self._size - self._position if size is None or size < 0 else size
        data = self.read_range(self._position, length)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _info(status: FileStatus) -> Any:
    kind = pafs.FileType.Directory if status.isdir else pafs.FileType.File
    return pafs.FileInfo(status.path, kind, size=None if status.isdir else status.length)
