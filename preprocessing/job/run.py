"""The job from end to end: prepare, choose the images, convert them, commit the dataset."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from preprocessing.common.claim import CLAIM, claimed
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

logger = logging.getLogger(__name__)

StartSpark = Callable[[str], AbstractContextManager[Any]]


def run(request: Request, start_spark: StartSpark = spark_context) -> Manifest:
    """Makes the dataset, unless it is there already. Raises `BusyError` if another job is making it."""
    ready = prepare(request)
    output = ready.output
    if ready.state is State.DONE and not output.exists(CLAIM):
        return _report_existing(output)
    output.check_writable()
    with claimed(output, "preprocessing job"):
        # Another job may have written to the output since.
        ready = replace(ready, state=inspect(output, ready.fingerprint, request.overwrite))
        if ready.state is State.DONE:
            output.delete_tree(WORK)  # left by a job that was killed at its very end
            return _report_existing(output)
        return _make(request, ready, start_spark)


def _make(request: Request, ready: Prepared, start_spark: StartSpark) -> Manifest:
    chosen = choose_images(ready, request.settings) if ready.source.listed_quickly else None
    with start_spark("preprocess") as context:
        if chosen is None:
            chosen = choose_images(ready, request.settings, spark_mapper(context))
        if chosen.skipped.total():
            logger.info(chosen.skipped.summary())
        source = describe_source(ready.source, chosen.skipped)
        if ready.state is State.FRESH:
            begin(ready.output, ready.fingerprint, {"source": source, "settings": request.settings.as_dict()})
        records = _convert(request, ready, chosen, context)
    rejected = [image for record in records for image in record.rejected]
    manifest = build_manifest(records, chosen.counts, ready.classes, request.settings, ready.fingerprint, source)
    commit(ready.output, manifest, rejected, ready.source.names())
    reasons = f" ({count_reasons(rejected)})" if rejected else ""
    print(f"{ready.output.describe()}: {summary(manifest)}{reasons}", flush=True)
    return manifest


def _convert(request: Request, ready: Prepared, chosen: Chosen, context: Any) -> list[ShardRecord]:
    """The records of all shards: those finished by an earlier run, and the others, which it converts now."""
    shards = plan_shards(chosen.splits, request.settings)
    finished = finished_shards(ready, shards)
    if finished:
        logger.info("%s of %s shards were finished by an earlier run", f"{len(finished):,}", f"{len(shards):,}")
    done = {(record.split, record.index) for record in finished}
    settings: dict[str, Any] = {
        "source": ready.source.store,
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
    manifest = read_manifest(output)
    assert manifest is not None  # it has just been read
    print(f"{output.describe()} holds this dataset already: {summary(manifest)}; nothing to do", flush=True)
    return manifest
