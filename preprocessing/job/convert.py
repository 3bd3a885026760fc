"""One task of the job: the images of a shard become a file and a record. No Spark here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.dataset.manifest import FileInfo
from preprocessing.dataset.shard_writer import ShardWriter
from preprocessing.images.decode import MAX_BYTES, TOO_LARGE, Rejected, decode
from preprocessing.images.decoder_process import DecoderDiedError, DecoderProcess
from preprocessing.images.fetch import read_images
from preprocessing.job.settings import Settings
from preprocessing.job.shards import RejectedImage, Shard, ShardRecord

_MORE_MEMORY = "give tasks more memory (spark.executor.memoryOverhead), or run fewer at a time (spark.task.cpus)"

# An image's bytes to pixels, uint8 [size, size, 3], in memory that is there.
_Decode = Callable[[bytes, int, NDArray[np.uint8]], object]


def convert_shard(
    shard: Shard, source: Store, output: Store, settings: Settings, fingerprint: str, carefully: bool = False
) -> ShardRecord:
    """Reads, decodes and writes a shard, then its record. Run again, it writes the same bytes again.

    `carefully` decodes in another process; where that dies, in one for every image, so that an image that kills its
    decoder is rejected. Raises `InputError` that names an image for which memory runs out.
    """
    if not carefully:
        return _convert(shard, source, output, settings, fingerprint, decode)
    for apart in (False, True):
        with contextlib.suppress(DecoderDiedError), DecoderProcess(settings.size, apart=apart) as process:
            return _convert(shard, source, output, settings, fingerprint, process.decode)
    raise InputError(
        f"{shard.file_name}: even a process that decodes no image was killed, as where memory runs out; {_MORE_MEMORY}"
    )


def _convert(
    shard: Shard, source: Store, output: Store, settings: Settings, fingerprint: str, decode_into: _Decode
) -> ShardRecord:
    cv2.setNumThreads(1)  # Spark runs a task on every core
    table = shard.table()
    rejected = []
    with output.replacing(shard.file_name) as path:
        with ShardWriter(path, settings.size, settings.codec, settings.quality, settings.row_group_rows) as writer:
            ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
            for name, label, data in zip(ids, labels, read_images(source, table, MAX_BYTES), strict=True):
                try:
                    if data is None:
                        raise Rejected(TOO_LARGE, f"more than {MAX_BYTES:,} bytes")
                    decode_into(data, settings.size, writer.next_image())
                except Rejected as error:
                    rejected.append(RejectedImage(shard.split, name, error.reason, error.detail))
                except MemoryError as error:
                    why = f"{shard.split}/{name} cannot be decoded: {error or 'memory ran out'}; {_MORE_MEMORY}"
                    raise InputError(why) from error
                else:
                    writer.add(label, name)
        size = path.stat().st_size
    file = None
    if writer.rows:
        file = FileInfo(shard.file_name, size, writer.rows, writer.row_groups, writer.file_hash)
    else:
        output.delete(shard.file_name)
    record = ShardRecord(
        split=shard.split,
        index=shard.index,
        plan=shard.plan,
        images=shard.images,
        file=file,
        class_counts=writer.class_counts,
        pixel_sum=_channels(writer.pixel_sum),
        pixel_square_sum=_channels(writer.pixel_square_sum),
        rejected=rejected,
    )
    output.write(shard.record_name(fingerprint), msgspec.json.encode(record))
    return record


def _channels(sums: list[int]) -> tuple[int, int, int]:
    red, green, blue = sums
    return red, green, blue
