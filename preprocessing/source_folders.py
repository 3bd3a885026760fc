"""Class folders: `train/<class>/*.JPEG` and `val/<class>/*.JPEG`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from preprocessing.errors import InputError
from preprocessing.sources import TRAIN, VAL, WHOLE_FILE, Catalogue, Mapper, Source, is_image_name, make_table
from preprocessing.storage import Entry, Store

LISTING_THREADS = 16  # listing a class of a bucket takes a few round trips


class FolderSource(Source):
    """A class is a folder of `train`; `val` is optional and has no classes of its own."""

    layout = "folders"
    looks_like = "train/<class>/*.JPEG and val/<class>/*.JPEG"
    listed_quickly = True

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._catalogue: Catalogue | None = None

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a folder `train`."""
        return store.is_folder(TRAIN)

    def signature(self) -> str:
        """A hash of every image's id and size."""
        digest = hashlib.sha256()
        for name, table in sorted(self.catalogue().splits.items()):
            digest.update(name.encode() + b"\0")
            digest.update("\0".join(table.column("id").to_pylist()).encode())
            digest.update(table.column("length").to_numpy().tobytes())
        return digest.hexdigest()

    def catalogue(self, mapper: Mapper = map) -> Catalogue:
        """Every image, listed once."""
        if self._catalogue is None:
            self._catalogue = self._list()
        return self._catalogue

    def _list(self) -> Catalogue:
        classes = self.store.folders(TRAIN)
        if not classes:
            raise InputError(f"{self.store.uri}/{TRAIN} has no class folders: put images into {TRAIN}/<class>/")
        splits, ignored = {}, 0
        for split in (TRAIN, VAL):
            folders = classes if split == TRAIN else self.store.folders(VAL)
            unknown = sorted(set(folders) - set(classes))
            if unknown:
                where = f"{self.store.uri}/{VAL}/{unknown[0]}"
                raise InputError(f"{where} is no class of {TRAIN} ({len(unknown)} such): add it there, or remove it")
            rows = []
            for name, entries in zip(folders, list_folders(self.store, split, folders), strict=True):
                images = [entry for entry in entries if is_image_name(entry.name)]
                ignored += len(entries) - len(images)
                prefix = len(split) + 1
                rows += [(entry.name[prefix:], name, entry.name, WHOLE_FILE, entry.size) for entry in images]
            if rows:
                splits[split] = make_table(rows)
        if TRAIN not in splits:
            raise InputError(f"{self.store.uri}/{TRAIN} holds no images: its class folders have no *.JPEG files")
        return Catalogue(classes, splits, ignored=ignored)


def list_folders(store: Store, parent: str, names: list[str]) -> list[list[Entry]]:
    """The files below each of the folders `names` of `parent`."""
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        return list(pool.map(lambda name: store.entries(f"{parent}/{name}"), names))
