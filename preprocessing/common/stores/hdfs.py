"""A folder on HDFS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import unquote

from preprocessing.common.errors import InputError
from preprocessing.common.storage_errors import ExplainedError, reason
from preprocessing.common.stores import local_files
from preprocessing.common.stores.hdfs_connection import connection
from preprocessing.common.stores.hdfs_files import HdfsFiles
from preprocessing.common.stores.remote import RemoteStore

_REPLACED = ".replaced"
_PIECE = 8 << 20  # bytes
_TRIES = 3  # of `create`: a rival's file may be there at the rename, and gone when it is read
# By URI: temporary files of failed writes that could not be deleted. A rename that got no answer in time may still be
# carried out while its file is there, and would put old data in the place of newer.
_LEFT: dict[str, set[str]] = {}


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
        self._put(name, _pieces(data))

    def _upload(self, name: str, file: BinaryIO) -> None:
        self._put(name, iter(partial(file.read, _PIECE), b""))

    def _put(self, name: str, pieces: Iterable[bytes]) -> None:
        self._delete_left(name)
        with self._temporary(name, pieces) as temporary:
            try:
                self._fs.move(temporary, name, replace=True)
            except FileNotFoundError as error:  # hdfs-native asks again if an answer is lost: it may have been renamed
                raise ExplainedError("its temporary file is gone", "run the same command again") from error

    def _create(self, path: str, data: bytes) -> bool:
        name = self._name(path)
        for _ in range(_TRIES):
            found = self._found(path)
            if found is not None:  # ours may be there: from a rename whose answer was lost
                return found == data
            # Either error may be the answer to hdfs-native's second request, after the answer to its first was lost.
            taken = contextlib.suppress(FileExistsError, FileNotFoundError)
            with taken, self._temporary(name, _pieces(data)) as temporary:
                self._fs.move(temporary, name, replace=False)
                return True
        raise ExplainedError("what was put there is not there", "run the same command again")

    def _delete(self, name: str) -> None:
        self._delete_left(name)
        with contextlib.suppress(FileNotFoundError):
            super()._delete(name + _REPLACED)  # first, since it would be taken for the blob
        super()._delete(name)

    def _is_hidden(self, path: str) -> bool:
        return path.endswith(_REPLACED) or super()._is_hidden(path)

    @contextlib.contextmanager
    def _temporary(self, name: str, pieces: Iterable[bytes]) -> Iterator[str]:
        """A file of these bytes, to be given its name in the block; deleted if the block fails, at once or later."""
        temporary = local_files.temporary(name)
        try:
            self._fs.write(temporary, pieces)
            yield temporary
        except BaseException:
            _LEFT.setdefault(self._key(name), set()).add(temporary)
            with contextlib.suppress(OSError):
                self._delete_left(name)
            raise

    def _delete_left(self, name: str) -> None:
        """Deletes the temporary files of earlier writes of that name, before the name changes again."""
        for temporary in tuple(_LEFT.get(self._key(name), ())):
            with contextlib.suppress(FileNotFoundError):
                super()._delete(temporary)
            _LEFT[self._key(name)].discard(temporary)

    def _key(self, name: str) -> str:
        return f"{self._place.scheme}://{self._place.host}{name}"


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
