"""What every store offers: whole blobs by name, and errors that name the place."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from pyarrow import fs as pafs

from preprocessing.common.errors import StorageError
from preprocessing.common.names import file_path, last_part
from preprocessing.common.places import Place
from preprocessing.common.storage_errors import reason, remedy
from preprocessing.common.stores import local_files

# Seconds that `Store.create` gives a rival's write to land, if the filesystem has no exclusive create.
SETTLE_SECONDS = 1.0


class Entry(NamedTuple):
    """A file below a store's root: its name relative to the root, and its size in bytes."""

    name: str
    size: int


class Store(ABC):
    """A folder on a filesystem; `storage.open_store` makes one. Its parts are named by relative paths with `/`.

    A store is cheap, opens its filesystem on first use and can be pickled. An absent file raises `FileNotFoundError`;
    any other failure of the filesystem raises `StorageError`; a name that would lead outside, ValueError.
    """

    is_local: ClassVar[bool] = False

    def __init__(self, place: Place) -> None:
        self._place = place
        self._opened: tuple[Any, str] | None = None

    @property
    def uri(self) -> str:
        """A string from which `open_store` makes an equal store. For messages there is `describe`."""
        return self._place.uri

    @property
    def local_path(self) -> Path | None:
        """The folder as a path; None if it is not on a local filesystem."""
        return Path(self._place.path) if self.is_local else None

    def child(self, name: str) -> Store:
        """The store rooted at `name` below this one."""
        _check_name(name)
        return type(self)(self._place.child(name))

    def describe(self, path: str = "") -> str:
        """The folder, or the file or folder `path` in it, for people: without the settings that a URI may end in."""
        return (self._place.child(path) if path else self._place).base

    def encloses(self, other: Store) -> bool:
        """Whether `other` is this folder or lies below it, as far as their URIs tell."""
        return self._place.encloses(other._place)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __getstate__(self) -> Place:
        return self._place  # a filesystem may hold sockets and credentials: it is opened again where the store arrives

    def __setstate__(self, place: Place) -> None:
        self._place, self._opened = place, None

    def read(self, path: str) -> bytes:
        """The whole blob; `FileNotFoundError` if there is none."""
        with self._explained("read", path):
            return self._read(self._name(path))

    def open_input(self, path: str) -> Any:
        """A seekable `pyarrow.NativeFile`; `FileNotFoundError` if there is no such file."""
        with self._explained("read", path):
            return self._fs.open_input_file(self._name(path))

    def write(self, path: str, data: bytes) -> None:
        """Writes the blob whole: either all of `data` is there, or what was there before still is."""
        with self._explained("write", path):
            self._write(self._name(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """Writes the blob only if there is none; True if the blob is this caller's. `data` must tell callers apart.

        Exact on a local disk, HDFS, S3 and GCS: of several callers one wins. Not exact on S3-compatible servers without
        conditional puts, see `RemoteStore`.
        """
        with self._explained("write", path):
            return self._create(path, data)

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local path to write a large file to; it appears as `path` if the block ends without an exception."""
        with self._explained("write", path), self._replacing(self._name(path)) as local:
            yield local

    def check_writable(self) -> None:
        """Raises `InputError` if nothing can be written here, as far as that shows; leaves nothing behind."""
        with self._explained("write to", ""):
            self._check_writable()

    def delete_tree(self, path: str = "") -> None:
        """Deletes the folder and everything below it; does nothing if there is none."""
        with self._explained("delete", path):
            self._delete_tree(self._name(path))

    def exists(self, path: str) -> bool:
        """Whether there is a file (not a folder) of that name."""
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        """The file's size in bytes; None if there is no such file."""
        with self._explained("look at", path):
            info = self._fs.get_file_info(self._name(path))
            return int(info.size) if info.type == pafs.FileType.File else None

    def is_folder(self, path: str = "") -> bool:
        """Whether there is a folder of that name; on an object store, whether any name begins with it."""
        with self._explained("look at", path):
            return bool(self._fs.get_file_info(self._name(path)).type == pafs.FileType.Directory)

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders directly in folder `prefix`, sorted; empty if it is absent."""
        return self.level(prefix)[0]

    def entries(self, prefix: str = "", *, recursive: bool = True) -> list[Entry]:
        """The files below folder `prefix`, by name relative to the store; temporary files are left out.

        A local name that is not UTF-8 is as Python's own functions have it (see `names`).
        """
        root = self._name("").rstrip("/") + "/"
        found = [
            Entry(path[len(root) :] if path.startswith(root) else path, int(info.size))
            for info in self._select(prefix, recursive=recursive)
            if info.type == pafs.FileType.File and not self._is_hidden(path := file_path(info))
        ]
        return sorted(found)

    def level(self, prefix: str = "") -> tuple[list[str], list[Entry]]:
        """The names of all folders and of all files (with their sizes) directly in folder `prefix`, by one listing."""
        here = self._name(prefix).rstrip("/")  # pyarrow lists it as in itself if a bucket has a name such as `a//b`
        infos = [info for info in self._select(prefix, recursive=False) if file_path(info).rstrip("/") != here]
        found = [(last_part(file_path(info)), info) for info in infos]
        folders = [name for name, info in found if info.type == pafs.FileType.Directory]
        files = [Entry(name, int(info.size)) for name, info in found if info.type == pafs.FileType.File]
        return sorted(folders), sorted(files)

    def delete(self, path: str) -> None:
        """Deletes the file; does nothing if there is none."""
        with self._explained("delete", path), contextlib.suppress(FileNotFoundError):
            self._delete(self._name(path))

    def delete_temporaries(self, prefix: str) -> None:
        """Deletes, below folder `prefix`, the temporary files of writers that were killed."""
        for info in self._select(prefix, recursive=True):
            path = file_path(info)
            if info.type == pafs.FileType.File and local_files.is_temporary(path):
                self._discard(path)

    # What the kinds of store do in ways of their own. `name` is a whole path on the filesystem.

    @abstractmethod
    def _open(self) -> tuple[Any, str]:
        """The `pyarrow.fs.FileSystem`, and the folder's path on it."""

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    @abstractmethod
    def _write(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def _create(self, path: str, data: bytes) -> bool: ...

    @abstractmethod
    def _replacing(self, name: str) -> contextlib.AbstractContextManager[Path]: ...

    @abstractmethod
    def _check_writable(self) -> None: ...

    @abstractmethod
    def _delete_tree(self, name: str) -> None: ...

    def _delete(self, name: str) -> None:
        self._fs.delete_file(name)

    def _is_hidden(self, path: str) -> bool:
        return local_files.is_temporary(path)

    @property
    def _fs(self) -> Any:
        return self._open()[0]

    def _name(self, path: str) -> str:
        """A path as the filesystem knows it."""
        if not path:
            return self._open()[1]
        _check_name(path)
        return f"{self._open()[1].rstrip('/')}/{path}"

    def _select(self, prefix: str, *, recursive: bool) -> Iterable[Any]:
        with self._explained("list", prefix):
            selector = pafs.FileSelector(self._name(prefix), allow_not_found=True, recursive=recursive)
            return tuple(self._fs.get_file_info(selector))

    def _discard(self, name: str) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):
            self._fs.delete_file(name)

    @contextlib.contextmanager
    def _explained(self, action: str, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            what = f"cannot {action} {self.describe(path)}: {reason(error)}"
            raise StorageError(f"{what}; {remedy(error, local=self.is_local)}") from error

    def list(self, prefix: str = "") -> list[str]:
        """Names of the files below folder `prefix`, relative to the store, sorted; empty if it is absent."""
        return [entry.name for entry in self.entries(prefix)]


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "" in parts:
        raise ValueError(f"not a relative name inside a store: {name!r}")
