"""Which Parquet files a dataset of the Hugging Face hub consists of, and of which split each is."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import TRAIN, VAL
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folder_images import skip_images, take_images
from preprocessing.sources.listing import list_folder, walk
from preprocessing.sources.skipped import OTHER_SPLIT, OUTSIDE, Skipped

logger = logging.getLogger(__name__)

SUFFIX = ".parquet"
VALIDATION, TEST = "validation", "test"
# The words in the name of a file or folder that tell its split, as the hub's own library takes them.
_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}
_NUMBERED = re.compile(r"(.*-)(\d{5,9})-of-(\d{5,9})\b.*\.parquet")
# More folders than this are classes, and not splits or datasets.
_MOST_FOLDERS = 16


class ParquetFile(NamedTuple):
    """A Parquet file: path and size in bytes."""

    path: str
    size: int


def holds_files(store: Store) -> bool:
    """Whether there is a Parquet file at the root, or at most two folders below it, and no class folder in `train`."""
    if store.is_folder(TRAIN):
        train = list_folder(store, TRAIN)
        classes = [name for name in train.folders if not is_hidden(name)]
        return not classes and any(_is_parquet(file) for file in train.files)
    return _holds_parquet(store, "", 2)


def find_splits(store: Store) -> tuple[dict[str, list[ParquetFile]], Skipped]:
    """The files of train and, if there are any, of val, by path; and what is not read.

    Raises `InputError` if a file is missing, or of an unknown split or another dataset.
    """
    found, skipped = _find_files(store)
    splits, unread = _choose_splits(store, _by_split(store, found))
    for file in unread:
        skipped.add(OTHER_SPLIT, file.path)
    return splits, skipped


def _is_parquet(file: Entry) -> bool:
    return file.name.endswith(SUFFIX) and not is_hidden(file.name)


def _holds_parquet(store: Store, path: str, depth: int) -> bool:
    folder = list_folder(store, path)
    if any(_is_parquet(file) for file in folder.files):
        return True
    below = [name for name in folder.folders if not is_hidden(name)]
    return (
        depth > 0
        and len(below) <= _MOST_FOLDERS
        and any(_holds_parquet(store, folder.join(name), depth - 1) for name in below)
    )


def _find_files(store: Store) -> tuple[list[ParquetFile], Skipped]:
    """All Parquet files, by path; and what else is there."""
    found, skipped = [], Skipped()
    for folder in walk(store, ()):
        hidden = is_hidden(folder.path)
        if folder.problem and not hidden:
            raise StorageError(folder.problem)
        mine = [] if hidden else [file for file in folder.files if _is_parquet(file)]
        found += [ParquetFile(folder.join(file.name), file.size) for file in mine]
        rest = folder._replace(files=[file for file in folder.files if file not in mine])
        skip_images(rest, take_images(rest, skipped), OUTSIDE, skipped)
    if not found:
        raise InputError(f"{store.describe()} has no *{SUFFIX} files: download the dataset again, or give --layout")
    return sorted(found), skipped


def _by_split(store: Store, files: Sequence[ParquetFile]) -> dict[str | None, list[ParquetFile]]:
    """The files of each split; None has those whose names tell none. `InputError` if they are of several datasets."""
    splits: dict[str | None, list[ParquetFile]] = {}
    datasets = set()
    for file in files:
        *folders, name = file.path.split("/")
        said = [split for part in (name.removesuffix(SUFFIX), *reversed(folders)) if (split := _split_of(part))]
        splits.setdefault(said[0] if said else None, []).append(file)
        datasets.add("/".join(folder for folder in folders if not _split_of(folder)))
    if len(datasets) > 1:
        some = ", ".join(one_line(name or "the root") for name in sorted(datasets)[:4])
        raise InputError(f"{store.describe()} holds more than one dataset ({some}): give the folder of one as --source")
    return splits


def _split_of(name: str) -> str | None:
    return next((_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in _WORDS), None)


def _choose_splits(
    store: Store, found: Mapping[str | None, list[ParquetFile]]
) -> tuple[dict[str, list[ParquetFile]], list[ParquetFile]]:
    """The files of train and of val, and the files of splits that are not read."""
    where = store.describe()
    unnamed = found.get(None, [])
    if unnamed and len(found) > 1:
        raise InputError(
            f"{one_line(store.describe(unnamed[0].path))}: its name tells no split (train, validation or test), and "
            "names of other files do: rename it, or move it out of the source"
        )
    train = unnamed or found.get(TRAIN, [])
    if not train:
        raise InputError(f"{where} has no file of train, such as train-00000-of-00001.parquet: download it as well")
    for files in found.values():
        _check_complete(store, files)
    val = found.get(VALIDATION) or found.get(TEST, [])
    if val and VALIDATION not in found:
        logger.info("%s has no split validation: val is test", where)
    unread = found.get(TEST, []) if VALIDATION in found else []
    return {TRAIN: train, **({VAL: val} if val else {})}, unread


def _check_complete(store: Store, files: Sequence[ParquetFile]) -> None:
    """Raises `InputError` if of files numbered `-00000-of-00294` one is missing, or there are two such sets."""
    sets: dict[str, dict[int, set[int]]] = {}
    for file in files:
        match = _NUMBERED.fullmatch(file.path)
        if match:
            sets.setdefault(match[1], {}).setdefault(int(match[3]), set()).add(int(match[2]))
    for name, totals in sets.items():
        where = one_line(store.describe(name))
        if len(totals) > 1:
            both = " and ".join(f"-of-{total:05}" for total in sorted(totals))
            raise InputError(f"{where}* are of two versions, {both}: remove one")
        for total, numbers in totals.items():
            missing = next((number for number in range(total) if number not in numbers), None)
            if missing is not None:
                raise InputError(f"{where}{missing:05}-of-{total:05}{SUFFIX} is missing: download it as well")
