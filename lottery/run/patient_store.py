"""A store whose accesses are tried again for a minute or so if it is remote, such as a run directory's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store

T = TypeVar("T")


class PatientStore:
    """What the parts of a run directory do with its store, patiently: one refused request must not end a training."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def uri(self) -> str:
        """A string from which `open_store` makes an equal store."""
        return self._store.uri

    def describe(self, path: str = "") -> str:
        """The store, or a file in it, for people."""
        return self._store.describe(path)

    def read(self, path: str) -> bytes:
        """The blob; `FileNotFoundError` if there is none."""
        return self._patiently(lambda: self._store.read(path))

    def write(self, path: str, blob: bytes) -> None:
        """Writes the blob whole."""
        self._patiently(lambda: self._store.write(path, blob))

    def write_once(self, path: str, blob: bytes) -> None:
        """Writes the blob whole, or fails at once: for what is not worth waiting for."""
        self._store.write(path, blob)

    def exists(self, path: str) -> bool:
        """Whether there is a file of that name."""
        return self._patiently(lambda: self._store.exists(path))

    def list(self, prefix: str = "") -> list[str]:
        """The files below a folder, by name relative to the store, sorted."""
        return self._patiently(lambda: self._store.list(prefix))

    def delete(self, path: str) -> None:
        """Deletes the file, if there is one."""
        self._patiently(lambda: self._store.delete(path))

    def delete_tree(self, path: str = "") -> None:
        """Deletes the folder, if there is one."""
        self._patiently(lambda: self._store.delete_tree(path))

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(action, self._store)


class ReadOnlyStore(PatientStore):
    """Ignores writes and deletions: of workers that train together only the chief saves what all of them have."""

    def write(self, path: str, blob: bytes) -> None:
        """Does nothing."""

    write_once = write

    def delete(self, path: str) -> None:
        """Does nothing."""

    def delete_tree(self, path: str = "") -> None:
        """Does nothing."""
