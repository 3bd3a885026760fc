"""Files named with braces, as a shell or the webdataset library expands them: `shards-{000000..000146}.tar`."""

from __future__ import annotations

import itertools
import re

from preprocessing.common.errors import InputError

_MOST_FILES = 1_000_000
_BRACES = re.compile(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def split_braces(source: str) -> tuple[str, tuple[str, ...]] | None:
    """The folder of a source that is named with braces, and the files below it; None if it has no braces.

    Raises `InputError` for a range that is not one, and for more files than anyone has.

    >>> split_braces("s3://bucket/set/shard-{08..10}.tar")
    ('s3://bucket/set', ('shard-08.tar', 'shard-09.tar', 'shard-10.tar'))
    """
    path, mark, settings = source.partition("?")  # a URI may end in settings
    if not _BRACES.search(path):
        return None
    folder, slash, _ = path[: path.index("{")].rpartition("/")
    pieces = _BRACES.split(path[len(folder) + len(slash) :])
    choices = [_choices(piece, source) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    total = 1
    for choice in choices:
        total *= len(choice)
    if total > _MOST_FILES:
        raise InputError(f"--source {source} names {total:,} files: correct the numbers in the braces")
    files = ["".join(parts) for parts in itertools.product(*choices)]
    if len(set(files)) < total or not all(files):
        raise InputError(f"--source {source} names a file twice: correct the braces")
    return (folder or (slash or ".")) + mark + settings, tuple(files)


def _choices(inside: str, source: str) -> list[str]:
    if ".." not in inside:
        return inside.split(",")
    match = _RANGE.fullmatch(inside)
    first, last = (int(match[1]), int(match[2])) if match else (1, 0)
    if match is None or first > last:
        raise InputError(f"--source {source}: {{{inside}}} is not a range such as {{000..146}}: correct it")
    if last - first >= _MOST_FILES:
        raise InputError(f"--source {source}: {{{inside}}} names {last - first + 1:,} files: correct it")
    digits = len(match[1]) if match[1].startswith("0") else 0
    return [f"{number:0{digits}}" for number in range(first, last + 1)]
