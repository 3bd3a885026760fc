"""Row groups of remote datasets, cached in a local folder of bounded size that all processes of a node share."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path
from preprocessing.common.storage_errors import is_full
from preprocessing.dataset.mapping import map_file
from preprocessing.dataset.row_group import RowGroup, from_bytes, to_bytes
from preprocessing.dataset.schema import Codec

_LOCKS = 64  # lock files for all row groups: two that share one merely wait for each other
_STALE = 3600.0  # seconds after which a temporary file belongs to a process that was killed
_TEMPORARY = ".tmp"

logger = logging.getLogger(__name__)


class RowGroupCache:
    """A folder of row groups, of at most `limit` bytes in all.

    No row group is evicted for another of the same dataset: an epoch reads all of them, so the evicted one would be
    needed before its successor. Only other datasets make room, the least recently used first. A row group appears whole
    or not at all, and one process fetches it while the others wait.

    Raises InputError if the folder cannot be made or written to. On a full disk nothing more is cached.
    """

    def __init__(self, folder: str, limit: int, dataset_hash: str, codec: Codec, size: int) -> None:
        self._root, self._limit = local_path(folder, "input.cache_dir"), limit
        self._mine = self._root / dataset_hash[:24]
        self._codec, self._size = codec, size
        self._full = False
        try:
            (self._root / "locks").mkdir(parents=True, exist_ok=True)
            self._mine.mkdir(exist_ok=True)
            with self._locked("usage"):
                os.utime(self._mine)  # the datasets' order of use
        except OSError as error:
            if not is_full(error):
                raise InputError(
                    f"input.cache_dir: {folder} cannot be written to: {error.strerror}; choose a folder on a local disk"
                ) from error
            self._give_up(error)

    def get(self, name: str, fetch: Callable[[], RowGroup]) -> RowGroup:
        """The row group of that name, mapped. If it is not cached yet it is fetched, and cached if there is room."""
        found = self._read(name)
        if found is not None:
            return found
        if self._full:
            return fetch()
        try:
            with self._locked(f"{hash_of(name) % _LOCKS:02}"):
                found = self._read(name)  # another process may have been faster
                if found is None:
                    group = fetch()
                    found = self._add(name, group) or group
                return found
        except _UnusableError as error:
            self._give_up(error)
            return fetch()

    def _give_up(self, error: OSError) -> None:
        self._full = True  # the cache is a help: training goes on without it
        logger.warning("input.cache_dir: %s: %s; reading on without it", self._root, error.strerror)

    def _read(self, name: str) -> RowGroup | None:
        path = self._mine / name
        try:
            with path.open("rb") as file:
                data = map_file(file.fileno(), os.fstat(file.fileno()).st_size)
        except OSError:
            return None
        group = from_bytes(data, self._codec, self._size)
        if group is None:  # a disk that lost what it was given
            self._remove(path)
        return group

    def _add(self, name: str, group: RowGroup) -> RowGroup | None:
        parts = to_bytes(group)
        temporary = self._mine / f"{name}.{uuid.uuid4().hex}{_TEMPORARY}"
        try:
            if not self._reserve(temporary, sum(part.nbytes for part in parts)):
                self._full = True
                return None
            try:
                _fill(temporary, parts)
                temporary.rename(self._mine / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._release(temporary)
                raise
        except OSError as error:
            raise _UnusableError(error) from error
        return self._read(name)

    def _reserve(self, temporary: Path, size: int) -> bool:
        """Makes a file of `size` bytes, with room made for it if need be; False if there is not enough room.

        The file is the reservation: whoever counts the folder's bytes counts what others are about to write.
        """
        if size > self._limit:
            return False
        with self._locked("usage") as usage:
            used = _number(usage)
            if used is None or used + size > self._limit:
                used = self._make_room(size)
            fits = used + size <= self._limit
            if fits:
                temporary.touch()
                os.truncate(temporary, size)
                used += size
            _write_number(usage, used)
            return fits

    def _release(self, temporary: Path) -> None:
        """Gives a reservation back. The sum is forgotten, for another may have counted anew in the meantime."""
        with self._locked("usage") as usage:
            self._remove(temporary)
            os.ftruncate(usage, 0)

    def _make_room(self, size: int) -> int:
        """Removes other datasets until `size` more bytes fit; returns how many bytes are used then."""
        folders = [folder for folder in self._root.iterdir() if folder.is_dir() and folder.name != "locks"]
        used = {folder: _bytes_below(folder) for folder in folders}
        for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime):
            if sum(used.values()) + size <= self._limit:
                break
            if folder != self._mine:
                shutil.rmtree(folder, ignore_errors=True)  # a process that has mapped its files can still read them
                used[folder] = _bytes_below(folder)
        return sum(used.values())

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Holds a lock among all threads and processes; it ends with the process that holds it."""
        try:
            descriptor = os.open(self._root / "locks" / name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _UnusableError(error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # some network filesystems have no locks
                raise _UnusableError(error) from error
            yield descriptor
        finally:
            os.close(descriptor)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()


class _UnusableError(OSError):
    """The folder cannot be used any more, for example because the disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error))


def hash_of(name: str) -> int:
    """A number that is the same in every process, unlike Python's own `hash`."""
    return int.from_bytes(name.encode()[-8:], "little") % 65_521


def _fill(path: Path, parts: list[memoryview]) -> None:
    with path.open("r+b", buffering=0) as file:
        for part in parts:
            while part.nbytes:
                part = part[file.write(part) :]
        os.fsync(file.fileno())  # else a power cut may leave the name with no content


def _bytes_below(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat()
                if entry.name.endswith(_TEMPORARY) and time.time() - status.st_mtime > _STALE:
                    Path(entry.path).unlink()
                else:
                    total += status.st_size
    return total


def _number(descriptor: int) -> int | None:
    data = os.pread(descriptor, 32, 0)
    return int(data) if data.strip().isdigit() else None


def _write_number(descriptor: int, number: int) -> None:
    data = b"%d\n" % max(number, 0)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)
