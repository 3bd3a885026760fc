"""Lists everything below a store, folder by folder, including what `Store.entries` leaves out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import one_line
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Entry, Store
from preprocessing.common.stores.object_store import ObjectStore
from preprocessing.sources.file_names import is_hidden

# Each file on a network drive costs a round trip.
LISTING_THREADS = 16
# Folders that are listed before the first of them is used: with their files they take memory.
_AHEAD = 256
# Device and inode of a folder and of the folders above it.
_Above = frozenset[tuple[int, int]]


class Folder(NamedTuple):
    """What lies directly in folder `path` of a store ("" is its root), by name, without the path.

    `dead_links` point to nothing, or to a folder that contains them. `special` are pipes, sockets and devices. If the
    folder could not be listed, `problem` says why, and the rest is empty. `nameless` are a bucket's objects below a
    folder with an empty name, such as `/b` for object `a//b` in folder `a`.
    """

    path: str
    folders: list[str]
    files: list[Entry]
    dead_links: list[str]
    special: list[str]
    problem: str = ""
    nameless: Sequence[str] = ()

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
    """The store's root and every folder below it; a folder comes before its subfolders.

    Raises `StorageError` if the root cannot be listed, or a folder at or below one of `needed` that is not hidden. Any
    other folder that cannot be listed has a `problem`. Raises `InputError` if such a folder has `nameless` objects.
    """
    for folder in _from_tree(*store.tree()) if isinstance(store, ObjectStore) else _by_level(store, needed):
        if folder.nameless and _is_needed(folder.path, needed):
            _check_names(store, folder)
        yield folder


def _from_tree(folders: Iterable[str], files: Iterable[Entry]) -> Iterator[Folder]:
    """Every folder of a bucket, from the paths of its folders and files. Folders need not have objects of their own."""
    found = {"": Folder("", [], [], [], [])}
    nameless: dict[str, list[str]] = {}

    def at(path: str) -> Folder:
        if path not in found:
            above, _, name = path.rpartition("/")
            at(above).folders.append(name)
            found[path] = Folder(path, [], [], [], [])
        return found[path]

    for path in folders:
        if "" not in path.split("/"):
            at(path)
    for path, size in files:
        named, empty, rest = f"/{path}".partition("//")
        if empty:
            nameless.setdefault(at(named[1:]).path, []).append(f"/{rest}")
        else:
            above, _, name = path.rpartition("/")
            at(above).files.append(Entry(name, size))
    for path in sorted(found):
        folder = found[path]
        yield folder._replace(
            folders=sorted(folder.folders), files=sorted(folder.files), nameless=nameless.get(path, [])
        )


def _check_names(store: Store, folder: Folder) -> None:
    lost = [path for path in map(folder.join, folder.nameless) if not is_hidden(path)]
    if lost:
        more = f" and {len(lost) - 1:,} more objects like it" if len(lost) > 1 else ""
        raise InputError(
            f"{one_line(store.describe(min(lost)))}{more}: a name with // in it cannot be read: "
            "rename these objects, or move them out of the source"
        )


def _by_level(store: Store, needed: Sequence[str]) -> Iterator[Folder]:
    level: list[tuple[str, _Above]] = [("", frozenset())]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        while level:
            below: list[tuple[str, _Above]] = []
            for start in range(0, len(level), _AHEAD):
                for folder, above in pool.map(lambda task: _list(store, *task), level[start : start + _AHEAD]):
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
        # No links or pipes here. An outage must not look like a folder that may be left out.
        folders, files = patiently(lambda: store.level(path), store)
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
