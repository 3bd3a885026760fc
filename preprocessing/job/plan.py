"""`--plan`: what a job would read and write, and how long it would take. Writes nothing and does not start Spark."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.common.progress import StageProgress, format_duration
from preprocessing.common.retries import patiently
from preprocessing.images.decode import Rejected
from preprocessing.images.decoder_process import DecoderDiedError, DecoderProcess
from preprocessing.images.raw_images import RawImage, read_images
from preprocessing.job.output import State, check_room
from preprocessing.job.prepare import Chosen, Prepared, Request, choose_images, estimate_bytes, prepare, total_bytes
from preprocessing.job.run import finished_shards
from preprocessing.job.shards import plan_shards
from preprocessing.job.staging import locate, plan_units, staged_before
from preprocessing.sources.base import Source

SAMPLE = 32
INDEX_THREADS = 8
# A task's time, as a multiple of decoding alone: measured by benchmarks/preprocess.py.
OVERHEAD = 1.25


def plan(request: Request) -> None:
    """Prints what `run` would do; raises what it would raise before it writes."""
    ready = prepare(request)
    if ready.state is State.DONE:
        print(f"{ready.output.describe()} holds this dataset already: nothing to do", flush=True)
        return
    chosen = choose_images(ready, request.settings, _threads)
    print(*describe(request, ready, chosen), sep="\n", flush=True)


def describe(request: Request, ready: Prepared, chosen: Chosen) -> list[str]:
    """The lines of the plan."""
    splits, units = chosen.splits, plan_units(chosen.splits) if ready.source.staged else []
    staged = staged_before(units, ready.output, ready.fingerprint)
    if units and len(staged) == len(units):
        splits = {split: locate(table, units, staged) for split, table in splits.items()}
    shards = plan_shards(splits, request.settings)
    finished = finished_shards(ready, shards)
    images = sum(len(table) for table in splits.values())
    kept = sum(record.images for record in finished)
    counts = ", ".join(f"{name} {count:,}" for name, count in chosen.counts.items())
    raw = sum(total_bytes(table) for table in splits.values())
    written = estimate_bytes(splits, request.settings)
    free = check_room(ready.output, 0)
    room = f"{format_bytes(free)} free there" if free is not None else "free space there unknown"
    verb = {State.FRESH: "write", State.BEGUN: "continue"}[ready.state]
    seconds = measure(ready.source, chosen.splits["train"], request.settings.size) * OVERHEAD * (images - kept)
    lines = [
        f"source: {ready.source.store.describe()}, layout {ready.source.layout}, {len(chosen.classes):,} classes",
        f"read: {images:,} images ({counts}), {format_bytes(raw)}",
        f"{verb}: {ready.output.describe()}, {len(shards):,} files, about {format_bytes(written)}; {room}",
    ]
    if units:
        size = format_bytes(sum(unit.size for unit in units))
        before = f" ({len(staged):,} were staged by an earlier run)" if staged else ""
        lines.append(f"stage: {len(units):,} files, about {size}{before}; deleted at the end")
    if chosen.skipped.total():
        lines.insert(2, chosen.skipped.summary())
    if kept:
        lines.append(f"kept from an earlier run: {len(finished):,} files with {kept:,} images")
    if request.overwrite and ready.state is State.FRESH:
        lines.append("replace: the dataset that is there now")
    lines.append(f"time: {describe_time(seconds, os.cpu_count() or 1)}")
    return lines


def measure(source: Source, table: pa.Table, size: int) -> float:
    """Seconds of one core to decode an image and resize it, from a sample; reading it from storage does not count."""
    images = patiently(lambda: _sample(source, table), source.store)
    out = np.empty((size, size, 3), np.uint8)
    seconds, started = 0.0, 0
    while started < len(images):
        # In another process, as this one has yet to print its plan. After an image that kills it comes a new one.
        with contextlib.suppress(DecoderDiedError), DecoderProcess(size, per_image=False) as process:
            for image in images[started:]:
                started += 1
                with contextlib.suppress(Rejected, MemoryError):
                    image.decode(size, out, process.decode)
        seconds += process.seconds_spent
    return seconds / len(images)


def _sample(source: Source, table: pa.Table) -> list[RawImage]:
    """Some images of a table."""
    if source.staged:
        unit = plan_units({"": table})[0]
        numbers = unit.numbers[:SAMPLE].tolist()
        images = source.extract()(unit.path, numbers)
        return [RawImage("", unit.path, number, data) for number, data in zip(numbers, images, strict=True)]
    places = np.unique(np.linspace(0, len(table) - 1, SAMPLE).astype(np.int64))
    return list(read_images(source.store, table.take(pa.array(places))))


def describe_time(seconds: float, cores: int) -> str:
    """A time that is estimated for one core, and for all.

    >>> describe_time(75, 2), describe_time(0.2, 2)
    ('about 1 min 15 s on one core of this machine, 38 s on all 2', 'less than a minute on one core of this machine')
    """
    if round(seconds) < 60:
        return "less than a minute on one core of this machine"
    one, together = format_duration(seconds), format_duration(max(1.0, seconds / cores))
    return f"about {one} on one core of this machine, {together} on all {cores}"


def format_bytes(count: float) -> str:
    """A number of bytes, to three digits.

    >>> format_bytes(251_000_000_000), format_bytes(1234)
    ('251 GB', '1.23 kB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _threads(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
    found = []
    with ThreadPoolExecutor(INDEX_THREADS) as pool, StageProgress("index", len(items), "files") as progress:
        for result in pool.map(function, items):
            found.append(result)
            progress.update(len(found))
    return found
