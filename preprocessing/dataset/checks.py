"""Whether a Parquet file is the one that the manifest lists, and the error where it is not."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.schema import SCHEMA

# What Arrow says of bytes that it cannot understand, as the same kind of error as a failed connection's.
_PARSING = re.compile(r"deserialize thrift|decompress|Corrupt .* data|[Uu]nexpected end of stream|ZSTD")


def check_size(store: Store, file: FileInfo, size: int) -> None:
    """Raises `InputError` where the file has not as many bytes as the manifest says."""
    if size != file.bytes:
        raise damaged(store, file, f"it has {size:,} bytes, the manifest says {file.bytes:,}")


def check_footer(store: Store, file: FileInfo, metadata: Any, group_rows: int) -> None:
    """Raises `InputError` where the footer's rows or columns are not those of the manifest."""
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
    """The error of a file that could not be read: it is damaged, or storage or this machine failed (`StorageError`).

    `error` is what the filesystem or a parser raised. Only parsers raise an `OSError` without a number on a local disk.
    """
    local = store.local_path is not None
    if isinstance(error, FileNotFoundError):
        return damaged(store, file, "it is missing")
    parsing = local or isinstance(error, pa.ArrowException) or _PARSING.search(str(error))
    if getattr(error, "errno", None) is None and parsing:
        return damaged(store, file, reason(error))
    return StorageError(f"cannot read {store.describe(file.name)}: {reason(error)}; {remedy(error, local)}")


def damaged(store: Store, file: FileInfo, how: str) -> InputError:
    """The error of a file that has to be made or copied again."""
    remedy = "copy the file again, or make the dataset again with jobs/preprocess.py --overwrite"
    return InputError(f"{store.describe(file.name)} is damaged: {how}; {remedy}")
