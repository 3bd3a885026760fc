"""A folder on HDFS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import unquote

from preprocessing.common.errors import InputError
from preprocessing.common.storage_errors import reason
from preprocessing.common.stores import local_files
from preprocessing.common.stores.hdfs_connection import connection
from preprocessing.common.stores.hdfs_files import HdfsFiles
from preprocessing.common.stores.remote import RemoteStore

_REPLACED = ".replaced"
_PIECE = 8 << 20  # bytes


class HdfsStore(RemoteStore):
    """Writes under a temporary name, then renames in one step: over an older blob, or only if there is none.

    So `create` is exact. Earlier versions put the old blob aside under a name that ends in `.replaced`. If they were
    killed before the new one had its name, the blob is still found there.
    """

    def size(self, path: str) -> int | None:
        """The file's size in bytes; None if there is no such file."""
        size = super().size(path)
        return super().size(path + _REPLACED) if size is None else size

    def _connect(self) -> tuple[Any, str]:
        opened = connection(f"{self._place.scheme}://{self._place.host}")
        try:
            opened.open()
        except OSError as error:
            remedy = "check the URI, and HADOOP_CONF_DIR on this machine"
            raise InputError(f"cannot reach {self.describe()}: {reason(error)}; {remedy}") from error
        return HdfsFiles(opened), unquote(self._place.path) or "/"

    def _read(self, name: str) -> bytes:
        try:
            return bytes(self._fs.read(name))
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                return bytes(self._fs.read(name + _REPLACED))
            raise

    def _write(self, name: str, data: bytes) -> None:
        with self._temporary(name, _pieces(data)) as temporary:
            self._fs.move(temporary, name, replace=True)

    def _upload(self, name: str, file: BinaryIO) -> None:
        with self._temporary(name, iter(partial(file.read, _PIECE), b"")) as temporary:
            self._fs.move(temporary, name, replace=True)

    def _create(self, path: str, data: bytes) -> bool:
        found, name = self._found(path), self._name(path)
        if found is not None:  # ours may be there: from a rename whose answer was lost
            return found == data
        with contextlib.suppress(FileExistsError), self._temporary(name, _pieces(data)) as temporary:
            self._fs.move(temporary, name, replace=False)
            return True
        return self._found(path) == data

    def _delete(self, name: str) -> None:
        self._discard(name + _REPLACED)  # first, since it would be taken for the blob
        super()._delete(name)

    def _is_hidden(self, path: str) -> bool:
        return path.endswith(_REPLACED) or super()._is_hidden(path)

    @contextlib.contextmanager
    def _temporary(self, name: str, pieces: Iterable[bytes]) -> Iterator[str]:
        """A file of these bytes, to be given its name in the block; deleted if the block fails."""
        temporary = local_files.temporary(name)
        try:
            self._fs.write(temporary, pieces)
            yield temporary
        except BaseException:
            self._discard(temporary)
            raise


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
