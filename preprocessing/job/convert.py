"""One task of the job: turns the images of a shard into a file and a record. Does not need Spark."""

from __future__ import annotations

import contextlib

import cv2
import msgspec

from preprocessing.common.errors import InputError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.shard_writer import ShardWriter
from preprocessing.images.decode import Rejected, decode
from preprocessing.images.decoder_process import DecoderDiedError, DecoderProcess
from preprocessing.images.raw_images import Decode, read_images
from preprocessing.job.settings import Settings
from preprocessing.job.shards import RejectedImage, Shard, ShardRecord

_MORE_MEMORY = "give tasks more memory (spark.executor.memoryOverhead), or run fewer at a time (spark.task.cpus)"


def convert_shard(shard: Shard, source: Store, output: Store, settings: Settings, fingerprint: str) -> ShardRecord:
    """Reads, decodes and writes a shard, then its record. Run again, it writes the same bytes again.

    Raises `InputError` with the name of an image for which memory runs out.
    """
    return _convert(shard, source, output, settings, fingerprint, decode)


def convert_carefully(shard: Shard, source: Store, output: Store, settings: Settings, fingerprint: str) -> ShardRecord:
    """As `convert_shard`, but decodes in another process; if that dies, in a new one for every image.

    An image that kills its decoder is rejected, and this process survives.
    """
    for per_image in (False, True):
        with contextlib.suppress(DecoderDiedError), DecoderProcess(settings.size, per_image=per_image) as process:
            return _convert(shard, source, output, settings, fingerprint, process.decode)
    raise InputError(
        f"{shard.file_name}: even a process that decodes no image was killed, as when memory runs out; {_MORE_MEMORY}"
    )


def _convert(
    shard: Shard, source: Store, output: Store, settings: Settings, fingerprint: str, decoder: Decode
) -> ShardRecord:
    return patiently(lambda: _convert_once(shard, source, output, settings, fingerprint, decoder), source, output)


def _convert_once(
    shard: Shard, source: Store, output: Store, settings: Settings, fingerprint: str, decoder: Decode
) -> ShardRecord:
    cv2.setNumThreads(1)  # Spark runs a task on every core
    with output.replacing(shard.file_name) as path:
        with ShardWriter(path, settings.size, settings.codec, settings.quality, settings.row_group_rows) as writer:
            rejected = _write_rows(shard, source, writer, settings.size, decoder)
        size = path.stat().st_size
    if writer.rows:
        file = FileInfo(shard.file_name, size, writer.rows, writer.row_groups, writer.file_hash)
    else:
        file = None
        output.delete(shard.file_name)
    record = _record(shard, file, writer, rejected)
    output.write(shard.record_name(fingerprint), msgspec.json.encode(record))
    return record


def _write_rows(shard: Shard, source: Store, writer: ShardWriter, size: int, decoder: Decode) -> list[RejectedImage]:
    """Writes a row for every image that can be decoded; returns the others."""
    table, rejected = shard.table(), []
    for image, label in zip(read_images(source, table), table.column("label").to_pylist(), strict=True):
        try:
            image.decode(size, writer.next_image(), decoder)
        except Rejected as error:
            rejected.append(RejectedImage(shard.split, image.id, error.reason, error.detail))
        except MemoryError as error:
            name = f"{shard.split}/{image.id} ({source.describe(image.place)})"
            raise InputError(f"{name} cannot be decoded: {error or 'memory ran out'}; {_MORE_MEMORY}") from error
        else:
            writer.add(label, image.id)
    return rejected


def _record(shard: Shard, file: FileInfo | None, writer: ShardWriter, rejected: list[RejectedImage]) -> ShardRecord:
    return ShardRecord(
        split=shard.split,
        index=shard.index,
        digest=shard.digest,
        images=shard.images,
        file=file,
        class_counts=writer.class_counts,
        pixel_sum=_channels(writer.pixel_sum),
        pixel_square_sum=_channels(writer.pixel_square_sum),
        rejected=rejected,
    )


def _channels(sums: list[int]) -> tuple[int, int, int]:
    red, green, blue = sums
    return red, green, blue
