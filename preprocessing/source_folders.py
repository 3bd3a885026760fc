"""Class folders: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from preprocessing.errors import InputError
from preprocessing.names import is_text
from preprocessing.sources import (
    TRAIN,
    VAL,
    WHOLE_FILE,
    Catalogue,
    Mapper,
    Row,
    Source,
    is_image_name,
    make_table,
    parse_synset_mapping,
)
from preprocessing.storage import Entry, Store

LISTING_THREADS = 16  # listing a class of a bucket takes a few round trips
SYNSET_MAPPING = "LOC_synset_mapping.txt"


class FolderSource(Source):
    """A class is a folder of `train`; `val` is optional and has no classes of its own."""

    layout = "folders"
    looks_like = "train/<class>/*.JPEG and val/<class>/*.JPEG"
    listed_quickly = True

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._listed: dict[tuple[str, ...], Catalogue] = {}

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `train`."""
        return store.is_folder(TRAIN)

    def classes(self) -> list[str]:
        """The folders of `train`."""
        folders = class_folders(self.store, TRAIN)
        if not folders:
            raise InputError(f"{self.store.uri}/{TRAIN} has no class folders: put images into {TRAIN}/<class>/")
        unknown = sorted(set(self.store.folders(VAL)) - set(folders))
        if unknown:
            where = f"{self.store.uri}/{VAL}/{unknown[0]}"
            raise InputError(f"{where} is no class of {TRAIN} ({len(unknown)} such): add it there, or remove it")
        return folders

    def names(self) -> dict[str, str]:
        """Those of Kaggle's file, where it lies beside the folders."""
        try:
            return parse_synset_mapping(self.store.read(SYNSET_MAPPING).decode(errors="replace"))
        except FileNotFoundError:
            return {}

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of every image's id and size."""
        digest = hashlib.sha256()
        for name, table in sorted(self.catalogue(classes).splits.items()):
            digest.update(name.encode() + b"\0")
            digest.update("\0".join(table.column("id").to_pylist()).encode())
            digest.update(table.column("length").to_numpy().tobytes())
        return digest.hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`, listed once."""
        key = tuple(classes)
        if key not in self._listed:
            self._listed[key] = self._list(classes)
        return self._listed[key]

    def _list(self, classes: Sequence[str]) -> Catalogue:
        splits, ignored = {}, 0
        for split in (TRAIN, VAL):
            rows, others = list_class_folders(self.store, split, classes)
            ignored += others
            if rows:
                splits[split] = make_table(rows)
        if TRAIN not in splits:
            raise InputError(f"{self.store.uri}/{TRAIN} holds no images: its class folders have no *.JPEG files")
        return Catalogue(splits, ignored)


def class_folders(store: Store, parent: str) -> list[str]:
    """The folders of `parent`, as classes; `InputError` for a name that no manifest could hold."""
    folders = store.folders(parent)
    for name in folders:
        if not is_text(name):
            raise InputError(f"{store.uri}/{parent}/{name}: the name of this class is not UTF-8: rename the folder")
    return folders


def list_class_folders(store: Store, parent: str, classes: Sequence[str]) -> tuple[list[Row], int]:
    """The images below `parent`/<class>, and how many files there are none by name."""
    rows, ignored = [], 0
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        listings = pool.map(lambda name: store.entries(f"{parent}/{name}"), classes)
        for name, entries in zip(classes, listings, strict=True):
            images = [entry for entry in entries if is_image_name(entry.name)]
            ignored += len(entries) - len(images)
            rows += [_row(entry, name, len(parent) + 1) for entry in images]
    return rows, ignored


def _row(entry: Entry, name: str, prefix: int) -> Row:
    return entry.name[prefix:], name, entry.name, WHOLE_FILE, entry.size
