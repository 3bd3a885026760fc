"""A folder on HDFS."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from pyarrow import fs as pafs

from preprocessing.common.stores import local_files
from preprocessing.common.stores.remote import RemoteStore

_REPLACED = ".replaced"  # ends the name of a blob that is just being replaced


class HdfsStore(RemoteStore):
    """Writes under a temporary name, then renames.

    HDFS does not rename over a file, so the old blob is put aside first. `read`, `size` and `exists` find it there
    between the two renames, and for good if the writer was killed between them.
    """

    def size(self, path: str) -> int | None:
        """The file's size in bytes; None if there is no such file."""
        for candidate in (path, path + _REPLACED, path):  # again, as it may be replaced between the two looks
            size = super().size(candidate)
            if size is not None:
                return size
        return None

    def _read(self, name: str) -> bytes:
        for candidate in (name, name + _REPLACED):
            with contextlib.suppress(FileNotFoundError):
                return super()._read(candidate)
        return super()._read(name)  # it was replaced between the two looks, or there is no such blob

    def _write(self, name: str, data: bytes) -> None:
        self._write_whole(name, lambda stream: stream.write(data))

    def _upload(self, name: str, file: BinaryIO) -> None:
        self._write_whole(name, lambda stream: shutil.copyfileobj(file, stream, 8 << 20))

    def _delete(self, name: str) -> None:
        self._discard(name + _REPLACED)  # first, since it would be taken for the blob
        super()._delete(name)

    def _write_whole(self, name: str, fill: Callable[[Any], object]) -> None:
        temporary = local_files.temporary(name)
        try:
            self._fs.create_dir(str(PurePosixPath(temporary).parent), recursive=True)
            with self._fs.open_output_stream(temporary) as stream:
                fill(stream)
            self._rename(temporary, name)
        except BaseException:
            self._discard(temporary)
            raise

    def _rename(self, temporary: str, name: str) -> None:
        replaced = self._fs.get_file_info(name).type == pafs.FileType.File
        if replaced:
            self._discard(name + _REPLACED)
            self._fs.move(name, name + _REPLACED)
        self._fs.move(temporary, name)
        if replaced:
            self._discard(name + _REPLACED)

    def _is_hidden(self, path: str) -> bool:
        return path.endswith(_REPLACED) or super()._is_hidden(path)
