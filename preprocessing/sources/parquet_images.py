"""The images and labels of one Parquet file with a column of {bytes, path} structs and a column of whole numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import is_text, name_of, one_line, printable
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy

# Names that the columns have, the likeliest first.
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
# Images that are decompressed at a time, and bytes that are read at a time: a row group may be as large as its file.
_BATCH, _BUFFER = 64, 1 << 23
_METADATA = b"huggingface"
_AGAIN = "download it again"


class Columns(NamedTuple):
    """What a file says about its columns. `names` are those of the labels 0, 1, ...; None if it has none."""

    image: str
    label: str
    names: tuple[str, ...] | None


class Labels(NamedTuple):
    """A file's labels, the file names that its images had (null if unknown), and about how many bytes an image has."""

    labels: NDArray[np.int64]
    names: pa.Array
    mean_bytes: int


def read_columns(store: Store, path: str, image: str | None, label: str | None) -> Columns:
    """The columns of a file: those named, or those with usual names. `InputError` if one is absent or unfit."""
    with _opened(store, path) as file:
        schema, where = file.schema_arrow, one_line(store.describe(path))
        columns = Columns(
            _choose(where, schema, "image", image, IMAGE_COLUMNS),
            _choose(where, schema, "label", label, LABEL_COLUMNS),
            None,
        )
        _check_types(where, schema, columns)
        return columns._replace(names=_class_names(where, schema, columns.label))


def read_labels(store: Store, columns: Columns, path: str) -> Labels | str:
    """The labels of a file that has to have these columns; or, as text, why it cannot be used.

    What is wrong with the file is returned, not raised: this runs in tasks, and Spark tries again what raises. Raises
    `StorageError` if storage fails.
    """
    try:
        with _opened(store, path) as file:
            where = one_line(store.describe(path))
            _check_same(where, file.schema_arrow, columns)
            return _read_labels(where, file, columns)
    except StorageError:
        raise
    except InputError as error:
        return str(error)


def extract(store: Store, columns: Columns, path: str, numbers: Sequence[int]) -> Iterator[bytes]:
    """The bytes of the images in these rows of a file. Rows are numbered from 0, and ascend.

    Raises `InputError` for a damaged file and an image that is null, and `StorageError` if storage fails.
    """
    with _opened(store, path) as file:
        where = one_line(store.describe(path))
        _check_same(where, file.schema_arrow, columns)
        wanted, start = np.array(numbers, np.int64), 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + rows)]
            if len(here):
                yield from _extract_group(where, file, group, columns.image, here - start, start)
            start += rows
        if len(wanted) and wanted[-1] >= start:
            raise InputError(f"{where} has changed since its labels were read: run the same command again")


def _extract_group(
    where: str, file: Any, group: int, column: str, wanted: NDArray[np.int64], above: int
) -> Iterator[bytes]:
    """The images of the rows `wanted` of a row group, above which there are `above` rows."""
    start = taken = 0
    for batch in file.iter_batches(_BATCH, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False):
        images = pc.struct_field(batch.column(0), "bytes")
        end = start + len(images)
        here = wanted[taken : np.searchsorted(wanted, end)]
        for row, image in zip(here, images.take(pa.array(here - start)), strict=True):
            if not image.is_valid:
                raise InputError(f"{where}: row {above + row:,} has no image (its bytes are null): remove the row")
            yield image.as_py()
        start, taken = end, taken + len(here)
    if taken != len(wanted):
        raise InputError(f"{where} is damaged: a row group has {start:,} rows, fewer than it says: {_AGAIN}")


def _read_labels(where: str, file: Any, columns: Columns) -> Labels:
    path_type = _child(file.schema_arrow.field(columns.image).type, "path")
    has_names = path_type is not None and _is_text(path_type)
    table = file.read([columns.label, *([f"{columns.image}.path"] if has_names else [])], use_threads=False)
    rows = file.metadata.num_rows
    if len(table) != rows:
        raise InputError(f"{where} is damaged: it has {len(table):,} rows, and says {rows:,}: {_AGAIN}")
    column = table.column(columns.label)
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise InputError(f"{where}: row {row:,} has no label (it is null): remove the row, or give --label-column")
    labels = column.cast(pa.int64()).to_numpy()
    top = len(columns.names) if columns.names is not None else None
    wrong = np.flatnonzero((labels < 0) | (labels >= top) if top is not None else labels < 0)
    if len(wrong):
        expected = f"0 to {top - 1:,}, as it has {top:,} class names" if top is not None else "0 or more"
        raise InputError(
            f"{where}: row {wrong[0]:,} has label {labels[wrong[0]]}, and not one of {expected}: correct the file, "
            "give --label-column, or, if the split has no labels, move it out of the source"
        )
    names = (
        pc.struct_field(table.column(columns.image), "path")
        if has_names
        else pa.chunked_array([pa.nulls(rows, pa.string())])
    )
    return Labels(labels, _as_text(names), _mean_bytes(file.metadata))


