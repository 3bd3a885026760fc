"""MNIST, Fashion-MNIST, KMNIST and EMNIST as downloaded: idx files, gzipped or not."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line
from preprocessing.common.storage import Store
from preprocessing.sources.base import (
    NO_OPTIONS,
    TRAIN,
    VAL,
    Catalogue,
    Extract,
    Mapper,
    Row,
    Source,
    SourceOptions,
    make_catalogue,
)
from preprocessing.sources.class_numbers import Label, name_classes
from preprocessing.sources.folder_images import skip_unread
from preprocessing.sources.idx_file import extract_images, measure, read_labels
from preprocessing.sources.listing import list_folder
from preprocessing.sources.pixels import png_estimate
from preprocessing.sources.skipped import LABELS, NOT_CHOSEN, Skipped
from preprocessing.sources.text_files import decode_text

_NAME = re.compile(r"(|.+-)(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?")
# Its images are stored column after column: transposed, they are upright.
_EMNIST = "emnist-"
_MAPPING = "mapping.txt"


class _Files(NamedTuple):
    """The two files of a split."""

    images: str
    labels: str


class IdxSource(Source):
    """Images in one file, their labels in another. A class is a number; t10k and test are val."""

    layout = "idx"
    looks_like = "MNIST's train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not)"
    listed_quickly = True
    staged = True
    takes = ("--first-label",)

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._sizes = {file.name: file.size for file in list_folder(store).files if _NAME.fullmatch(file.name)}
        self._set, self._files = _pair(store, sorted(self._sizes))
        self._labels = {split: read_labels(store, files.labels).tolist() for split, files in self._files.items()}
        first, names = _read_mapping(store, self._set)
        first = first if options.first_label is None else options.first_label
        labels = set[Label]().union(*self._labels.values())
        self._names = name_classes(labels, first, store.describe(), names)

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether a file is called as such files are."""
        return any(_NAME.fullmatch(file.name) for file in list_folder(store).files)

    def classes(self) -> list[str]:
        """The characters of EMNIST's mapping; for other sets, the labels of train."""
        known = {self._names[label] for label in self._labels[TRAIN]}
        unknown = sorted({self._names[label] for label in self._labels.get(VAL, ())} - known)
        if unknown:
            where = self.store.describe(self._files[VAL].labels)
            raise InputError(
                f"{where} has labels of class {unknown[0]}, which train does not have: download both again"
            )
        return sorted(known)

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the files' names and sizes, of all labels and of their names."""
        digest = hashlib.sha256(repr((self._set, sorted(self._names.items()))).encode())
        for split, files in sorted(self._files.items()):
            digest.update(f"{split} {files} {[self._sizes[name] for name in files]}".encode())
            digest.update(bytes(self._labels[split]))
        return digest.hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`, numbered within its file."""
        wanted, skipped = set(classes), Skipped()
        rows = {split: self._rows(split, files, wanted, skipped) for split, files in self._files.items()}
        for files in self._files.values():
            skipped.add(LABELS, files.labels)
        read = {name for files in self._files.values() for name in files}
        skip_unread(self.store, read, skipped, labels=(f"{self._set}{_MAPPING}",))
        return make_catalogue(rows, classes, skipped, self.store.describe(), "leave it out with --classes")

    def extract(self) -> Extract:
        """PNGs of the images."""
        return functools.partial(extract_images, self.store, self._set.startswith(_EMNIST))

    def _rows(self, split: str, files: _Files, wanted: set[str], skipped: Skipped) -> list[Row]:
        count, height, width = measure(self.store, files.images)
        labels = self._labels[split]
        if count != len(labels):
            where = self.store.describe(files.images)
            raise InputError(
                f"{where} has {count:,} images and {files.labels} {len(labels):,} labels: download both again"
            )
        stem, size = files.images.partition("-images")[0], png_estimate(height, width, 1)
        rows: list[Row] = []
        for number, label in enumerate(labels):
            name = self._names[label]
            if name in wanted:
                rows.append((f"{name}/{stem}-{number:06}", name, files.images, number, size))
            else:
                skipped.add(NOT_CHOSEN, f"{files.images}/{number}")
        return rows


def _pair(store: Store, names: Sequence[str]) -> tuple[str, dict[str, _Files]]:
    """What the names of the set begin with, and the files of its splits; an unpacked file before a gzipped one."""
    found: dict[tuple[str, str, str], str] = {}
    for name in names:  # sorted: without .gz first
        match = _NAME.fullmatch(name)
        assert match is not None  # it was chosen by this
        found.setdefault((match[1], match[2], match[3]), name)
    sets = sorted({key[0] for key in found})
    if len(sets) != 1:
        kinds = ", ".join(kind.rstrip("-") or "one without a name" for kind in sets) or "none"
        raise InputError(
            f"{store.describe()} has several sets of idx files ({kinds}): put one into a folder of its own"
        )
    splits: dict[str, _Files] = {}
    for _, kind, _ in sorted(found):
        images, labels = (found.get((sets[0], kind, what)) for what in ("images", "labels"))
        if images is None or labels is None:
            there, what = images or labels, "labels" if images else "images"
            raise InputError(f"{store.describe(there or '')} has no {what} beside it: download both")
        if kind != TRAIN and splits.get(VAL, _Files(images, labels)).images != images:
            raise InputError(f"{store.describe()} has both t10k and test: keep one")
        splits[TRAIN if kind == TRAIN else VAL] = _Files(images, labels)
    if TRAIN not in splits:
        raise InputError(f"{store.describe()} has no {sets[0]}train-images-idx3-ubyte: download it")
    return sets[0], splits


def _read_mapping(store: Store, name: str) -> tuple[int | None, list[str]]:
    """EMNIST's first label, and the characters of each; on each line a label and the codes of its characters."""
    path = f"{name}{_MAPPING}"
    if not name or not store.exists(path):
        return None, []
    found = {}
    for line in decode_text(store.read(path)).splitlines():
        try:
            label, *codes = map(int, line.split())
            found[label] = one_line(" ".join(map(chr, codes)))
        except (ValueError, OverflowError) as error:
            what = f"{store.describe(path)}: {line[:40]!r} is not a label and the codes of characters"
            raise InputError(f"{what}: download it again") from error
    first = min(found, default=0)
    if sorted(found) != list(range(first, first + len(found))) or not found:
        raise InputError(f"{store.describe(path)} does not name every label: download it again")
    return first, [found[label] for label in sorted(found)]
