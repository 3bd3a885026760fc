"""Rows, which are structs, as a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

_TYPES = {
    int: pa.int64(),
    int | None: pa.int64(),
    float: pa.float64(),
    float | None: pa.float64(),
    str: pa.string(),
}


def schema(kind: type[msgspec.Struct]) -> pa.Schema:
    """The columns of a table of such rows."""
    return pa.schema([(name, _TYPES[hint]) for name, hint in get_type_hints(kind).items() if not name.startswith("_")])


def parquet(kind: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> bytes:
    """A Parquet file of rows of this kind; without rows, of its columns alone."""
    sink = io.BytesIO()
    table = pa.Table.from_pylist([msgspec.structs.asdict(row) for row in rows], schema=schema(kind))
    pq.write_table(table, sink)
    return sink.getvalue()
