"""CIFAR-10 and CIFAR-100 in their binary version, as downloaded or unpacked."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from preprocessing.common.errors import InputError
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
from preprocessing.sources.cifar_file import CHANNELS, SIDE, extract_images, parts, read_records
from preprocessing.sources.class_numbers import name_classes
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folder_images import skip_unread
from preprocessing.sources.listing import Folder, list_folder
from preprocessing.sources.pixels import png_estimate
from preprocessing.sources.skipped import HIDDEN, LABELS, NO_IMAGE, NOT_CHOSEN, Skipped
from preprocessing.sources.text_files import decode_text


class _Labels(NamedTuple):
    """A label of each record: the byte that holds it, how many classes there are, and the file with their names."""

    byte: int
    classes: int
    names: str


class _Version(NamedTuple):
    """CIFAR-10 or CIFAR-100: the names that its files have, and its labels by the name of their column."""

    name: str
    folder: str
    batches: dict[str, str]
    labels: dict[str, _Labels]
    pickles: tuple[str, ...]

    @property
    def archives(self) -> tuple[str, ...]:
        return tuple(f"{self.name}-binary{suffix}" for suffix in (".tar.gz", ".tgz", ".tar"))

    @property
    def label_bytes(self) -> int:
        return len(self.labels)


_VERSIONS = (
    _Version(
        "cifar-10",
        "cifar-10-batches-bin",
        {**{f"data_batch_{number}.bin": TRAIN for number in range(1, 6)}, "test_batch.bin": VAL},
        {"label": _Labels(0, 10, "batches.meta.txt")},
        ("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1"),
    ),
    _Version(
        "cifar-100",
        "cifar-100-binary",
        {"train.bin": TRAIN, "test.bin": VAL},
        {
            "fine_label": _Labels(1, 100, "fine_label_names.txt"),
            "coarse_label": _Labels(0, 20, "coarse_label_names.txt"),
        },
        ("cifar-100-python.tar.gz", "cifar-100-python"),
    ),
)


class _Found(NamedTuple):
    """Where a source has a version: an archive, or the batches in a folder ("" is the root)."""

    version: _Version
    paths: list[str]
    folder: str
    sizes: list[int]


class _Batch(NamedTuple):
    """The labels of a batch's images, which are numbered from `first` in the file `path`."""

    name: str
    path: str
    first: int
    labels: list[int]


