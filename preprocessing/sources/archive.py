"""Lists the files of one tar archive, which is in a store or inside another tar; or explains why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from preprocessing.common.errors import StorageError
from preprocessing.common.storage import Store
from preprocessing.common.storage_errors import reason, remedy
from preprocessing.sources.skipped import HIDDEN, LINK_IN_TAR, NO_FILE, Skipped, why_no_image
from preprocessing.sources.tar_index import Member, ReadAt, TarError, members

Found = TypeVar("Found")

# A round trip to a bucket takes as long as reading about a megabyte. Headers of images lie closer together than that:
# it is faster to read everything, in blocks that grow. Headers of class tars lie farther apart: one by one.
_NEAR = 1 << 20
_FIRST_BLOCK, _LARGEST_BLOCK = 1 << 16, 1 << 23


class Archive(NamedTuple):
    """A tar to index: [offset, offset + length) of file `path`. `name` is `path`, or its class if it is a class tar."""

    path: str
    name: str
    offset: int
    length: int


def compressed(names: Sequence[str], archive: str) -> str | None:
    """A message about the file among `names` that is `archive`, compressed; None if there is none."""
    for suffix, command in ((".gz", "gunzip"), (".bz2", "bunzip2"), (".xz", "unxz"), (".zst", "unzstd")):
        if f"{archive}{suffix}" in names:
            return f"{archive}{suffix} is compressed, and has to be unpacked first: {command} {archive}{suffix}"
    return None


def index_archive(store: Store, archive: Archive) -> list[Member] | str:
    """The files in a tar, with offsets into the file that holds it; or, as text, why it cannot be used.

    Raises as `read_archive` does.
    """
    return read_archive(store, archive, lambda _, found: list(found))


def read_archive(store: Store, archive: Archive, work: Callable[[ReadAt, Iterator[Member]], Found]) -> Found | str:
    """What `work` makes of a tar's bytes and members; or, as text, why the tar cannot be used.

    What is wrong with the tar is returned, not raised: this runs in tasks, and Spark tries again what raises. Raises
    `StorageError` if storage fails, which may pass.
    """
    try:
        with store.open_input(archive.path) as source:
            read_at: ReadAt = lambda offset, length: source.read_at(length, offset)  # noqa: E731
            packed = compression(read_at(archive.offset, min(8, archive.length)))
            if packed:
                return explain_compression(store, archive, *packed)
            if not store.is_local:
                read_at = ReadAhead(read_at, archive.offset + archive.length)
            return work(read_at, members(read_at, archive.offset, archive.length))
    except FileNotFoundError:
        return f"{store.describe(archive.path)} was deleted a moment ago: put it back, and run the same command again"
    except (OSError, pa.ArrowException) as error:
        what = f"cannot read {store.describe(archive.path)}: {reason(error)}"
        raise StorageError(f"{what}; {remedy(error, local=store.is_local)}") from error
    except TarError as error:
        inner = "" if archive.name == archive.path else f": {archive.name}.tar in it"
        return f"{store.describe(archive.path)}{inner} is damaged: {error}; download it again"


class ReadAhead:
    """`read_at` that reads ahead in blocks, and keeps one."""

    def __init__(self, read_at: Any, end: int) -> None:
        self._read_at = read_at
        self._end = end
        self._start = 0
        self._block = b""
        self._size = _FIRST_BLOCK

    def __call__(self, offset: int, length: int, /) -> bytes:
        """`length` bytes from `offset`, or fewer at the end."""
        if not self._start <= offset <= offset + length <= self._start + len(self._block):
            near = 0 <= offset - self._start - len(self._block) <= _NEAR
            self._size = min(2 * self._size, _LARGEST_BLOCK) if near else _FIRST_BLOCK
            self._start = offset
            self._block = self._read_at(offset, max(length, min(self._size, self._end - offset)))
        return self._block[offset - self._start : offset - self._start + length]


def compression(start: bytes) -> tuple[str, str, str] | None:
    """How a file is compressed, by its first bytes: the format, the command that unpacks it, and its suffix."""
    for magic, *found in (
        (b"\x1f\x8b", "gzip", "gunzip", ".gz"),
        (b"BZh", "bzip2", "bunzip2", ".bz2"),
        (b"\xfd7zXZ", "xz", "unxz", ".xz"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd", ".zst"),
    ):
        if start.startswith(magic):
            name, command, suffix = found
            return str(name), str(command), str(suffix)
    return None


def explain_compression(store: Store, archive: Archive, kind: str, command: str, suffix: str) -> str:
    """What to do with a file that is compressed as `compression` says."""
    if archive.name != archive.path:
        inner = f"{store.describe(archive.path)}: {archive.name}.tar in it is compressed with {kind}"
        return f"{inner}, which cannot be read: download the official file"
    where = f"{store.describe(archive.path)} is compressed with {kind}, and has to be unpacked first"
    return f"{where}: mv {archive.path} {archive.path}{suffix} && {command} {archive.path}{suffix}"


def image_members(inside: Sequence[Member], archive: str, skipped: Skipped) -> list[Member]:
    """The images among an archive's members; all others are counted as skipped."""
    images = []
    for member in inside:
        reason = why_no_image(member.name)
        if member.kind and reason != HIDDEN:
            reason = LINK_IN_TAR if member.kind == "link" else NO_FILE
        if reason is None:
            images.append(member)
        else:
            skipped.add(reason, f"{archive}/{member.name}")
    return images
