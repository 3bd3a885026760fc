"""`results.parquet`: a row for each ticket and control."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from lottery.run.results import TicketResult

SCHEMA = pa.schema(
    [
        ("level", pa.int32()),
        ("density", pa.float64()),
        ("kept", pa.int64()),
        ("prunable", pa.int64()),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("control", pa.string()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("top1", pa.float64()),
        ("top5", pa.float64()),
        ("loss", pa.float64()),
        ("steps", pa.int64()),
        ("seconds", pa.float64()),
        ("executor", pa.string()),
        ("task", pa.int32()),
        ("note", pa.string()),
        ("select_top1", pa.float64()),
        ("select_top5", pa.float64()),
        ("select_loss", pa.float64()),
    ]
)


def parquet(results: Sequence[TicketResult]) -> bytes:
    """A row per ticket and control, columns as in SCHEMA."""
    return _parquet([msgspec.structs.asdict(result) for result in results], SCHEMA)


def parquet_of_replicates(results: Mapping[int, Sequence[TicketResult]]) -> bytes:
    """The same for several seeds, with the seed of its replicate as another column, `replicate`, in front.

    A ticket's own `seed` chooses its order of images within its replicate.
    """
    rows = [
        {"replicate": replicate, **msgspec.structs.asdict(result)}
        for replicate, of_one in results.items()
        for result in of_one
    ]
    return _parquet(rows, SCHEMA.insert(0, pa.field("replicate", pa.int64())))


def csv(blob: bytes) -> bytes:
    """`results.csv`: the rows and columns of a `results.parquet`; what is not known is empty."""
    sink = io.BytesIO()
    pa_csv.write_csv(pq.read_table(io.BytesIO(blob)), sink)
    return sink.getvalue()


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()
