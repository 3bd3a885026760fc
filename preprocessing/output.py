"""The state of the folder a dataset goes to, before a job: free, finished, begun, or somebody else's."""

from __future__ import annotations

import enum
import shutil
from pathlib import Path

from preprocessing.errors import InputError
from preprocessing.manifest import LABELS, MANIFEST, REJECTED, read_manifest
from preprocessing.shards import WORK, work_folder
from preprocessing.sources import MINIVAL, TRAIN, VAL
from preprocessing.storage import Store

# All that a dataset consists of. Nothing else is ever deleted.
OWN_FOLDERS = (TRAIN, VAL, MINIVAL, WORK)
OWN_FILES = (LABELS, REJECTED)


class State(enum.Enum):
    """What a job has to do."""

    FRESH = "write it all"
    BEGUN = "write what is left"
    DONE = "nothing"


def inspect(output: Store, fingerprint: str, overwrite: bool) -> State:
    """What is left to do at `output` for the dataset of that fingerprint; changes nothing.

    Raises `InputError` where another dataset is in the way and `overwrite` is not given, and, whatever is given, where
    the folder holds what is no dataset's.
    """
    place = output.uri
    if output.exists(MANIFEST):
        if overwrite:
            return State.FRESH
        manifest = read_manifest(output)
        if manifest is None or manifest.fingerprint != fingerprint:
            raise InputError(
                f"{place} holds a dataset of another source or other settings: give --overwrite, or another --output"
            )
        sizes = dict(output.entries())
        for info in manifest.splits.values():
            for file in info.files:
                if sizes.get(file.name) != file.bytes:
                    raise InputError(f"{place}/{file.name} is missing or damaged: give --overwrite to make it again")
        return State.DONE
    if output.is_folder(work_folder(fingerprint)):
        return State.BEGUN
    entries = output.entries(recursive=False)
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


def clear(output: Store) -> None:
    """Deletes a dataset, finished or not; its manifest first, so that what is left is never taken for one."""
    output.delete(MANIFEST)
    for name in OWN_FILES:
        output.delete(name)
    for name in OWN_FOLDERS:
        output.delete_tree(name)


def bytes_there(output: Store) -> int:
    """Bytes of images, finished or not, that are at `output`."""
    return sum(entry.size for name in (TRAIN, VAL, MINIVAL) for entry in output.entries(name))


def check_room(output: Store, needed: int) -> int | None:
    """Free bytes where `output` is, or None where that cannot be asked; `InputError` if fewer than `needed`."""
    folder: Path | None = output.local_path
    if folder is None:
        return None
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{output.uri}: {needed / 1e9:,.1f} GB are needed and {free / 1e9:,.1f} GB are free: "
            "free some space, choose another --output, or use --codec jpeg"
        )
    return free
