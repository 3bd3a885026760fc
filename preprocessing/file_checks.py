"""Whether a Parquet file is the one that the manifest lists, and the error where it is not."""

from __future__ import annotations

from typing import Any

from preprocessing.errors import InputError
from preprocessing.manifest import FileInfo
from preprocessing.schema import SCHEMA
from preprocessing.storage import Store


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


def damaged(store: Store, file: FileInfo, how: str) -> InputError:
    """The error of a file that cannot be used."""
    remedy = "copy the file again, or make the dataset again with jobs/preprocess.py --overwrite"
    return InputError(f"{store.uri}/{file.name} is damaged: {how}; {remedy}")
