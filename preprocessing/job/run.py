"""Raw images to a dataset, from end to end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from preprocessing.common.claim import CLAIM, claimed
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.manifest import Manifest, read_manifest
from preprocessing.dataset.schema import image_bytes, stride
from preprocessing.job.commit import build_manifest, commit, commonest
from preprocessing.job.convert import convert_shard
from preprocessing.job.output import State, begin, check_room, inspect
from preprocessing.job.selection import account, choose_classes, select
from preprocessing.job.settings import Settings, check_max_rejected, fingerprint
from preprocessing.job.shards import WORK, RejectedImage, Shard, ShardRecord, plan_shards, read_record
from preprocessing.job.spark_run import convert_all, spark_context, spark_mapper
from preprocessing.sources.base import Mapper, Source
from preprocessing.sources.layouts import open_source
from preprocessing.sources.skipped import Skipped

DEFAULT_MAX_REJECTED = 0.001
# Bytes per pixel and channel of a JPEG of quality 95, measured on ImageNet at 256 px; for estimates alone.
JPEG_BYTES = 0.17


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    source: str
    output: str
    settings: Settings
    layout: str | None = None
    max_rejected: float = DEFAULT_MAX_REJECTED
    overwrite: bool = False


@dataclass(frozen=True)
class Prepared:
    """A request whose every input is checked, as far as that goes without reading images."""

    source: Source
    output: Store
    classes: list[str]
    fingerprint: str
    state: State


def prepare(request: Request) -> Prepared:
    """Checks a request; changes nothing. Every `InputError` that can come before Spark starts comes from here."""
    request.settings.check()
    check_max_rejected(request.max_rejected)
    output = open_store(request.output)
    source = open_source(open_store(request.source), request.layout)
    _check_apart(source.store, output)
    classes = choose_classes(source.classes(), request.settings.classes, request.settings.seed)
    mark = fingerprint(source.signature(classes), request.settings)
    return Prepared(source, output, classes, mark, inspect(output, mark, request.overwrite))


def run(request: Request, start_spark: Callable[[str], AbstractContextManager[Any]] = spark_context) -> Manifest:
    """Makes the dataset, or finds that it is made; `BusyError` where another job is making it."""
    ready = prepare(request)
    output = ready.output
    if ready.state is State.DONE and not output.exists(CLAIM):
        return _found(output)
    output.check_writable()
    with claimed(output, "preprocessing job"):
        # Another may have written to it since.
        ready = replace(ready, state=inspect(output, ready.fingerprint, request.overwrite))
        if ready.state is State.DONE:
            output.delete_tree(WORK)  # of a job that was killed at its very end
            return _found(output)
        return _make(request, ready, start_spark)


def _found(output: Store) -> Manifest:
    manifest = read_manifest(output)
    assert manifest is not None  # it has just been read
    say(f"{output.uri} holds this dataset already: {summary(manifest)}; nothing to do")
    return manifest


def _make(request: Request, ready: Prepared, start_spark: Callable[[str], AbstractContextManager[Any]]) -> Manifest:
    source, output = ready.source, ready.output
    splits, skipped = choose_images(ready, request.settings) if source.listed_quickly else ({}, Skipped())
    with start_spark("preprocess") as context:
        if not source.listed_quickly:
            splits, skipped = choose_images(ready, request.settings, spark_mapper(context))
        described = {"uri": source.store.uri, "layout": source.layout, "skipped": skipped.as_dict()}
        if ready.state is State.FRESH:
            begin(output, ready.fingerprint, {"source": described, "settings": request.settings.as_dict()})
        shards = plan_shards(splits, request.settings)
        finished = finished_shards(ready, shards)
        done = {(record.split, record.index) for record in finished}
        if finished:
            say(f"{len(finished)} of {len(shards)} shards are whole from an earlier run")
        convert = functools.partial(
            convert_shard,
            source=source.store,
            output=output,
            settings=request.settings,
            fingerprint=ready.fingerprint,
        )
        images = sum(shard.images for shard in shards)
        records = finished + convert_all(
            context,
            [shard for shard in shards if (shard.split, shard.index) not in done],
            convert,
            finished=finished,
            recorded=functools.partial(recorded_shards, output, ready.fingerprint),
            give_up=functools.partial(too_many, images=images, limit=request.max_rejected),
        )
    rejected = [image for record in records for image in record.rejected]
    planned = {split: len(table) for split, table in splits.items()}
    manifest = build_manifest(records, planned, ready.classes, request.settings, ready.fingerprint, described)
    commit(output, manifest, rejected, source.names())
    say(f"{output.uri}: {summary(manifest)}" + (f" ({commonest(rejected)})" if rejected else ""))
    return manifest


def choose_images(ready: Prepared, settings: Settings, mapper: Mapper = map) -> tuple[dict[str, pa.Table], Skipped]:
    """The images of each split in the dataset's order, and all other files of the source, which the user is told of.

    Raises `InputError` where the disk has no room for the images.
    """
    catalogue = ready.source.catalogue(ready.classes, mapper)
    splits = select(catalogue, ready.classes, settings)
    skipped = account(catalogue, splits)
    for line in skipped.lines():
        say(line)
    check_room(ready.output, estimate_bytes(splits, settings))
    return splits, skipped


def finished_shards(ready: Prepared, shards: Iterable[Shard]) -> list[ShardRecord]:
    """Records of the shards that an earlier run of the same job left whole."""
    return recorded_shards(ready.output, ready.fingerprint, shards) if ready.state is State.BEGUN else []


def recorded_shards(output: Store, fingerprint: str, shards: Iterable[Shard]) -> list[ShardRecord]:
    """Records of the shards that are whole."""
    with ThreadPoolExecutor(16) as pool:  # a round trip or two each, on a bucket
        records = pool.map(functools.partial(read_record, output, fingerprint), shards)
        return [record for record in records if record is not None]


def too_many(rejected: Iterable[RejectedImage], images: int, limit: float) -> str | None:
    """Why a job stops that has rejected more than `limit` (a fraction) of its images; None while it has not."""
    found = list(rejected)
    if len(found) <= limit * images:
        return None
    first = found[0]
    return (
        f"{len(found):,} of {images:,} images rejected so far, more than --max-rejected {limit:g} allows: "
        f"{commonest(found)}; the first is {first.split}/{first.id} ({first.detail}); "
        "mend the source, or give a larger --max-rejected"
    )


def estimate_bytes(splits: dict[str, pa.Table], settings: Settings) -> int:
    """About how large the dataset will be, in bytes."""
    images = sum(len(table) for table in splits.values())
    each = stride(settings.size) if settings.codec == "tensor" else image_bytes(settings.size) * JPEG_BYTES
    return int(images * (each + 64))


def summary(manifest: Manifest) -> str:
    """A dataset in a few words."""
    parts = [f"{name} {info.count:,}" for name, info in sorted(manifest.splits.items())]
    skipped = sum(found["files"] for found in manifest.source.get("skipped", {}).values())
    others = f", {skipped:,} other files not converted" if skipped else ""
    return (
        f"{manifest.images_in:,} images in = {manifest.images_in - manifest.rejected:,} rows ({', '.join(parts)}) "
        f"+ {manifest.rejected:,} rejected, {len(manifest.classes):,} classes, hash {manifest.hash[:12]}{others}"
    )


def say(text: str) -> None:
    """Tells the user, on standard output."""
    print(text, file=sys.stdout, flush=True)


def _check_apart(source: Store, output: Store) -> None:
    if source.encloses(output) or output.encloses(source):
        inside = f"--output {output.describe()} and --source {source.describe()} lie in each other"
        raise InputError(f"{inside}: give another --output")
