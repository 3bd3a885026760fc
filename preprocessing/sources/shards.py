"""What WebDataset and TFRecord have in common: files with thousands of images each, and their labels inside."""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store
from preprocessing.sources.base import (
    NO_OPTIONS,
    TRAIN,
    VAL,
    Catalogue,
    Mapper,
    Row,
    Source,
    SourceOptions,
    make_catalogue,
)
from preprocessing.sources.class_numbers import Label, name_classes
from preprocessing.sources.file_names import is_hidden
from preprocessing.sources.folder_images import skip_unread
from preprocessing.sources.listing import list_folder
from preprocessing.sources.skipped import NOT_CHOSEN, OTHER_SPLIT, Skipped
from preprocessing.sources.split_names import check_complete, split_files, split_of

INDEX_THREADS = 8
_REMEDY = "leave it out with --classes"


class LabelledImage(NamedTuple):
    """Bytes [offset, offset + length) of a shard: an image. `words` is its class in words, "" if not known."""

    name: str
    label: Label
    offset: int
    length: int
    words: str = ""


class ShardIndex(NamedTuple):
    """What is in a shard: its images, and what is skipped."""

    images: list[LabelledImage]
    skipped: Skipped


# The index of a shard; or, as text, why it cannot be used, as in `archive.read_archive`.
Index = Callable[[str], ShardIndex | str]


class ShardSource(Source):
    """Shards at the root, or in folders named after splits."""

    listed_quickly = False
    labels_inside = True

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._sizes = self._find_all() if options.files is None else _named(store, options.files)
        if not self._sizes:
            raise InputError(f"{store.describe()} has no {self.looks_like}: give the folder that holds them")
        self._files = split_files(self._sizes, store.describe())
        self._indexes: dict[str, ShardIndex] = {}

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there are shards, and no class folders in `train`."""
        train = list_folder(store, TRAIN)
        return all(map(is_hidden, train.folders)) and cls.holds_shards(store)

    @classmethod
    def holds_shards(cls, store: Store) -> bool:
        """Whether there are shards."""
        return bool(cls.find(store))

    @classmethod
    @abc.abstractmethod
    def is_shard(cls, name: str) -> bool:
        """Whether a file of this name may be a shard."""

    @abc.abstractmethod
    def index(self) -> Index:
        """The function, which can be pickled, that indexes a shard."""

    @classmethod
    def find(cls, store: Store) -> dict[str, int]:
        """The shards' paths and sizes."""
        root = list_folder(store)
        named = [list_folder(store, name) for name in root.folders if not is_hidden(name) and split_of(name)]
        return {
            folder.join(file.name): file.size
            for folder in (root, *named)
            for file in folder.files
            if cls.is_shard(file.name) and not is_hidden(file.name)
        }

    def _find_all(self) -> dict[str, int]:
        """As `find`; `InputError` if one of a numbered set is missing."""
        found = self.find(self.store)
        check_complete(self.store, sorted(found))
        return found

    def class_names(self) -> Sequence[str]:
        """The names of the classes whose labels are numbers, in their order; empty if the source does not say."""
        return ()

    def read(self, mapper: Mapper = map) -> None:
        """Indexes all shards, once, an item each; raises `InputError` for the first that is damaged."""
        paths = [path for files in self._files.splits.values() for path in files]
        if not self._indexes:
            indexes = {}
            for path, index in zip(paths, mapper(self.index(), paths), strict=True):
                if isinstance(index, str):
                    raise InputError(index)
                indexes[path] = index
            self._indexes = indexes

    def classes(self) -> list[str]:
        """The classes of train's images."""
        self.read()
        return sorted(set(self._named_classes(TRAIN).values()))

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the shards' names and sizes, and of the options that say how they are read."""
        parts = [f"{path} {self._sizes[path]}" for files in self._files.splits.values() for path in files]
        parts.append(f"{self.layout} {list(self.class_names())}")
        parts += [f"{option} {value}" for option, value in sorted(self.options.given().items())]
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`. Indexes the shards by `mapper`, unless they have been."""
        self.read(mapper)
        names, wanted, skipped = self._named_classes(TRAIN), set(classes), Skipped()
        self._check_val(names)
        splits: dict[str, list[Row]] = {split: [] for split in self._files.splits}
        for split, paths in self._files.splits.items():
            for path in paths:
                index = self._indexes[path]
                skipped.add_all(index.skipped)
                for image in index.images:
                    name = names[image.label]
                    if name in wanted:
                        row_id = f"{name}/{image.name.removeprefix(f'{name}/')}"
                        splits[split].append((row_id, name, path, image.offset, image.length))
                    else:
                        skipped.add(NOT_CHOSEN, f"{path}/{image.name}")
        self._skip_others(skipped)
        return make_catalogue(splits, classes, skipped, self.store.describe(), _REMEDY)

    def names(self) -> dict[str, str]:
        """The words beside the labels in the shards."""
        names = self._named_classes(TRAIN)
        images = (image for path in self._files.splits[TRAIN] for image in self._indexes[path].images)
        return {names[image.label]: image.words for image in images if image.words}

    def _labels(self, split: str) -> set[Label]:
        return {image.label for path in self._files.splits.get(split, ()) for image in self._indexes[path].images}

    def _named_classes(self, split: str) -> dict[Label, str]:
        labels = self._labels(split)
        if not labels:
            raise InputError(f"{self.store.describe()} has no images in its files of {split}: download them again")
        return name_classes(labels, self.options.first_label, self.store.describe(), self.class_names())

    def _check_val(self, names: dict[Label, str]) -> None:
        unknown = sorted(str(label) for label in self._labels(VAL) - names.keys())
        if unknown:
            first = self._files.splits[VAL][0]
            raise InputError(
                f"{self.store.describe()}: val (such as {first}) has images of class {unknown[0]}, which train does "
                "not have: add the files of train that are missing"
            )

    def _skip_others(self, skipped: Skipped) -> None:
        """Counts as skipped every file that is not read."""
        if self.options.files is not None:
            return  # the source is the files that were named
        for path in self._files.unread:
            skipped.add(OTHER_SPLIT, path)
        skip_unread(self.store, set(self._sizes), skipped, self.label_files())

    def label_files(self) -> tuple[str, ...]:
        """The paths of files with labels or names."""
        return ()


def _named(store: Store, files: Sequence[str]) -> dict[str, int]:
    """The sizes of the files that --source names; `InputError` if one is missing."""
    with ThreadPoolExecutor(INDEX_THREADS) as pool:
        sizes = dict(zip(files, pool.map(functools.partial(_size, store), files), strict=True))
    missing = sorted(path for path, size in sizes.items() if size is None)
    if missing:
        more = f", and {len(missing) - 1:,} more that --source names" if len(missing) > 1 else ""
        raise InputError(f"{store.describe(missing[0])} does not exist{more}: download it, or name other files")
    return {path: size for path, size in sizes.items() if size is not None}


def _size(store: Store, path: str) -> int | None:
    return store.size(path)
