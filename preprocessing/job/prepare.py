"""Checks the request, and chooses the images. Writes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.common.claim import check_unclaimed
from preprocessing.common.errors import InputError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.schema import image_bytes, stride
from preprocessing.job.output import State, check_room, inspect
from preprocessing.job.selection import account, choose_classes, select
from preprocessing.job.settings import Settings, check_max_rejected, job_fingerprint
from preprocessing.sources.base import NO_OPTIONS, Mapper, Source, SourceOptions
from preprocessing.sources.layouts import locate_source, source_store
from preprocessing.sources.skipped import Skipped

logger = logging.getLogger(__name__)

DEFAULT_MAX_REJECTED = 0.001
# Bytes per pixel and channel of a JPEG of quality 95, measured on ImageNet at 256 px. For estimates only.
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
    source_options: SourceOptions = NO_OPTIONS


@dataclass(frozen=True)
class Prepared:
    """A request whose inputs are checked, as far as that goes without reading images."""

    source: Source
    output: Store
    classes: list[str]  # none if the source has its `labels_inside`: `choose_images` chooses them
    fingerprint: str
    state: State


@dataclass(frozen=True)
class Chosen:
    """The images of each split, in the dataset's order; what was skipped; and the classes."""

    splits: dict[str, pa.Table]
    skipped: Skipped
    classes: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each split."""
        return {split: len(table) for split, table in self.splits.items()}


def prepare(request: Request) -> Prepared:
    """Checks a request; changes nothing. Raises every `InputError` that can be known before Spark starts.

    If `output` is in the way because another job is making it, it raises `BusyError`. Remote storage that fails is
    tried again for a minute or so.
    """
    request.settings.check()
    check_max_rejected(request.max_rejected)
    output = open_store(request.output)
    return patiently(lambda: _prepare(request, output), source_store(request.source), output)


def _prepare(request: Request, output: Store) -> Prepared:
    source = locate_source(request.source, request.layout, request.source_options)
    _check_apart(source.store, output)
    classes = [] if source.labels_inside else _choose_classes(source, request.settings)
    mark = job_fingerprint(source.signature(classes), request.settings)
    try:
        state = inspect(output, mark, request.overwrite)
    except InputError:
        check_unclaimed(output)  # else a job of other settings would be told to discard what another is making
        raise
    return Prepared(source, output, classes, mark, state)


def choose_images(ready: Prepared, settings: Settings, mapper: Mapper = map) -> Chosen:
    """Chooses the images, and logs a warning for each kind of skipped file that the user may have wanted.

    Raises `InputError` if the source is damaged, has too few images, or the disk has no room for them. A remote
    source that fails is tried again for a minute or so.
    """
    chosen = patiently(lambda: _choose(ready, settings, mapper), ready.source.store)
    for warning in chosen.skipped.warnings():
        logger.warning(warning)
    staged = sum(total_bytes(table) for table in chosen.splits.values()) if ready.source.staged else 0
    check_room(ready.output, estimate_bytes(chosen.splits, settings) + staged)
    return chosen


def _choose(ready: Prepared, settings: Settings, mapper: Mapper) -> Chosen:
    ready.source.read(mapper)
    classes = ready.classes or _choose_classes(ready.source, settings)
    catalogue = ready.source.catalogue(classes, mapper)
    splits = select(catalogue, classes, settings)
    return Chosen(splits, account(catalogue, splits), classes)


def _choose_classes(source: Source, settings: Settings) -> list[str]:
    return choose_classes(source.classes(), settings.classes, settings.seed)


def describe_source(source: Source, skipped: Skipped) -> dict[str, Any]:
    """The source, as in the manifest."""
    return {"uri": source.store.uri, "layout": source.layout, "skipped": skipped.as_dict()}


def estimate_bytes(splits: dict[str, pa.Table], settings: Settings) -> int:
    """About how large the dataset will be, in bytes."""
    images = sum(len(table) for table in splits.values())
    each = stride(settings.size) if settings.codec == "tensor" else image_bytes(settings.size) * JPEG_BYTES
    return int(images * (each + 64))


def total_bytes(table: pa.Table) -> int:
    """Bytes of all raw images in a table."""
    return int(np.sum(table.column("length").to_numpy(), dtype=np.int64))


def _check_apart(source: Store, output: Store) -> None:
    there, here = f"--source {source.describe()}", f"--output {output.describe()}"
    if source.encloses(output) and output.encloses(source):
        raise InputError(f"{here} is --source: give another --output")
    if source.encloses(output):
        raise InputError(f"{here} is inside {there}: give another --output")
    if output.encloses(source):
        raise InputError(f"{there} is inside {here}: give another --output")
