"""Blobs on a local filesystem, by their whole path: there with all of their bytes, or not there."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.tmp", re.DOTALL)


def temporary(name: str) -> str:
    """A name in the same folder, for a file that is not whole yet."""
    path = PurePosixPath(name)
    return str(path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp")


def is_temporary(name: str) -> bool:
    """Whether `temporary` made the name."""
    return _TEMPORARY.fullmatch(PurePosixPath(name).name) is not None


def write(name: str, data: bytes) -> None:
    """Writes the blob. An older one of that name stays if that fails."""
    new = temporary(name)
    try:
        _write(new, data)
        rename(new, name)
    except BaseException:
        discard(new)
        raise


def create(name: str, data: bytes, settle: float) -> bool:
    """Writes the blob if there is none; True if it was this call that did.

    Exact on a filesystem with hard links. On others (exFAT, a mounted bucket) readers may see the blob empty for a
    moment. As a mounted bucket may let two callers create it, it is read back after `settle` seconds: the last to write
    wins. That needs `data` that tells callers apart.
    """
    new = temporary(name)
    try:
        _write(new, data)
        with contextlib.suppress(FileExistsError):
            return _link(new, name) or (_create(name, data) and _is_settled(name, data, settle))
        return False
    finally:
        discard(new)


def rename(new: str, name: str) -> None:
    """Gives a whole file its name, in one step; a file of that name is replaced."""
    Path(new).replace(name)


def discard(name: str) -> None:
    """Deletes the file, if possible."""
    with contextlib.suppress(OSError):
        Path(name).unlink()


def _write(name: str, data: bytes) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    with open(name, "wb") as file:  # noqa: PTH123
        _fill(file, data)


def _fill(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())  # else a power cut may leave the name with no content


def _link(new: str, name: str) -> bool:
    """Whether the name could be given to the file: the one step that fails if it is taken, with `FileExistsError`."""
    try:
        os.link(new, name)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _create(name: str, data: bytes) -> bool:
    file = open(name, "xb")  # noqa: PTH123, SIM115 - whether it is there already is the caller's question
    try:
        with file:
            _fill(file, data)
    except BaseException:
        discard(name)
        raise
    return True


def _is_settled(name: str, data: bytes, settle: float) -> bool:
    time.sleep(settle)
    with contextlib.suppress(FileNotFoundError):  # deleted since: whoever did saw another's
        return Path(name).read_bytes() == data
    return False