class CifarSource(Source):
    """Batches of images. A class is a name in the file beside them; `test` is val."""

    layout = "cifar"
    looks_like = "cifar-10-binary.tar.gz or cifar-100-binary.tar.gz, or what is in them"
    listed_quickly = True
    staged = True
    takes = ("--label-column",)

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._found = _find(store)
        self._version = self._found.version
        self._column = _column(self._version, options)
        self._skipped = Skipped()
        self._names: list[str] = []
        self._batches = [batch for path in self._found.paths for batch in self._read(path)]
        missing = sorted(self._version.batches.keys() - {batch.name for batch in self._batches})
        if missing:
            raise InputError(
                f"{store.describe(self._found.paths[0])}: {missing[0]} is missing: download the archive again"
            )
        labels = {label for batch in self._batches for label in batch.labels}
        self._classes = name_classes(labels, 0, store.describe(), self._class_names())

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether the archive or its files are there; also the version for Python, unless class folders may be."""
        root = list_folder(store)
        return bool(_places(root) or (_pickles(root) and TRAIN not in root.folders))

    def classes(self) -> list[str]:
        """The names of the labels of train."""
        batches = [batch for batch in self._batches if self._version.batches[batch.name] == TRAIN]
        return sorted({self._classes[label] for batch in batches for label in batch.labels})

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the files' names and sizes and of all labels."""
        digest = hashlib.sha256(f"{self._found.paths} {self._found.sizes} {self._column}".encode())
        for batch in self._batches:
            digest.update(f"{batch.name} {batch.path} ".encode() + bytes(batch.labels))
        return digest.hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`, numbered within its file."""
        wanted, skipped = set(classes), Skipped()
        skipped.add_all(self._skipped)
        rows: dict[str, list[Row]] = {TRAIN: [], VAL: []}
        size = png_estimate(SIDE, SIDE, CHANNELS)
        for batch in self._batches:
            stem = batch.name.removesuffix(".bin")
            for number, label in enumerate(batch.labels):
                name = self._classes[label]
                row = (f"{name}/{stem}-{number:05}", name, batch.path, batch.first + number, size)
                if name in wanted:
                    rows[self._version.batches[batch.name]].append(row)
                else:
                    skipped.add(NOT_CHOSEN, f"{batch.path}/{batch.name}/{number}")
        labels = [_join(self._found.folder, column.names) for column in self._version.labels.values()]
        skip_unread(self.store, set(self._found.paths), skipped, labels=labels)
        return make_catalogue(rows, classes, skipped, self.store.describe(), "leave it out with --classes")

    def extract(self) -> Extract:
        """PNGs of the images."""
        return functools.partial(extract_images, self.store, tuple(self._version.batches), self._version.label_bytes)

    def _read(self, path: str) -> list[_Batch]:
        """The labels of the batches in a file; also its names, if it is an archive."""
        found: list[_Batch] = []
        names = [column.names for column in self._version.labels.values()]
        for part in parts(self.store, path):
            if part.name in self._version.batches:
                blocks = read_records(self.store, path, part, self._version.label_bytes)
                labels = [label for block in blocks for label in block[:, self._column.byte].tolist()]
                first = sum(len(batch.labels) for batch in found)
                if part.name in {batch.name for batch in found}:
                    raise InputError(f"{self.store.describe(path)} has {part.name} twice: download it again")
                found.append(_Batch(part.name, path, first, labels))
                continue
            if part.name == self._column.names:
                self._names = _lines(part.stream.read(part.size))
            reason = LABELS if part.name in names else HIDDEN if is_hidden(part.name) else NO_IMAGE
            self._skipped.add(reason, f"{path}/{part.name}")
        return found

    def _class_names(self) -> list[str]:
        """The names beside the batches; `InputError` if they are not there."""
        path = _join(self._found.folder, self._column.names)
        where = self.store.describe(path)
        if not self._names:
            if self._found.paths[0] in self._version.archives or not self.store.exists(path):
                raise InputError(f"{where} is missing: download the archive again")
            self._names = _lines(self.store.read(path))
        if len(self._names) != self._column.classes:
            raise InputError(f"{where} has {len(self._names)} names, not {self._column.classes}: download it again")
        return self._names


def _lines(data: bytes) -> list[str]:
    return [line.strip() for line in decode_text(data).splitlines() if line.strip()]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _places(root: Folder) -> list[tuple[_Version, str]]:
    """The versions at a source's root: each with an archive, or with the folder that has its batches."""
    names, found = {file.name for file in root.files}, list[tuple[_Version, str]]()
    for version in _VERSIONS:
        place = next((name for name in version.archives if name in names), None)
        labels = {column.names for column in version.labels.values()}
        if names >= version.batches.keys() or not names.isdisjoint(labels):
            found.append((version, ""))
        elif version.folder in root.folders:
            found.append((version, version.folder))
        elif place is not None:
            found.append((version, place))
    return found


def _pickles(root: Folder) -> tuple[_Version, str] | None:
    """A version for Python at a source's root."""
    names = {file.name for file in root.files} | set(root.folders)
    return next(((version, name) for version in _VERSIONS for name in version.pickles if name in names), None)


def _find(store: Store) -> _Found:
    root = list_folder(store)
    places, pickle = _places(root), _pickles(root)
    if not places and pickle is not None:
        version, name = pickle
        raise InputError(
            f"{store.describe(name)} is a Python pickle, which can run code when it is opened, and is not read: "
            f"download the binary version, {version.archives[0]}, instead"
        )
    if not places:
        raise InputError(f"{store.describe()} has none of CIFAR's binary archives: download cifar-10-binary.tar.gz")
    if len(places) > 1:
        there = " and ".join(place or version.name for version, place in places)
        raise InputError(f"{store.describe()} has both {there}: put one into a folder of its own")
    ((version, place),) = places
    if place in version.archives:
        return _Found(version, [place], "", [store.size(place) or 0])
    sizes = dict(list_folder(store, place).files)
    batches = sorted(name for name in version.batches if name in sizes)
    if not batches:
        raise InputError(f"{store.describe(place)} has no {min(version.batches)}: unpack the archive again")
    return _Found(version, [_join(place, name) for name in batches], place, [sizes[name] for name in batches])


def _column(version: _Version, options: SourceOptions) -> _Labels:
    wanted = options.label_column or next(iter(version.labels))
    if wanted not in version.labels:
        known = " or ".join(version.labels)
        raise InputError(f"--label-column {wanted}: {version.name} has {known}: give that")
    return version.labels[wanted]
