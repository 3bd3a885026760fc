"""A prefix in a bucket of S3 or Google Cloud Storage."""

from __future__ import annotations

import shutil
from typing import BinaryIO

from preprocessing.common.stores.remote import RemoteStore


class ObjectStore(RemoteStore):
    """Writes by one put, which is whole or does not happen."""

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
