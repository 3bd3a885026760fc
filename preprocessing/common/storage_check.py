"""Whether storage can do everything a run needs, found out before the run."""

from __future__ import annotations

from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store

_NAME = "folder/file"


def check_usable(store: Store) -> None:
    """Does in a folder, which must be nobody else's, what a run does in its own, and deletes the folder.

    Raises `InputError` if storage does something else than it should, and `StorageError` if it refuses. The
    caller adds the remedy.
    """
    with afterwards(store.delete_tree):
        for data in (b"first", b"second"):  # the second time in the place of what is there
            store.write(_NAME, data)
            if store.read(_NAME) != data:
                raise InputError(f"{store.describe()} does not give back what was written")
        if store.list() != [_NAME] or not store.is_folder("folder"):
            raise InputError(f"{store.describe()} does not list what was written")
        if not store.create("claim", b"mine") or store.create("claim", b"another's") or store.read("claim") != b"mine":
            raise InputError(f"{store.describe()} lets two make the same file")
        store.delete("claim")
        if store.exists("claim"):
            raise InputError(f"{store.describe()} does not delete a file")
    if store.list():
        raise InputError(f"{store.describe()} does not delete a folder")
