"""The job from end to end: prepare, choose the images, convert them, commit the dataset."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from preprocessing.common.claim import CLAIM, claimed
from preprocessing.common.retries import patiently
from preprocessing.common.spark_session import spark_context
from preprocessing.common.storage import Store
from preprocessing.dataset.manifest import Manifest, read_manifest
from preprocessing.job.commit import build_manifest, commit
from preprocessing.job.convert import convert_carefully, convert_shard
from preprocessing.job.output import State, begin, inspect
from preprocessing.job.prepare import Chosen, Prepared, Request, choose_images, describe_source, prepare
from preprocessing.job.rejections import count_reasons, too_many
from preprocessing.job.shards import WORK, Shard, ShardRecord, plan_shards, recorded_shards
from preprocessing.job.spark_run import convert_all, spark_mapper
from preprocessing.job.staging import locate, plan_units, stage, staged_folder

logger = logging.getLogger(__name__)

StartSpark = Callable[[str], AbstractContextManager[Any]]


def run(request: Request, start_spark: StartSpark = spark_context) -> Manifest:
    """Makes the dataset, unless it is there already. Raises `BusyError` if another job is making it."""
    ready = prepare(request)
    output = ready.output
    if ready.state is State.DONE and not patiently(lambda: output.exists(CLAIM), output):
        return _report_existing(output)
    patiently(output.check_writable, output)
    with claimed(output, "preprocessing job"):
        # Another job may have written to the output since.
        state = patiently(lambda: inspect(output, ready.fingerprint, request.overwrite), output)
        ready = replace(ready, state=state)
        if ready.state is State.DONE:
            patiently(lambda: output.delete_tree(WORK), output)  # left by a job that was killed at its very end
            return _report_existing(output)
        return _make(request, ready, start_spark)


def _make(request: Request, ready: Prepared, start_spark: StartSpark) -> Manifest:
    chosen = choose_images(ready, request.settings) if ready.source.listed_quickly else None
    with start_spark("preprocess") as context:
        if chosen is None:
            chosen = choose_images(ready, request.settings, spark_mapper(context, ready.source.store))
        if chosen.skipped.total():
            logger.info(chosen.skipped.summary())
        source = describe_source(ready.source, chosen.skipped)
        if ready.state is State.FRESH:
            description = {"source": source, "settings": request.settings.as_dict()}
            patiently(lambda: begin(ready.output, ready.fingerprint, description), ready.output)
        records = _convert(request, ready, chosen, context)
    rejected = [image for record in records for image in record.rejected]
    manifest = build_manifest(records, chosen.counts, chosen.classes, request.settings, ready.fingerprint, source)
    names = patiently(ready.source.names, ready.source.store)
    patiently(lambda: commit(ready.output, manifest, rejected, names), ready.output)
    reasons = f" ({count_reasons(rejected)})" if rejected else ""
    print(f"{ready.output.describe()}: {summary(manifest)}{reasons}", flush=True)
    return manifest


def _convert(request: Request, ready: Prepared, chosen: Chosen, context: Any) -> list[ShardRecord]:
    """The records of all shards: those finished by an earlier run, and the others, which it converts now."""
    splits, images = chosen.splits, ready.source.store
    if ready.source.staged:
        splits, images = _stage(ready, splits, context), staged_folder(ready.output, ready.fingerprint)
    shards = plan_shards(splits, request.settings)
    finished = finished_shards(ready, shards)
    if finished:
        logger.info("%s of %s shards were finished by an earlier run", f"{len(finished):,}", f"{len(shards):,}")
    done = {(record.split, record.index) for record in finished}
    settings: dict[str, Any] = {
        "source": images,
        "output": ready.output,
        "settings": request.settings,
        "fingerprint": ready.fingerprint,
    }
    return finished + convert_all(
        context,
        [shard for shard in shards if (shard.split, shard.index) not in done],
        functools.partial(convert_shard, **settings),
        carefully=functools.partial(convert_carefully, **settings),
        finished=finished,
        recorded=functools.partial(recorded_shards, ready.output, ready.fingerprint),
        give_up=functools.partial(too_many, images=sum(chosen.counts.values()), limit=request.max_rejected),
    )


def _stage(ready: Prepared, splits: dict[str, pa.Table], context: Any) -> dict[str, pa.Table]:
    """The images as they are in the staged blobs, which it makes unless they are there."""
    units = plan_units(splits)
    mapper = spark_mapper(context, ready.source.store, ready.output, stage="stage")
    indexes = stage(units, ready.source.extract(), ready.output, ready.fingerprint, mapper)
    return {split: locate(table, units, indexes) for split, table in splits.items()}


def finished_shards(ready: Prepared, shards: Iterable[Shard]) -> list[ShardRecord]:
    """Records of the shards that an earlier run of the same job finished."""
    return recorded_shards(ready.output, ready.fingerprint, shards) if ready.state is State.BEGUN else []


def summary(manifest: Manifest) -> str:
    """A dataset in a line."""
    parts = [f"{name} {info.count:,}" for name, info in sorted(manifest.splits.items())]
    skipped = sum(found["files"] for found in manifest.source.get("skipped", {}).values())
    others = f", {skipped:,} other files skipped" if skipped else ""
    return (
        f"{manifest.images_in:,} images in = {manifest.images_in - manifest.rejected:,} rows ({', '.join(parts)}) "
        f"+ {manifest.rejected:,} rejected, {len(manifest.classes):,} classes, hash {manifest.hash[:12]}{others}"
    )


def _report_existing(output: Store) -> Manifest:
    manifest = patiently(lambda: read_manifest(output), output)
    assert manifest is not None  # it has just been read
    print(f"{output.describe()} holds this dataset already: {summary(manifest)}; nothing to do", flush=True)
    return manifest
