"""Checks the request, and chooses the images. Writes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from preprocessing.common.claim import check_unclaimed
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from preprocessing.dataset.schema import image_bytes, stride
from preprocessing.job.output import State, check_room, inspect
from preprocessing.job.selection import account, choose_classes, select
from preprocessing.job.settings import Settings, check_max_rejected, job_fingerprint
from preprocessing.sources.base import Mapper, Source
from preprocessing.sources.layouts import open_source
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


@dataclass(frozen=True)
class Prepared:
    """A request whose inputs are checked, as far as that goes without reading images."""

    source: Source
    output: Store
    classes: list[str]
    fingerprint: str
    state: State


@dataclass(frozen=True)
class Chosen:
    """The images of each split, in the dataset's order; and what was skipped."""

    splits: dict[str, pa.Table]
    skipped: Skipped

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each split."""
        return {split: len(table) for split, table in self.splits.items()}


def prepare(request: Request) -> Prepared:
    """Checks a request; changes nothing. Raises every `InputError` that can be known before Spark starts.

    If `output` is in the way because another job is making it, it raises `BusyError`.
    """
    request.settings.check()
    check_max_rejected(request.max_rejected)
    output = open_store(request.output)
    source = open_source(open_store(request.source), request.layout)
    _check_apart(source.store, output)
    classes = choose_classes(source.classes(), request.settings.classes, request.settings.seed)
    mark = job_fingerprint(source.signature(classes), request.settings)
    try:
        state = inspect(output, mark, request.overwrite)
    except InputError:
        check_unclaimed(output)  # else a job of other settings would be told to discard what another is making
        raise
    return Prepared(source, output, classes, mark, state)


def choose_images(ready: Prepared, settings: Settings, mapper: Mapper = map) -> Chosen:
    """Chooses the images, and logs a warning for each kind of skipped file that the user may have wanted.

    Raises `InputError` if the source is damaged, has too few images, or the disk has no room for them.
    """
    catalogue = ready.source.catalogue(ready.classes, mapper)
    splits = select(catalogue, ready.classes, settings)
    skipped = account(catalogue, splits)
    for warning in skipped.warnings():
        logger.warning(warning)
    check_room(ready.output, estimate_bytes(splits, settings))
    return Chosen(splits, skipped)


def describe_source(source: Source, skipped: Skipped) -> dict[str, Any]:
    """The source, as in the manifest."""
    return {"uri": source.store.uri, "layout": source.layout, "skipped": skipped.as_dict()}


def estimate_bytes(splits: dict[str, pa.Table], settings: Settings) -> int:
    """About how large the dataset will be, in bytes."""
    images = sum(len(table) for table in splits.values())
    each = stride(settings.size) if settings.codec == "tensor" else image_bytes(settings.size) * JPEG_BYTES
    return int(images * (each + 64))


def _check_apart(source: Store, output: Store) -> None:
    there, here = f"--source {source.describe()}", f"--output {output.describe()}"
    if source.encloses(output) and output.encloses(source):
        raise InputError(f"{here} is --source: give another --output")
    if source.encloses(output):
        raise InputError(f"{here} is inside {there}: give another --output")
    if output.encloses(source):
        raise InputError(f"{there} is inside {here}: give another --output")
