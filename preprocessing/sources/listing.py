"""Everything below a store, folder by folder, with what `Store.entries` leaves out: no file is lost unseen."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from preprocessing.common.errors import StorageError
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.file_names import is_hidden

# A folder of a bucket takes a round trip or two, and so does a file of a network drive.
LISTING_THREADS = 16
# Device and inode of a folder and of those above it.
_Above = frozenset[tuple[int, int]]


class Folder(NamedTuple):
    """What lies directly in folder `path` of a store ("" is its root), by name, without the path.

    `dead_links` lead to nothing, or back to a folder that they lie in. `special` are pipes, sockets and devices. If the
    folder could not be listed, `problem` says why, and the rest is empty.
    """

    path: str
    folders: list[str]
    files: list[Entry]
    dead_links: list[str]
    special: list[str]
    problem: str = ""

    def join(self, name: str) -> str:
        """The path of the file or folder of this name here."""
        return f"{self.path}/{name}" if self.path else name


def list_folder(store: Store, path: str = "") -> Folder:
    """One folder; empty if it is absent. Raises `StorageError` if it cannot be listed."""
    folder = _list(store, path, frozenset())[0]
    if folder.problem:
        raise StorageError(folder.problem)
    return folder


def walk(store: Store, needed: Sequence[str]) -> Iterator[Folder]:
    """Every folder below the store's root, and the root; a folder comes before those in it.

    Raises `StorageError` if the root cannot be listed, or a folder at or below one of `needed` that is not hidden. Any
    other folder that cannot be listed has a `problem`.
    """
    level: list[tuple[str, _Above]] = [("", frozenset())]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        while level:
            below: list[tuple[str, _Above]] = []
            for folder, above in pool.map(lambda task: _list(store, *task), level):
                if folder.problem and _is_needed(folder.path, needed):
                    raise StorageError(folder.problem)
                yield folder
                below += [(folder.join(name), above) for name in folder.folders]
            level = below


def _is_needed(path: str, needed: Sequence[str]) -> bool:
    return not path or (not is_hidden(path) and any(f"{path}/".startswith(f"{parent}/") for parent in needed))


def _list(store: Store, path: str, above: _Above) -> tuple[Folder, _Above]:
    try:
        if store.local_path is not None:
            return _scan(str(store.local_path / path), path, above)
        folders, files = store.level(path)  # links and pipes there are none
    except StorageError as error:
        return Folder(path, [], [], [], [], str(error)), above
    except OSError as error:
        where = error.filename or store.describe(path)
        problem = f"cannot list {where}: {error.strerror}; check the permissions and the disk"
        return Folder(path, [], [], [], [], problem), above
    return Folder(path, folders, files, [], []), above


def _scan(place: str, path: str, above: _Above) -> tuple[Folder, _Above]:
    found = Folder(path, [], [], [], [])
    try:
        here = os.stat(place)  # noqa: PTH116
        entries = os.scandir(place)
    except FileNotFoundError:
        return found, above
    inside = above | {(here.st_dev, here.st_ino)}
    with entries:
        for entry in entries:
            try:
                info = entry.stat()
            except OSError as error:
                if entry.is_symlink():
                    found.dead_links.append(entry.name)
                elif not isinstance(error, FileNotFoundError):  # else it has just been deleted
                    raise
                continue
            if stat.S_ISREG(info.st_mode):
                found.files.append(Entry(entry.name, info.st_size))
            elif not stat.S_ISDIR(info.st_mode):
                found.special.append(entry.name)
            elif entry.is_symlink() and (info.st_dev, info.st_ino) in inside:
                found.dead_links.append(entry.name)
            else:
                found.folders.append(entry.name)
    for names in (found.folders, found.files, found.dead_links, found.special):
        names.sort()
    return found, inside
