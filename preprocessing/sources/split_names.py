"""Which split a file of many images belongs to: its name says, or that of a folder above it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Store
from preprocessing.sources.base import TRAIN, VAL

logger = logging.getLogger(__name__)

TEST = "test"
_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validate": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
}
_NUMBERED = re.compile(r"(.*-)(\d{2,9})-of-(\d{2,9})\b.*?(\.[a-z]+)?")
_BETWEEN = re.compile(r"[^a-z]+")


class SplitFiles(NamedTuple):
    """The files of each split, sorted, and those of splits that are not read."""

    splits: dict[str, list[str]]
    unread: list[str]


def split_of(path: str) -> str | None:
    """The split in a path's words, the last first; None if it names none.

    >>> split_of("train/imagenet-validation-00000-of-00128"), split_of("test/0000.tar"), split_of("shard-0.tar")
    ('val', 'test', None)
    """
    words = reversed(_BETWEEN.split(path.lower()))
    return next((_WORDS[word] for word in words if word in _WORDS), None)


def split_files(paths: Iterable[str], where: str) -> SplitFiles:
    """Sorts files into splits. Without a val, test is val. If no name tells a split, all is train.

    Raises `InputError` if no file is of train, or if only some names tell a split.
    """
    found: dict[str | None, list[str]] = {}
    for path in sorted(paths):
        found.setdefault(split_of(path), []).append(path)
    if found.keys() == {None}:
        found = {TRAIN: found[None]}
    if None in found:
        raise InputError(
            f"{where}: the name of {one_line(found[None][0])} tells no split (train, validation or test), and names of "
            "other files do: rename it, or move it out of the source"
        )
    if TRAIN not in found:
        names = ", ".join(files[0] for files in found.values())
        raise InputError(f"{where} has no files of train (only such as {names}): add them, or name them train-...")
    if VAL not in found and TEST in found:
        logger.info("%s has no val: its test split, such as %s, becomes val", where, found[TEST][0])
        found[VAL] = found.pop(TEST)
    splits = {split: found[split] for split in (TRAIN, VAL) if split in found}
    return SplitFiles(splits, sorted(path for split, files in found.items() if split not in splits for path in files))


def check_complete(store: Store, paths: Sequence[str]) -> None:
    """Raises `InputError` if of files numbered `-00000-of-00294` one is missing, or there are two such sets."""
    sets: dict[str, dict[str, dict[int, str]]] = {}
    for path in paths:
        match = _NUMBERED.fullmatch(path)
        if match:
            sets.setdefault(match[1], {}).setdefault(match[3], {})[int(match[2])] = match[4] or ""
    for name, totals in sets.items():
        where = one_line(store.describe(name))
        if len(totals) > 1:
            both = " and ".join(f"-of-{total}" for total in sorted(totals))
            raise InputError(f"{where}* are of two versions, {both}: remove one")
        for total, numbers in totals.items():
            missing = next((number for number in range(int(total)) if number not in numbers), None)
            if missing is not None:
                file = f"{where}{missing:0{len(total)}}-of-{total}{min(numbers.values())}"
                raise InputError(f"{file} is missing: download it as well")
