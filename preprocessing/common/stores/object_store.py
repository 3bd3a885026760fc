"""A prefix in a bucket of S3 or Google Cloud Storage."""

from __future__ import annotations

import shutil
from typing import BinaryIO

from pyarrow import fs as pafs

from preprocessing.common.stores.base import Entry
from preprocessing.common.stores.remote import RemoteStore


class ObjectStore(RemoteStore):
    """Writes by one put, which is whole or does not happen."""

    def tree(self) -> tuple[list[str], list[Entry]]:
        """The paths of the folders and of all files below the store, by one listing.

        A path may have empty parts, as `a//b` has: nothing but this lists such an object, and nothing can read it.
        """
        root = self._name("").rstrip("/") + "/"
        found = [(info.path.removeprefix(root), info) for info in self._select("", recursive=True)]
        folders = [path for path, info in found if info.type == pafs.FileType.Directory]
        return folders, [Entry(path, int(info.size)) for path, info in found if info.type == pafs.FileType.File]

    # A stream holds the blob, or its last part, back until it is closed; closing commits what was written so far. So
    # no stream is closed on an exception here.

    def _write(self, name: str, data: bytes) -> None:
        stream = self._fs.open_output_stream(name, buffer_size=None)
        stream.write(data)
        stream.close()

    def _upload(self, name: str, file: BinaryIO) -> None:
        stream = self._fs.open_output_stream(name)
        shutil.copyfileobj(file, stream, 8 << 20)
        stream.close()
