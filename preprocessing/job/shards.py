"""Shards: which rows go into which file, and the record that proves a file complete."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store
from preprocessing.dataset.manifest import FileInfo
from preprocessing.job.settings import Settings

# A split has at least so many files, to keep as many cores busy. A file of more than MAX_ROWS is expensive to lose.
MIN_SHARDS = 16
MAX_ROWS = 2048
# A record takes a round trip or two, on a bucket.
RECORD_THREADS = 16
WORK = "_work"


class RejectedImage(msgspec.Struct, frozen=True, array_like=True):
    """An image that became no row, and why."""

    split: str
    id: str
    reason: str
    detail: str


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished shard holds. Written after its file: a file with a record is complete.

    `file` is None if no image of the shard could be used. `digest` is the shard's. Sums are per channel, over the
    decoded pixels.
    """

    split: str
    index: int
    digest: str = msgspec.field(name="plan")
    images: int
    file: FileInfo | None
    class_counts: dict[int, int]
    pixel_sum: tuple[int, int, int]
    pixel_square_sum: tuple[int, int, int]
    rejected: list[RejectedImage]


@dataclass(frozen=True)
class Shard:
    """One task: the images in `rows` (an Arrow stream, part of the selection) become a file. `digest` is their hash."""

    split: str
    index: int
    images: int
    rows: bytes
    digest: str = ""

    @property
    def file_name(self) -> str:
        """Name of the Parquet file in the dataset."""
        return f"{self.split}/part-{self.index:05}.parquet"

    def record_name(self, fingerprint: str) -> str:
        """Name of the shard's record in the dataset."""
        return f"{work_folder(fingerprint)}/{self.split}-{self.index:05}.json"

    def table(self) -> pa.Table:
        """The images, in the order of the rows."""
        return pa.ipc.open_stream(self.rows).read_all()


def work_folder(fingerprint: str) -> str:
    """The folder in the dataset with the records of an unfinished job."""
    return f"{WORK}/{fingerprint[:16]}"


def plan_shards(splits: dict[str, pa.Table], settings: Settings) -> list[Shard]:
    """Cuts every split into files. Depends on its arguments only, not on the cluster."""
    shards = []
    for split, table in sorted(splits.items()):
        step = settings.rows_per_shard or default_rows(len(table), settings.row_group_rows)
        for index, start in enumerate(range(0, len(table), step)):
            part = table.slice(start, step).combine_chunks()
            shards.append(Shard(split, index, len(part), serialise(part), _digest(part)))
    return shards


def default_rows(images: int, row_group_rows: int) -> int:
    """Images per file for a split: whole row groups, at least `MIN_SHARDS` files, no file above `MAX_ROWS`."""
    groups = images // (MIN_SHARDS * row_group_rows)
    return max(1, min(groups, MAX_ROWS // row_group_rows)) * row_group_rows


def recorded_shards(output: Store, fingerprint: str, shards: Iterable[Shard]) -> list[ShardRecord]:
    """Records of the shards that are finished."""
    with ThreadPoolExecutor(RECORD_THREADS) as pool:
        records = pool.map(lambda shard: patiently(lambda: read_record(output, fingerprint, shard), output), shards)
        return [record for record in records if record is not None]


def read_record(store: Store, fingerprint: str, shard: Shard) -> ShardRecord | None:
    """The record of this shard, if there is one and its file is as it says; else None."""
    try:
        record = msgspec.json.decode(store.read(shard.record_name(fingerprint)), type=ShardRecord)
    except (FileNotFoundError, ValueError):  # msgspec's own, or Unicode's
        return None
    if record.digest != shard.digest:  # from a version that cut the split into other files
        return None
    whole = record.file is None or store.size(record.file.name) == record.file.bytes
    return record if whole else None


def _digest(table: pa.Table) -> str:
    digest = hashlib.sha256("\0".join(table.column("id").to_pylist()).encode())
    digest.update(table.column("label").to_numpy().tobytes() + table.column("length").to_numpy().tobytes())
    return digest.hexdigest()


def serialise(table: pa.Table) -> bytes:
    """The table as an Arrow stream, as `Shard.rows` holds it."""
    sink = io.BytesIO()
    # The source's names all go through the driver: 1.3 million are 150 MB, or 30 MB compressed.
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()
