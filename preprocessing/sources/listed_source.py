"""What the layouts whose images are files have in common: one listing finds all images."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence

from preprocessing.common.storage import Store
from preprocessing.sources.base import Catalogue, Mapper, Source
from preprocessing.sources.text_files import decode_text

SYNSET_MAPPING = "LOC_synset_mapping.txt"


class ListedSource(Source):
    """Raw images as files. The listing is the catalogue."""

    listed_quickly = True

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._listed: dict[tuple[str, ...], Catalogue] = {}

    def names(self) -> dict[str, str]:
        """The names in Kaggle's file, if it is at the root."""
        try:
            return parse_synset_mapping(decode_text(self.store.read(SYNSET_MAPPING)))
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

    @abc.abstractmethod
    def _list(self, classes: Sequence[str]) -> Catalogue:
        """Lists every image of `classes`; raises `InputError` as `catalogue` does."""


def parse_synset_mapping(text: str) -> dict[str, str]:
    """Kaggle's LOC_synset_mapping.txt: on every line a wnid and, after a space, its names."""
    pairs = (line.partition(" ") for line in text.splitlines() if line.strip())
    return {wnid: words.strip() for wnid, _, words in pairs if words.strip()}
