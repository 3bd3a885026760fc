"""A new folder, local or remote, that appears with all of its files or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store, open_store
from preprocessing.common.stores import local_files


def check_free(uri: str) -> None:
    """Raises InputError if there is something at `uri` already, StorageError if nothing can be written there."""
    store = open_store(uri)
    path = store.local_path
    taken = bool(patiently(store.list, store)) if path is None else path.exists() and not _is_empty(path)
    if taken:
        raise _taken(store)
    store.check_writable()


@contextlib.contextmanager
def new_folder(uri: str, last: str) -> Iterator[Path]:
    """A local folder to write files to. They appear in a new folder at `uri` if the block ends without an exception.

    On a local disk by a rename. An object store has none: there the file `last` is written after all others, so that
    a folder without it is not whole.

    Raises InputError if there is something at `uri` by then, StorageError if it cannot be written.
    """
    store = open_store(uri)
    if store.local_path is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            _upload(Path(folder), store, last)
        return
    new = Path(local_files.temporary(str(store.local_path)))
    try:
        new.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"cannot write to {store.describe()}: {error.strerror}; choose another --output") from None
    with afterwards(lambda: shutil.rmtree(new, ignore_errors=True)):
        yield new
        try:
            os.rename(new, store.local_path)  # noqa: PTH104 - replaces an empty folder, and no other
        except OSError:
            raise _taken(store) from None


def _upload(folder: Path, store: Store, last: str) -> None:
    if patiently(store.list, store):  # someone else's by now
        raise _taken(store)
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == last, name))
    written: list[str] = []
    try:
        for name in names:
            blob = (folder / name).read_bytes()
            written.append(name)
            patiently(lambda name=name, blob=blob: store.write(name, blob), store)  # type: ignore[misc]
    except BaseException:
        for name in reversed(written):
            with contextlib.suppress(StorageError):
                store.delete(name)
        raise


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _taken(store: Store) -> InputError:
    return InputError(f"--output {store.describe()}: something is there already; delete it, or give another --output")
