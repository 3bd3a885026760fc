"""What HDFS and object stores have in common: a client that has to be opened, and uploads."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs as pafs

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage_errors import reason, remedy
from preprocessing.common.stores import base, local_files
from preprocessing.common.stores.base import Store
from preprocessing.common.stores.staging import staging_folder

# The first bucket that a process opens initialises the client's library, and pyarrow lets threads race to do it, which
# crashes (apache/arrow#39897). Over all stores, as they share the library.
_OPENING = threading.Lock()


class RemoteStore(Store):
    """A folder that is reached by a client.

    `create` is not exact here. The blob is written, and read back after `SETTLE_SECONDS`: of several callers the last
    to write wins. That needs `data` that tells callers apart, and is wrong if a write takes longer than that.
    `HdfsStore` and `ObjectStore` have exact ways. `ObjectStore` takes this one only if a server does not offer its own.
    """

    @abstractmethod
    def _upload(self, name: str, file: BinaryIO) -> None:
        """Writes a large blob whole."""

    def _read(self, name: str) -> bytes:
        with self._fs.open_input_stream(name) as stream:
            return bytes(stream.read())

    def _create(self, path: str, data: bytes) -> bool:
        if self._found(path) not in (None, data):  # ours may be there: from a put whose answer was lost
            return False
        self.write(path, data)
        time.sleep(base.SETTLE_SECONDS)
        return self._found(path) == data

    def _found(self, path: str) -> bytes | None:
        """The blob; None if there is none."""
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="lottery-trellis-", dir=staging_folder(os.environ)) as folder:
            local = Path(folder) / PurePosixPath(name).name
            yield local
            with local.open("rb") as file:
                self._upload(name, file)

    def _check_writable(self) -> None:
        name = local_files.temporary("probe")
        self.write(name, b"")
        self.delete(name)

    def _delete_tree(self, name: str) -> None:
        if self._fs.get_file_info(name).type == pafs.FileType.Directory:
            self._fs.delete_dir(name)

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            with _OPENING:
                if self._opened is None:
                    self._opened = self._connect()
        return self._opened

    def _connect(self) -> tuple[Any, str]:
        try:
            filesystem, path = pafs.FileSystem.from_uri(self._client_uri())
        except (pa.ArrowException, ValueError) as error:
            raise InputError(f"cannot reach {self.describe()}: {reason(error)}; check the URI") from error
        except OSError as error:
            what = f"cannot reach {self.describe()}: {reason(error)}"
            raise StorageError(f"{what}; {remedy(error, local=False)}") from error
        return filesystem, path

    def _client_uri(self) -> str:
        """The URI by which pyarrow opens the filesystem."""
        return self._place.strict_uri
