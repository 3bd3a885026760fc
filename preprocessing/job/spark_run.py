"""Runs shards on Spark: shows progress, stops early if too many images are rejected, and reports errors in one line."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import zipimport
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from preprocessing.common import log
from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from preprocessing.common.progress import StageProgress
from preprocessing.common.retries import patiently
from preprocessing.common.spark_errors import driver_failure, reported
from preprocessing.common.storage import Store
from preprocessing.job.shards import RejectedImage, Shard, ShardRecord
from preprocessing.sources.base import Mapper

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
_GROUP = "lottery-trellis-preprocess"


def spark_mapper(context: Any, *stores: Store, stage: str = "index") -> Mapper:
    """A `map` whose calls are tasks, which work on `stores` and are shown as `stage`. Results come back in order."""

    def run(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        if not items:
            return []
        ended = context.accumulator(0)

        def task(item: Any) -> Any:
            found = patiently(lambda: function(item), *stores)
            ended.add(1)
            return found

        with StageProgress(stage, len(items), "files") as progress, _polling(lambda: progress.update(ended.value)):
            return _collect(context, items, task)

    return run


class WorkerDiedError(InputError):
    """A Python worker died and took the job with it. The cause is not known here."""


# Turns a shard into its file and record.
Convert = Callable[[Shard], ShardRecord]


def convert_all(
    context: Any,
    shards: Sequence[Shard],
    convert: Convert,
    *,
    carefully: Convert,
    finished: Sequence[ShardRecord],
    recorded: Callable[[Sequence[Shard]], list[ShardRecord]],
    give_up: Callable[[Iterable[RejectedImage]], str | None],
) -> list[ShardRecord]:
    """Converts `shards`, one task each. Returns their records.

    If a Python worker dies, the shards that are unfinished by then (`recorded` finds the records of the others) are
    converted again by `carefully`, in which no image can kill the worker. `finished` are records of earlier runs.
    `give_up` gets all rejections so far, and may return a reason to stop at once, which becomes an `InputError`.
    """
    try:
        return _convert_all(context, shards, convert, finished, give_up)
    except WorkerDiedError:
        whole = recorded(shards)
        there = {(record.split, record.index) for record in whole}
        left = [shard for shard in shards if (shard.split, shard.index) not in there]
        logger.warning(
            "a Python worker died, perhaps of an image, perhaps for lack of memory; %s unfinished shards are converted "
            "again, with decoders in processes of their own",
            f"{len(left):,}",
        )
    try:
        return whole + _convert_all(context, left, carefully, [*finished, *whole], give_up)
    except WorkerDiedError as death:
        raise InputError(
            "a Python worker died again, although images were decoded in other processes: no image is the cause. "
            "Perhaps memory ran out and the kernel killed it; give tasks more memory "
            "(spark.executor.memoryOverhead), or run fewer at a time (spark.task.cpus), and run the same command again"
        ) from death


def _convert_all(
    context: Any,
    shards: Sequence[Shard],
    convert: Convert,
    finished: Sequence[ShardRecord],
    give_up: Callable[[Iterable[RejectedImage]], str | None],
) -> list[ShardRecord]:
    from pyspark.accumulators import AccumulatorParam

    class Append(AccumulatorParam):  # type: ignore[type-arg,misc,unused-ignore]
        """Collects what each task found when it ends."""

        def zero(self, value: list[Any]) -> list[Any]:
            return []

        def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:  # noqa: N802 - Spark's name
            value1 += value2
            return value1

    ended = context.accumulator([], Append())
    resumed = sum(record.images for record in finished)
    earlier = [image for record in finished for image in record.rejected]
    verdict: list[str] = []

    def task(shard: Shard) -> ShardRecord:
        record = convert(shard)
        ended.add([((record.split, record.index), (record.images, record.rejected))])
        return record

    def look() -> None:
        found = dict(ended.value)  # by shard, as a task may run twice
        rejected = earlier + [image for _, images in found.values() for image in images]
        progress.update(resumed + sum(count for count, _ in found.values()), rejected=len(rejected))
        reason = give_up(rejected)
        if reason and not verdict:
            verdict.append(reason)
            with contextlib.suppress(InputError), _explained():  # the job itself reports a failure of Spark
                context.cancelJobGroup(_GROUP)

    with _explained():
        context.setJobGroup(_GROUP, "convert images", interruptOnCancel=True)
    total = resumed + sum(shard.images for shard in shards)
    records: list[ShardRecord] = []
    try:
        with StageProgress("convert", total, "images", resumed=resumed) as progress, _polling(look):
            records = _collect(context, shards, task)
    except InputError:
        if not verdict:
            raise
    reason = verdict[0] if verdict else give_up(earlier + [image for record in records for image in record.rejected])
    if reason:
        raise InputError(reason)
    return records


def _collect(context: Any, items: Sequence[Any], task: Callable[[Any], Any]) -> list[Any]:
    """Runs a task for each item; returns their results. Raises as `_explained` does."""

    def run(item: Any) -> Any:
        spare_later_tasks()
        with reported():
            log.configure()
            return task(item)

    if not items:
        return []
    with _explained():
        found: list[Any] = context.parallelize(items, len(items)).map(run).collect()
    return found


@contextmanager
def _explained() -> Iterator[None]:
    """Around a call to Spark.

    Raises `StorageError` if storage failed, `WorkerDiedError` if a Python worker died, else `InputError`.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException, OSError, AttributeError) as error:
        raise _as_error(driver_failure(error)) from error


def _as_error(failure: Failure) -> InputError:
    if failure.kind is Kind.SPARK_ENDED:
        return InputError(f"{failure.message}; run the same command again to continue")
    if failure.kind is Kind.STORAGE:
        return StorageError(failure.message)
    if failure.kind is Kind.BAD_INPUT:
        return InputError(failure.message)
    kind = WorkerDiedError if failure.kind is Kind.WORKER_DIED else InputError
    return kind(
        f"the Spark job failed: {failure.message[:300]}; see the log above, fix that, and run the same command again"
    )


@contextmanager
def _polling(look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` every so often while the block runs, and once after it."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            look()
        look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def spare_later_tasks() -> None:
    """Saves every later task of this worker a tenth of a second.

    PySpark invalidates the import caches before each task, upon which Python reads the table of contents of pyspark.zip
    once for every package in it; all that is needed from there has long been imported. It also collects garbage after
    each task, among the objects of all the libraries, which are there to stay.
    """
    gc.freeze()
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]
