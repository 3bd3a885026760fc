"""A prefix in a bucket of S3 or Google Cloud Storage."""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Callable
from typing import Any, BinaryIO

from pyarrow import fs as pafs

from preprocessing.common.stores import gcs_put, s3_put
from preprocessing.common.stores.base import Entry
from preprocessing.common.stores.remote import RemoteStore

logger = logging.getLogger(__name__)

# How long Google's client tries again by itself; it would for 15 minutes, and callers try again after it has given up.
GCS_SECONDS = 30

# How often `create` puts: a rival's object may be there at the put and gone when it is read.
_TRIES = 3

# The streams of uploads that are not finished. Closing a stream commits what was written so far, and so does destroying
# it. So the stream of a failed upload is never destroyed: it stays here, with up to 10 MB that it has not sent, and the
# extra reference keeps the list itself alive while the interpreter shuts down.
_UNFINISHED: list[list[Any]] = []
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_UNFINISHED))


class ObjectStore(RemoteStore):
    """Writes by one upload, which appears whole or not at all.

    `create` is exact: S3 and GCS have a put that fails if the object exists (`s3_put`, `gcs_put`). What is there
    afterwards is read back through pyarrow, and whoever wrote it has won. So a put whose answer was lost still counts,
    and a client that spoke to another server than pyarrow cannot win. An S3-compatible server that does not know the
    condition, or ignores it, gets `RemoteStore`'s way, which is not exact.
    """

    def tree(self) -> tuple[list[str], list[Entry]]:
        """The paths of the folders and of all files below the store, by one listing.

        A path may have empty parts, as `a//b` has: nothing but this lists such an object, and nothing can read it.
        """
        root = self._name("").rstrip("/") + "/"
        found = [(info.path.removeprefix(root), info) for info in self._select("", recursive=True)]
        folders = [path for path, info in found if info.type == pafs.FileType.Directory]
        return folders, [Entry(path, int(info.size)) for path, info in found if info.type == pafs.FileType.File]

    def _client_uri(self) -> str:
        uri, query = super()._client_uri(), self._place.query
        if self._place.scheme != "gs" or "retry_limit_seconds=" in query:
            return uri
        return f"{uri}{'&' if query else '?'}retry_limit_seconds={GCS_SECONDS}"

    def _write(self, name: str, data: bytes) -> None:
        self._write_whole(name, lambda stream: stream.write(data))

    def _create(self, path: str, data: bytes) -> bool:
        found = self._found(path)  # also shows, in pyarrow's words, what is wrong with the bucket or the credentials
        if found is not None:
            return found == data
        for _ in range(_TRIES):
            try:
                self._put_if_absent(self._name(path), data)
            except s3_put.ConditionsNotOfferedError:
                weaker = "%s: no conditional puts here; of jobs that start within a second the last to write goes on"
                logger.info(weaker, self.describe())
                return super()._create(path, data)
            found = self._found(path)
            if found is not None:
                return found == data
        raise OSError("what was put there is not there")

    def _put_if_absent(self, name: str, data: bytes) -> None:
        if self._place.scheme == "gs":
            gcs_put.put_if_absent(self._place, name, data)
        else:
            s3_put.put_if_absent(self._place, str(self._fs.region), name, data)

    def _upload(self, name: str, file: BinaryIO) -> None:
        self._write_whole(name, lambda stream: shutil.copyfileobj(file, stream, 8 << 20))

    def _write_whole(self, name: str, fill: Callable[[Any], object]) -> None:
        kept: list[Any] = []
        _UNFINISHED.append(kept)
        kept.extend(map(self._fs.open_output_stream, [name]))  # one step, which no signal's exception can come between
        fill(kept[0])
        kept[0].close()
        _UNFINISHED.remove(kept)
