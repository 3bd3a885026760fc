"""The output folder before a job: empty, finished, begun, or in use for something else."""

from __future__ import annotations

import enum
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from preprocessing.common.claim import is_of_claim
from preprocessing.common.errors import InputError
from preprocessing.common.retries import PATIENT_PAUSES
from preprocessing.common.storage import Store
from preprocessing.dataset.manifest import (
    COMMON_METADATA,
    FORMAT,
    LABELS,
    MANIFEST,
    REJECTED,
    FileInfo,
    Manifest,
    read_manifest,
)
from preprocessing.job.shards import WORK, work_folder
from preprocessing.sources.base import MINIVAL, TRAIN, VAL

logger = logging.getLogger(__name__)

# With the manifest, all that a dataset consists of. To replace a dataset, or to clean up, a job deletes these files and
# everything in these folders, and nothing else.
SPLITS = (TRAIN, VAL, MINIVAL)
OWN_FOLDERS = (*SPLITS, WORK)
OWN_FILES = (LABELS, REJECTED)
JOB = "job.json"
# Seconds between looks: a network share may show a file of another machine up to half a minute late.
SHARE_PAUSES = PATIENT_PAUSES


class State(enum.Enum):
    """What a job has to do."""

    FRESH = "write it all"
    BEGUN = "write what is left"
    DONE = "nothing"


def inspect(output: Store, fingerprint: str, overwrite: bool) -> State:
    """What is left to do at `output` for the dataset of that fingerprint; changes nothing.

    Raises `InputError` if another dataset is in the way and `overwrite` is false, and always if the folder holds
    anything that is not part of a dataset.
    """
    place = output.describe()
    if output.exists(MANIFEST):
        if FORMAT.encode() not in output.read(MANIFEST):
            raise InputError(f"{output.describe(MANIFEST)} is not a dataset's: give an empty or new folder as --output")
        if overwrite:
            return State.FRESH
        manifest = read_manifest(output)
        if manifest is None or manifest.fingerprint != fingerprint:
            raise InputError(
                f"{place} holds a dataset of another source or other settings: give --overwrite, or another --output"
            )
        _check_whole(output, manifest)
        return State.DONE
    if output.is_folder(work_folder(fingerprint)):
        return State.BEGUN
    entries = [entry for entry in output.entries(recursive=False) if not is_of_claim(entry.name)]
    folders = output.folders()
    foreign = [entry.name for entry in entries if entry.name not in OWN_FILES]
    foreign += [name for name in folders if name not in OWN_FOLDERS]
    if WORK in folders and not foreign:
        if overwrite:
            return State.FRESH
        raise InputError(
            f"{place} holds an unfinished dataset of another source or other settings: "
            "give --overwrite to discard it, or another --output"
        )
    if entries or folders:
        raise InputError(f"{place} is not empty and holds no dataset: give an empty or new folder as --output")
    return State.FRESH


def _check_whole(output: Store, manifest: Manifest) -> None:
    file = _first_not_whole(output, manifest)
    if file is not None:
        raise InputError(f"{output.describe(file.name)} is missing or damaged: give --overwrite to make it again")


def _first_not_whole(output: Store, manifest: Manifest) -> FileInfo | None:
    """The first of a dataset's Parquet files that is not there with its size; None if all are."""
    sizes = dict(output.entries())
    files = (file for info in manifest.splits.values() for file in info.files)
    return next((file for file in files if sizes.get(file.name) != file.bytes), None)


def check_visible(output: Store, manifest: Manifest) -> None:
    """Raises `InputError` unless the driver sees all files that tasks wrote: they may be on other machines' disks."""
    for pause in SHARE_PAUSES:
        file = _first_not_whole(output, manifest)
        if file is None:
            return
        logger.info("waiting until %s, which an executor has written, is seen here", output.describe(file.name))
        time.sleep(pause)
    file = _first_not_whole(output, manifest)
    if file is not None:
        raise InputError(
            f"--output {output.describe()}: the driver does not see {file.name}, which an executor has written: "
            "give a folder that all machines share, or a URI"
        )


def begin(output: Store, fingerprint: str, description: dict[str, Any]) -> None:
    """Makes room for a new dataset: deletes the one that was there, finished or not.

    It writes the new job's work folder first, so that `inspect` recognises what is left if the job is killed at any
    moment after that. Next it deletes the manifest, so that what is left is never taken for a dataset.
    """
    mine = work_folder(fingerprint)
    output.write(f"{mine}/{JOB}", json.dumps(description, indent=1).encode())
    output.delete(MANIFEST)
    for name in OWN_FILES:
        output.delete(name)
    for name in SPLITS:
        output.delete_tree(name)
    for name in output.folders(WORK):
        if f"{WORK}/{name}" != mine:
            output.delete_tree(f"{WORK}/{name}")


def sweep(output: Store, manifest: Manifest) -> None:
    """Deletes from the splits the files that are not of this dataset, left by killed tasks and replaced datasets."""
    wanted = {file.name for info in manifest.splits.values() for file in info.files}
    wanted |= {f"{split}/{COMMON_METADATA}" for split in manifest.splits}
    for split in SPLITS:
        output.delete_temporaries(split)
        for name in output.list(split):
            if name not in wanted:
                output.delete(name)


def check_room(output: Store, needed: int) -> int | None:
    """Free bytes on `output`'s disk, or None for a store that cannot tell. Raises `InputError` if `needed` is more.

    Files that are there already count as free: they are kept, or make room.
    """
    folder: Path | None = output.local_path
    if folder is None:
        return None
    needed -= sum(entry.size for split in SPLITS for entry in output.entries(split))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{output.describe()}: {needed / 1e9:,.1f} GB are needed and {free / 1e9:,.1f} GB are free: "
            "free some space, choose another --output, or use --codec jpeg"
        )
    return free