def _as_text(names: pa.ChunkedArray) -> pa.Array:
    """Names as valid text: Parquet's writers need not check that they are UTF-8."""
    found = names.cast(pa.string()).combine_chunks()
    try:
        found.validate(full=True)
    except pa.ArrowInvalid:
        data = found.cast(pa.binary()).to_pylist()
        return pa.array([None if name is None else printable(name_of(name)) for name in data], pa.string())
    return found


def _mean_bytes(metadata: Any) -> int:
    """About how many bytes an image has: a row's, uncompressed."""
    # Not a column's, as pyarrow ends the process if the metadata of a column are damaged.
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    return int(max(0, sum(sizes)) // max(1, metadata.num_rows))


def _choose(where: str, schema: pa.Schema, kind: str, given: str | None, usual: Sequence[str]) -> str:
    for name in (given,) if given is not None else usual:
        if len(schema.get_all_field_indices(name)) == 1:
            return str(name)
    has = one_line(", ".join(schema.names[:8]))
    if given is not None:
        raise InputError(f"--{kind}-column {given}: {where} has no such column; it has {has}")
    raise InputError(f"{where} has no column {' or '.join(usual)}, but {has}: name it with --{kind}-column")


def _check_types(where: str, schema: pa.Schema, columns: Columns) -> None:
    image, label = schema.field(columns.image).type, schema.field(columns.label).type
    data = _child(image, "bytes")
    if data is None or not (pa.types.is_binary(data) or pa.types.is_large_binary(data)):
        raise InputError(
            f"{where}: column {columns.image} is {_short(image)}, not a struct with bytes, as the Hugging Face hub has "
            "it: give --image-column"
        )
    if not pa.types.is_integer(label):
        raise InputError(f"{where}: column {columns.label} is {_short(label)}, not whole numbers: give --label-column")


def _check_same(where: str, schema: pa.Schema, columns: Columns) -> None:
    """Raises `InputError` unless a file has these columns."""
    for name in (columns.image, columns.label):
        if len(schema.get_all_field_indices(name)) != 1:
            has = one_line(", ".join(schema.names[:8]))
            raise InputError(f"{where} has no column {name}, unlike the first file, but {has}: {_AGAIN}, or remove it")
    _check_types(where, schema, columns)
    if _class_names(where, schema, columns.label) != columns.names:
        raise InputError(f"{where} has other class names than the first file: {_AGAIN}, or remove it")


def _class_names(where: str, schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """The class names in the metadata that the library `datasets` writes; None if there are none."""
    data = (schema.metadata or {}).get(_METADATA)
    if data is None:
        return None
    try:
        feature = json.loads(data)["info"]["features"][label]
        names = feature.get("names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{where}: its metadata, {_METADATA.decode()}, is damaged: {_AGAIN}") from error
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and is_text(name) for name in names):
        raise InputError(f"{where}: the class names in its metadata are damaged: {_AGAIN}")
    return tuple(names)


def _child(kind: pa.DataType, name: str) -> pa.DataType | None:
    """The type of a struct's field; None if it has none, or is no struct."""
    if not pa.types.is_struct(kind) or len(kind.get_all_field_indices(name)) != 1:
        return None
    return kind.field(kind.get_field_index(name)).type


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _short(kind: pa.DataType) -> str:
    text = one_line(str(kind))
    return text if len(text) < 80 else f"{text[:80]} ..."


class _Watched:
    """A file that remembers why a read failed, since Arrow's errors do not tell damage from failing storage."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.failure: Exception | None = None

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._file.read(size if size >= 0 else None))
        except Exception as error:
            self.failure = error
            raise

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._file.seek(place, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def _opened(store: Store, path: str) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. Raises `InputError` if it is damaged, and `StorageError` if storage fails."""
    where = one_line(store.describe(path))
    watched = None
    try:
        with store.open_input(path) as source:
            watched = _Watched(source)
            yield pq.ParquetFile(watched, buffer_size=_BUFFER, pre_buffer=False)
    except FileNotFoundError as error:
        raise InputError(f"{where} was deleted a moment ago: put it back, and run the same command again") from error
    except (InputError, GeneratorExit):
        raise
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        if watched is None or watched.failure is not None:
            cause = watched.failure if watched is not None and watched.failure is not None else error
            why = f"{reason(cause)}; {remedy(cause, local=store.is_local)}"
            raise StorageError(f"cannot read {where}: {why}") from error
        raise InputError(f"{where} is damaged, or not Parquet ({_first_line(error)}): {_AGAIN}") from error


def _first_line(error: BaseException) -> str:
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0])[:200]
