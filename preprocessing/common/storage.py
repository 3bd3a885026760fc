"""Blobs on any filesystem, by URI or local path: whole or not at all, and with errors that name the place."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import fs as pafs

from preprocessing.common import local_files
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import file_path, last_part
from preprocessing.common.places import Place, parse
from preprocessing.common.storage_errors import reason, remedy

# The first bucket that a process opens initialises the client's library, and pyarrow lets threads race to do it, which
# crashes (apache/arrow#39897). Over all stores, as they share the library.
_OPENING = threading.Lock()
_TEMPORARY = re.compile(r"^\..*\.[0-9a-f]{32}\.tmp$")
_REPLACED = ".replaced"  # ends the name of a blob that is just being replaced, where that takes two renames
# Time that `Store.create` gives a rival's put to land, in seconds, where the filesystem has no exclusive create.
SETTLE_SECONDS = 1.0


class Entry(NamedTuple):
    """A file below a store's root: its name relative to the root, and its size in bytes."""

    name: str
    size: int


class Store:
    """A folder on a filesystem. Its parts are named by relative paths with `/` between them.

    `uri` is a local path (absolute or relative), or a URI: s3://, gs://, hdfs:// or file://. A store is cheap, opens
    its filesystem on first use and can be pickled. Nothing is read or created by making one. A URI that means nothing
    raises `InputError`; a failure of the storage is its kind `StorageError`, an absent file `FileNotFoundError`.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        self._place = parse(os.fspath(uri))
        self._scheme = self._place.scheme
        self._opened: tuple[Any, str] | None = None

    @property
    def uri(self) -> str:
        """The place as a string that makes an equal store: an absolute path if local, else a URI."""
        return self._place.uri

    @property
    def local_path(self) -> Path | None:
        """The folder as a path, or None where it is not on a local filesystem."""
        return None if self._scheme else Path(self._place.path)

    def child(self, name: str) -> Store:
        """The store rooted at `name` below this one."""
        _check_name(name)
        return _at(self._place.child(name))

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __getstate__(self) -> Place:
        return self._place  # a filesystem may hold sockets and credentials: it is opened again where the store arrives

    def __setstate__(self, place: Place) -> None:
        self._place, self._scheme, self._opened = place, place.scheme, None

    def read(self, path: str) -> bytes:
        """The whole blob; `FileNotFoundError` where there is none."""
        with self._explained("read", path):
            if not self._scheme:
                return Path(self._name(path)).read_bytes()
            try:
                return self._read_whole(self._name(path))
            except FileNotFoundError:
                if not self._renames:
                    raise
            try:  # while it is replaced it is aside, and stays there if whoever does it is killed
                return self._read_whole(self._name(path) + _REPLACED)
            except FileNotFoundError:  # or has just been replaced
                return self._read_whole(self._name(path))

    def open_input(self, path: str) -> Any:
        """A seekable `pyarrow.NativeFile`; `FileNotFoundError` where there is no such file."""
        with self._explained("read", path):
            return self._fs.open_input_file(self._name(path))

    def write(self, path: str, data: bytes) -> None:
        """Writes the blob whole: it is there with all of `data`, or what was there before still is."""
        with self._explained("write", path):
            if not self._scheme:
                local_files.write(self._name(path), data)
            elif not self._renames:
                self._put(path, data)
            else:
                temporary = local_files.temporary(self._name(path))
                try:
                    self._write_plainly(temporary, data)
                    self._rename(temporary, self._name(path))
                except BaseException:
                    self._discard(temporary)
                    raise

    def create(self, path: str, data: bytes) -> bool:
        """Writes the blob only if there is none; True if it was this call that did.

        Exact on a local filesystem; see `local_files.create` for one without hard links. Elsewhere there is no
        exclusive create: the blob is written, and read back after `SETTLE_SECONDS`, so that of several callers the last
        to put wins. That needs `data` which tells callers apart, and is wrong where a put takes longer than that.
        """
        with self._explained("write", path):
            if not self._scheme:
                return local_files.create(self._name(path), data, SETTLE_SECONDS)
            if self.exists(path):
                return False
            self.write(path, data)
            time.sleep(SETTLE_SECONDS)
            try:
                return self.read(path) == data
            except FileNotFoundError:  # deleted since: whoever did saw another's
                return False

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local path to write a large file to; the file appears as `path` when the block ends without an exception.

        Where the store is local that is a temporary name in the same folder, else a file in the system's temporary
        folder which is then uploaded.
        """
        with self._explained("write", path):
            if not self._scheme:
                temporary = local_files.temporary(self._name(path))
                try:
                    Path(temporary).parent.mkdir(parents=True, exist_ok=True)
                    yield Path(temporary)
                    local_files.rename(temporary, self._name(path))
                except BaseException:
                    local_files.discard(temporary)
                    raise
                return
            with tempfile.TemporaryDirectory(prefix="lottery-trellis-") as folder:
                local = Path(folder) / PurePosixPath(path).name
                yield local
                with local.open("rb") as source:
                    if self._renames:
                        temporary = local_files.temporary(self._name(path))
                        self._upload(temporary, source)
                        self._rename(temporary, self._name(path))
                    else:
                        self._upload(self._name(path), source)

    def check_writable(self) -> None:
        """Raises `InputError` where nothing can be written here, as far as that shows; leaves nothing behind."""
        folder = self.local_path
        if folder is None:
            name = f".{uuid.uuid4().hex}.tmp"
            self.write(name, b"")
            self.delete(name)
            return
        with self._explained("write to", ""):
            while not folder.exists():
                folder = folder.parent
            if not folder.is_dir():
                raise InputError(f"cannot write to {self.uri}: {folder} is a file; choose another place")
            probe = folder / f".{uuid.uuid4().hex}.tmp"
            probe.touch(exist_ok=False)
            probe.unlink()

    def exists(self, path: str) -> bool:
        """Whether there is a file (not a folder) of that name."""
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        """The file's size in bytes, or None where there is no such file."""
        with self._explained("look at", path):
            info = self._fs.get_file_info(self._name(path))
            return int(info.size) if info.type == pafs.FileType.File else None

    def is_folder(self, path: str = "") -> bool:
        """Whether there is a folder of that name; on an object store, whether any name begins with it."""
        with self._explained("look at", path):
            return bool(self._fs.get_file_info(self._name(path)).type == pafs.FileType.Directory)

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders directly in folder `prefix`, sorted; empty where it is absent."""
        return self.level(prefix)[0]

    def entries(self, prefix: str = "", *, recursive: bool = True) -> list[Entry]:
        """The files below folder `prefix`, by name relative to the store; temporaries are left out.

        A local name that is not UTF-8 is as Python's own functions have it (see `names`).
        """
        root = self._name("").rstrip("/") + "/"
        found = [
            Entry(path[len(root) :] if path.startswith(root) else path, int(info.size))
            for info in self._select(prefix, recursive=recursive)
            if info.type == pafs.FileType.File
            and not _TEMPORARY.match(last_part(path := file_path(info)))
            and not (self._renames and path.endswith(_REPLACED))
        ]
        return sorted(found)

    def level(self, prefix: str = "") -> tuple[list[str], list[Entry]]:
        """The names of all folders and of all files (with their sizes) directly in folder `prefix`, by one listing."""
        found = [(last_part(file_path(info)), info) for info in self._select(prefix, recursive=False)]
        folders = [name for name, info in found if info.type == pafs.FileType.Directory]
        files = [Entry(name, int(info.size)) for name, info in found if info.type == pafs.FileType.File]
        return sorted(folders), sorted(files)

    def delete(self, path: str) -> None:
        """Deletes the file; nothing happens where there is none."""
        with self._explained("delete", path), contextlib.suppress(FileNotFoundError):
            if self._renames:  # first, since it would be taken for the blob
                self._discard(self._name(path) + _REPLACED)
            self._fs.delete_file(self._name(path))

    def delete_temporaries(self, prefix: str) -> None:
        """Deletes, below folder `prefix`, what writers left that were killed."""
        for info in self._select(prefix, recursive=True):
            if info.type == pafs.FileType.File and _TEMPORARY.match(last_part(file_path(info))):
                self._discard(info.path)

    def delete_tree(self, path: str = "") -> None:
        """Deletes the folder and all that is below it; nothing happens where there is none."""
        with self._explained("delete", path):
            if not self._scheme:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(self._name(path))
            elif self.is_folder(path):
                self._fs.delete_dir(self._name(path))

    @property
    def _fs(self) -> Any:
        return self._open()[0]

    @property
    def _renames(self) -> bool:
        return self._scheme in ("hdfs", "viewfs")

    def _open(self) -> tuple[Any, str]:
        if self._opened is None and not self._scheme:
            self._opened = pafs.LocalFileSystem(), self._place.path
        if self._opened is None:
            with _OPENING:
                if self._opened is None:
                    self._opened = self._open_far()
        return self._opened

    def _open_far(self) -> tuple[Any, str]:
        try:
            filesystem, path = pafs.FileSystem.from_uri(self._place.strict_uri)
        except (pa.ArrowException, ValueError) as error:
            raise InputError(f"cannot reach {self.uri}: {reason(error)}; check the URI") from error
        except OSError as error:
            what = f"cannot reach {self.uri}: {reason(error)}"
            raise StorageError(f"{what}; {remedy(error, local=False)}") from error
        return filesystem, path

    def _name(self, path: str) -> str:
        if not path:
            return self._open()[1]
        _check_name(path)
        return f"{self._open()[1].rstrip('/')}/{path}"

    def _select(self, prefix: str, *, recursive: bool) -> Iterable[Any]:
        with self._explained("list", prefix):
            selector = pafs.FileSelector(self._name(prefix), allow_not_found=True, recursive=recursive)
            return tuple(self._fs.get_file_info(selector))

    def _write_plainly(self, name: str, data: bytes) -> None:
        self._fs.create_dir(str(PurePosixPath(name).parent), recursive=True)
        with self._fs.open_output_stream(name) as stream:
            stream.write(data)

    def _put(self, path: str, data: bytes) -> None:
        # The stream holds the blob back until it is closed, and closing it is the put. It is not closed on an exception
        # here, as closing commits what was written so far.
        stream = self._fs.open_output_stream(self._name(path), buffer_size=None)
        stream.write(data)
        stream.close()

    def _upload(self, name: str, source: Any) -> None:
        if self._renames:
            self._fs.create_dir(str(PurePosixPath(name).parent), recursive=True)
        stream = self._fs.open_output_stream(name)
        shutil.copyfileobj(source, stream, 8 << 20)
        stream.close()

    def _rename(self, temporary: str, name: str) -> None:
        # HDFS does not rename over a file: what is there is put aside, and `read` finds it there if this is killed now.
        replaced = self._fs.get_file_info(name).type == pafs.FileType.File
        if replaced:
            self._discard(name + _REPLACED)
            self._fs.move(name, name + _REPLACED)
        self._fs.move(temporary, name)
        if replaced:
            self._discard(name + _REPLACED)

    def _read_whole(self, name: str) -> bytes:
        with self._fs.open_input_stream(name) as stream:
            return bytes(stream.read())

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
            where = f"{self._place.base}/{path}" if path else self._place.base
            what = f"cannot {action} {where}: {reason(error)}"
            raise StorageError(f"{what}; {remedy(error, local=not self._scheme)}") from error

    def list(self, prefix: str = "") -> list[str]:
        """Names of the files below folder `prefix`, relative to the store, sorted; empty where it is absent."""
        return [entry.name for entry in self.entries(prefix)]


def _at(place: Place) -> Store:
    """The store of a place that was checked when it was typed."""
    store = Store.__new__(Store)
    store.__setstate__(place)
    return store


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "" in parts:
        raise ValueError(f"not a relative name inside a store: {name!r}")
