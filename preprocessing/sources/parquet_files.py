"""Which Parquet files a dataset of the Hugging Face hub consists of."""

from __future__ import annotations

from collections.abc import Sequence

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Entry, Store
from preprocessing.sources.base import TRAIN
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.listing import list_folder, walk
from preprocessing.sources.split_names import check_complete, split_of

SUFFIX = ".parquet"
# More folders than this are classes, not splits or datasets.
_MOST_FOLDERS = 16


def holds_files(store: Store) -> bool:
    """Whether there is a Parquet file at the root, or at most two folders below it, and no class folder in `train`."""
    if store.is_folder(TRAIN):
        train = list_folder(store, TRAIN)
        classes = [name for name in train.folders if not is_hidden(name)]
        return not classes and any(_is_parquet(file) for file in train.files)
    return _holds_parquet(store, "", 2)


def find_files(store: Store) -> dict[str, int]:
    """The sizes of all Parquet files in the store, by path.

    Raises `InputError` if there are none, if one is missing, or if they are of several datasets.
    """
    found = {}
    for folder in walk(store, ()):
        if not is_hidden(folder.path):
            if folder.problem:
                raise StorageError(folder.problem)
            found.update({folder.join(file.name): file.size for file in folder.files if _is_parquet(file)})
    if not found:
        raise InputError(f"{store.describe()} has no *{SUFFIX} files: download the dataset again, or give --layout")
    _check_one_dataset(store, sorted(found))
    check_complete(store, sorted(found))
    return found


def _is_parquet(file: Entry) -> bool:
    return file.name.endswith(SUFFIX) and not is_hidden(file.name)


def _holds_parquet(store: Store, path: str, depth: int) -> bool:
    folder = list_folder(store, path)
    if any(_is_parquet(file) for file in folder.files):
        return True
    below = [name for name in folder.folders if not is_hidden(name)]
    return (
        depth > 0
        and len(below) <= _MOST_FOLDERS
        and any(_holds_parquet(store, folder.join(name), depth - 1) for name in below)
    )


def _check_one_dataset(store: Store, paths: Sequence[str]) -> None:
    """Raises `InputError` for files below several folders (besides those of splits)."""
    folders = {"/".join(part for part in path.split("/")[:-1] if not split_of(part)) for path in paths}
    if len(folders) > 1:
        some = ", ".join(one_line(name or "the root") for name in sorted(folders)[:4])
        raise InputError(f"{store.describe()} holds more than one dataset ({some}): give the folder of one as --source")
