"""Makes a dataset of the finished shards: adds up their records, writes the small files and, last, `manifest.json`."""

from __future__ import annotations

import io
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.dataset.manifest import (
    COMMON_METADATA,
    LABELS,
    MANIFEST,
    REJECTED,
    Manifest,
    SplitInfo,
    content_hash,
)
from preprocessing.dataset.petastorm_metadata import common_metadata
from preprocessing.job.output import check_visible, sweep
from preprocessing.job.settings import Settings
from preprocessing.job.shards import WORK, RejectedImage, ShardRecord
from preprocessing.sources.base import TRAIN

_LIBRARIES = (
    "lottery-trellis",
    "pyarrow",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "pillow",
)
_REJECTED_SCHEMA = pa.schema([(name, pa.string()) for name in ("split", "id", "reason", "detail")])


def build_manifest(
    records: Iterable[ShardRecord],
    planned: dict[str, int],
    classes: Sequence[str],
    settings: Settings,
    fingerprint: str,
    source: dict[str, Any],
) -> Manifest:
    """The manifest of a finished job. `planned` is the number of images of each split before any was decoded.

    Raises `InputError` if train has no rows, and `AssertionError` if the images do not add up: that is a bug, and must
    not become a dataset.
    """
    ordered = sorted(records, key=lambda record: (record.split, record.index))
    splits = {}
    for split, images in sorted(planned.items()):
        splits[split] = _add_up(split, images, [record for record in ordered if record.split == split], len(classes))
    if not splits[TRAIN].count:
        raise InputError("no image of train could be decoded: check that --source holds images")
    mean, std = _moments([record for record in ordered if record.split == TRAIN], splits[TRAIN].count, settings.size)
    return Manifest(
        hash=content_hash(settings.size, settings.codec, list(classes), splits),
        fingerprint=fingerprint,
        size=settings.size,
        codec=settings.codec,
        quality=settings.quality if settings.codec == "jpeg" else None,
        row_group_rows=settings.row_group_rows,
        classes=list(classes),
        mean=mean,
        std=std,
        splits=splits,
        images_in=sum(planned.values()),
        rejected=sum(len(record.rejected) for record in ordered),
        source=source,
        settings=settings.as_dict(),
        # A cluster's own pyspark is on the PYTHONPATH, not an installed package.
        software={
            "python": platform.python_version(),
            "pyspark": pyspark.__version__,
            **{name: version(name) for name in _LIBRARIES},
        },
    )


def _add_up(split: str, images: int, records: Sequence[ShardRecord], classes: int) -> SplitInfo:
    """A split of `images` images, from the records of its shards."""
    files = [record.file for record in records if record.file is not None]
    rows = sum(file.rows for file in files)
    counts = Counter[int]()
    for record in records:
        counts.update(record.class_counts)
    rejected = sum(len(record.rejected) for record in records)
    if rows + rejected != images or counts.total() != rows or sum(record.images for record in records) != images:
        raise AssertionError(f"{split}: {images} images in, but {rows} rows and {rejected} rejected")
    return SplitInfo(rows, [counts[label] for label in range(classes)], files)


def commit(output: Store, manifest: Manifest, rejected: Iterable[RejectedImage], names: dict[str, str]) -> None:
    """Writes the small files, then the manifest, which makes it a dataset.

    Raises `InputError` if the driver does not see what the tasks wrote.
    """
    check_visible(output, manifest)
    output.write(REJECTED, _rejected_table(rejected))
    output.write(LABELS, _labels(manifest.classes, names))
    for split, info in manifest.splits.items():
        data = common_metadata(info, manifest.size, manifest.codec, manifest.quality or 95)
        output.write(f"{split}/{COMMON_METADATA}", data)
    sweep(output, manifest)
    output.write(MANIFEST, manifest.to_json())
    output.delete_tree(WORK)


def _moments(records: Sequence[ShardRecord], images: int, size: int) -> tuple[Any, Any]:
    pixels = images * size * size
    sums = [sum(record.pixel_sum[channel] for record in records) for channel in range(3)]
    squares = [sum(record.pixel_square_sum[channel] for record in records) for channel in range(3)]
    mean = tuple(total / pixels for total in sums)
    # In integers up to the last division, as it is the difference of two large numbers.
    std = tuple(
        math.sqrt(square * pixels - total * total) / pixels for square, total in zip(squares, sums, strict=True)
    )
    return mean, std


def _labels(classes: Sequence[str], names: dict[str, str]) -> bytes:
    rows = [{"label": label, "class": name, "name": names.get(name)} for label, name in enumerate(classes)]
    return json.dumps(rows, indent=1, ensure_ascii=False).encode() + b"\n"


def _rejected_table(rejected: Iterable[RejectedImage]) -> bytes:
    rows = [msgspec.to_builtins(image) for image in sorted(rejected, key=lambda image: (image.split, image.id))]
    columns = list(zip(*rows, strict=True)) or [()] * len(_REJECTED_SCHEMA)
    table = pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=_REJECTED_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
