"""Running shards on Spark: progress while it runs, an early stop, and errors in one line."""

from __future__ import annotations

import gc
import re
import sys
import threading
import zipimport
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from preprocessing.errors import InputError
from preprocessing.progress import Progress
from preprocessing.shards import RejectedImage, Shard, ShardRecord

POLL_SECONDS = 0.2
_GROUP = "lottery-trellis-preprocess"


@contextmanager
def spark_context(name: str) -> Iterator[Any]:
    """A Spark context with what spark-submit configured, stopped at the end."""
    from pyspark import SparkConf, SparkContext  # not before every input is checked: this starts the JVM

    context = SparkContext.getOrCreate(SparkConf().setAppName(name))
    try:
        yield context
    finally:
        context.stop()


def spark_mapper(context: Any) -> Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]:
    """A `map` whose calls are tasks. Results come back in order."""

    def run(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        if not items:
            return []
        with _explained():
            results: list[Any] = context.parallelize(items, len(items)).map(function).collect()
            return results

    return run


def convert_all(
    context: Any,
    shards: Sequence[Shard],
    convert: Callable[[Shard], ShardRecord],
    *,
    finished: Sequence[ShardRecord],
    give_up: Callable[[Iterable[RejectedImage]], str | None],
) -> list[ShardRecord]:
    """Converts `shards`, one task each; the records, in order.

    `finished` are of earlier runs. `give_up` gets all rejections so far, and may return the reason to stop at once,
    which becomes an `InputError`.
    """
    from pyspark.accumulators import AccumulatorParam

    class Append(AccumulatorParam):  # type: ignore[type-arg,misc,unused-ignore]
        """Collects what tasks found, when each ends."""

        def zero(self, value: list[Any]) -> list[Any]:
            return []

        def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:  # noqa: N802 - Spark's name
            value1 += value2
            return value1

    ended = context.accumulator([], Append())
    resumed = sum(record.images for record in finished)
    earlier = [image for record in finished for image in record.rejected]
    total = resumed + sum(shard.images for shard in shards)
    stop = threading.Event()
    verdict: list[str] = []

    def watch() -> None:
        with Progress("convert", total, "images", resumed=resumed) as progress:
            while True:
                last = stop.wait(POLL_SECONDS)
                found = dict(ended.value)  # by shard, as a task may run twice
                rejected = earlier + [image for _, images in found.values() for image in images]
                progress.update(resumed + sum(count for count, _ in found.values()), rejected=len(rejected))
                reason = give_up(rejected)
                if reason and not verdict:
                    verdict.append(reason)
                    context.cancelJobGroup(_GROUP)
                if last:
                    return

    def task(shard: Shard) -> ShardRecord:
        spare_later_tasks()
        record = convert(shard)
        ended.add([((record.split, record.index), (record.images, record.rejected))])
        return record

    context.setJobGroup(_GROUP, "convert images", interruptOnCancel=True)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with _explained():
            records: list[ShardRecord] = context.parallelize(shards, len(shards)).map(task).collect() if shards else []
    except InputError:
        if not verdict:
            raise
        records = []
    finally:
        stop.set()
        watcher.join()
    reason = verdict[0] if verdict else give_up(earlier + [image for record in records for image in record.rejected])
    if reason:
        raise InputError(reason)
    return records


@contextmanager
def _explained() -> Iterator[None]:
    from py4j.protocol import Py4JJavaError

    try:
        yield
    except Py4JJavaError as error:
        raise InputError(explain(str(error))) from error


def spare_later_tasks() -> None:
    """Spares every later task of this worker a tenth of a second.

    PySpark invalidates the import caches before each task, upon which Python reads the table of contents of pyspark.zip
    once for every package in it; all that is needed from there has long been imported. It also collects garbage after
    each task, among the objects of all the libraries, which are there to stay.
    """
    gc.freeze()
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]


def explain(text: str) -> str:
    """The one line that matters of what Spark says when a job fails."""
    ours = re.findall(r"preprocessing\.errors\.InputError: (.+)", text)
    if ours:
        return str(ours[-1]).strip()
    python = re.findall(
        r"^(?!org\.|java|py4j)(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b: .+", text, re.MULTILINE
    )
    lost = re.findall(r"most recent failure: Lost task [^:]*: (?:[\w.$]+: )?(.+)", text)
    # Python's own error is the most telling; next is why Spark lost the task, as when a worker was killed.
    cause = next(iter([*python, *lost, *text.strip().splitlines()]))
    return f"the Spark job failed: {cause.strip()[:300]}; see the log above, mend that, and run the same command again"
