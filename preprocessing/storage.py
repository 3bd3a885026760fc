"""Blobs on any filesystem, by URI or local path: whole or not at all, and with errors that name the place."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from preprocessing.errors import InputError, StorageError

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_TEMPORARY = re.compile(r"^\..*\.[0-9a-f]{32}\.tmp$")
_REPLACED = ".replaced"  # ends the name of a blob that is just being replaced, where that takes two renames
_SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs", "file")
# Time that `Store.create` gives a rival's put to land, in seconds, where the filesystem has no exclusive create.
SETTLE_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


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
        text = os.fspath(uri)
        if not text.strip():
            raise InputError("an empty string is no place: give a folder or a URI such as s3://bucket/folder")
        self._query = ""
        if not _SCHEME.match(text):
            self._scheme = ""
            self._base = os.path.abspath(text)  # noqa: PTH100 - `absolute` would leave the `..` in
        else:
            parts = urlsplit(text)
            if parts.scheme not in _SCHEMES:
                raise InputError(f"{text}: unknown scheme {parts.scheme}://; known are {', '.join(_SCHEMES)}")
            if parts.scheme == "file":
                self._scheme = ""
                self._base = os.path.abspath(unquote(parts.path))  # noqa: PTH100
            else:
                if not parts.netloc and parts.scheme != "hdfs":
                    raise InputError(f"{text}: names no bucket; write {parts.scheme}://bucket/folder")
                self._scheme = parts.scheme
                self._base = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
                self._query = f"?{parts.query}" if parts.query else ""
        self._opened: tuple[Any, str] | None = None

    @property
    def uri(self) -> str:
        """The place as a string that makes an equal store: an absolute path if local, else a URI."""
        return self._base + self._query

    @property
    def local_path(self) -> Path | None:
        """The folder as a path, or None where it is not on a local filesystem."""
        return None if self._scheme else Path(self._base)

    def child(self, name: str) -> Store:
        """The store rooted at `name` below this one."""
        _check_name(name)
        return Store(f"{self._base}/{name}{self._query}")

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __getstate__(self) -> str:
        return self.uri  # a filesystem may hold sockets and credentials: it is opened again where the store arrives

    def __setstate__(self, uri: str) -> None:
        self.__init__(uri)  # type: ignore[misc]

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
            if self._scheme and not self._renames:
                self._put(path, data)
                return
            temporary = self._temporary(path)
            try:
                self._write_plainly(temporary, data)
                self._rename(temporary, self._name(path))
            except BaseException:
                self._discard(temporary)
                raise

    def create(self, path: str, data: bytes) -> bool:
        """Writes the blob only if there is none; True if it was this call that did.

        Exact on a local filesystem. Elsewhere there is no exclusive create: the blob is written, and read back after
        `SETTLE_SECONDS`, so that of several callers the last to put wins. That needs `data` which tells callers apart,
        and is wrong where a put takes longer than the settling time.
        """
        with self._explained("write", path):
            if self._scheme:
                if self.exists(path):
                    return False
                self.write(path, data)
                time.sleep(SETTLE_SECONDS)
                try:
                    return self.read(path) == data
                except FileNotFoundError:  # deleted since: whoever did saw another's
                    return False
            temporary = self._temporary(path)
            try:
                self._write_plainly(temporary, data)
                os.link(temporary, self._name(path))  # the one step that fails if the name is taken
            except FileExistsError:
                return False
            finally:
                self._discard(temporary)
            return True

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local path to write a large file to; the file appears as `path` when the block ends without an exception.

        Where the store is local that is a temporary name in the same folder, else a file in the system's temporary
        folder which is then uploaded.
        """
        with self._explained("write", path):
            if not self._scheme:
                temporary = self._temporary(path)
                try:
                    Path(temporary).parent.mkdir(parents=True, exist_ok=True)
                    yield Path(temporary)
                    self._rename(temporary, self._name(path))
                except BaseException:
                    self._discard(temporary)
                    raise
                return
            with tempfile.TemporaryDirectory(prefix="lottery-trellis-") as folder:
                local = Path(folder) / PurePosixPath(path).name
                yield local
                with local.open("rb") as source:
                    if self._renames:
                        temporary = self._temporary(path)
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
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise InputError(f"cannot write to {self.uri}: {folder} is a file; choose another place")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(
                f"cannot write to {self.uri}: {folder} is not writable; check the permissions of this user"
            )

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
        """The files below folder `prefix`, by name relative to the store; temporaries are left out."""
        root = self._name("").rstrip("/") + "/"
        found = [
            Entry(info.path[len(root) :] if info.path.startswith(root) else info.path, int(info.size))
            for info in self._select(prefix, recursive=recursive)
            if info.type == pafs.FileType.File
            and not _TEMPORARY.match(info.base_name)
            and not (self._renames and info.base_name.endswith(_REPLACED))
        ]
        return sorted(found)

    def level(self, prefix: str = "") -> tuple[list[str], list[Entry]]:
        """The names of all folders and of all files (with their sizes) directly in folder `prefix`, by one listing."""
        infos = self._select(prefix, recursive=False)
        folders = [info.base_name for info in infos if info.type == pafs.FileType.Directory]
        files = [Entry(info.base_name, int(info.size)) for info in infos if info.type == pafs.FileType.File]
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
            if info.type == pafs.FileType.File and _TEMPORARY.match(info.base_name):
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
        if self._opened is None:
            if not self._scheme:
                self._opened = pafs.LocalFileSystem(), self._base
            else:
                try:
                    filesystem, path = pafs.FileSystem.from_uri(self.uri)
                except (OSError, pa.ArrowException, ValueError) as error:
                    raise InputError(f"cannot reach {self.uri}: {_reason(error)}; check the URI") from error
                self._opened = filesystem, path
        return self._opened

    def _name(self, path: str) -> str:
        if not path:
            return self._base if not self._scheme else self._open()[1]
        _check_name(path)
        root = self._base if not self._scheme else self._open()[1]
        return f"{root.rstrip('/')}/{path}"

    def _temporary(self, path: str) -> str:
        name = PurePosixPath(self._name(path))
        return str(name.parent / f".{name.name}.{uuid.uuid4().hex}.tmp")

    def _select(self, prefix: str, *, recursive: bool) -> Iterable[Any]:
        with self._explained("list", prefix):
            selector = pafs.FileSelector(self._name(prefix), allow_not_found=True, recursive=recursive)
            return tuple(self._fs.get_file_info(selector))

    def _write_plainly(self, name: str, data: bytes) -> None:
        if self._scheme:
            self._fs.create_dir(str(PurePosixPath(name).parent), recursive=True)
            with self._fs.open_output_stream(name) as stream:
                stream.write(data)
            return
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with no content

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
        if not self._scheme:
            Path(temporary).replace(name)
            return
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
            where = f"{self._base}/{path}" if path else self._base
            raise StorageError(f"cannot {action} {where}: {_reason(error)}; {_remedy(error)}") from error

    def list(self, prefix: str = "") -> list[str]:
        """Names of the files below folder `prefix`, relative to the store, sorted; empty where it is absent."""
        return [entry.name for entry in self.entries(prefix)]


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "" in parts:
        raise ValueError(f"not a relative name inside a store: {name!r}")


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]


def _remedy(error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return "check the permissions of this user"
    if getattr(error, "errno", None) in _FULL:
        return "free some space, or choose another place"
    if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
        return "a file stands where a folder should be, or the other way round: choose another place"
    return "check the address, the credentials and the network"
