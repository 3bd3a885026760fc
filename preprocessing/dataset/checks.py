"""Whether a Parquet file is the one that the manifest lists, and the error if it is not."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import pyarrow as pa

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import of_client, reason, remedy
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.schema import SCHEMA

# Arrow's messages for bytes that it cannot parse; the class of error is the same as for a failed connection.
_PARSING = re.compile(r"deserialize thrift|decompress|Corrupt .* data|[Uu]nexpected end of stream|ZSTD")


def check_size(store: Store, file: FileInfo, size: int) -> None:
    """Raises `InputError` if the file's size in bytes is not the manifest's."""
    if size != file.bytes:
        raise damaged(store, file, f"it has {size:,} bytes, the manifest says {file.bytes:,}")


def check_footer(store: Store, file: FileInfo, metadata: Any, group_rows: int) -> None:
    """Raises `InputError` if the footer's rows or columns are not those of the manifest."""
    groups = -(-file.rows // group_rows)
    last = file.rows - (groups - 1) * group_rows
    if (
        metadata.num_rows != file.rows
        or metadata.num_row_groups != groups
        or metadata.row_group(groups - 1).num_rows != last
    ):
        raise damaged(store, file, f"its row groups are not {file.rows:,} rows by {group_rows}")
    if not metadata.schema.to_arrow_schema().equals(SCHEMA):
        raise damaged(store, file, "its columns are not image, label and id")


def failed(store: Store, file: FileInfo, error: BaseException) -> InputError:
    """The error to raise for a file that could not be read.

    It is a `StorageError` if storage or this machine failed, so that another try may succeed, and an `InputError`
    proper if the file is missing or damaged. `error` is what the filesystem or a parser raised.
    """
    if isinstance(error, FileNotFoundError):
        return damaged(store, file, "it is missing")
    if isinstance(error, MemoryError):  # Arrow's, without a number
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    if _is_of_parser(error, store.is_local):
        return damaged(store, file, reason(error))
    return StorageError(f"cannot read {store.describe(file.name)}: {reason(error)}; {remedy(error, store.is_local)}")


def _is_of_parser(error: BaseException, local: bool) -> bool:
    if getattr(error, "errno", None) is not None or of_client(error):
        return False
    # On a local disk only parsers raise an `OSError` without a number.
    return local or isinstance(error, pa.ArrowException) or _PARSING.search(str(error)) is not None


def damaged(store: Store, file: FileInfo, how: str) -> InputError:
    """The error to raise for a file that has to be made or copied again."""
    remedy = "copy the file again, or make the dataset again with jobs/preprocess.py --overwrite"
    return InputError(f"{store.describe(file.name)} is damaged: {how}; {remedy}")
