"""Parquet files as the Hugging Face hub has them: `train-00000-of-00294.parquet`, or `train/0000.parquet`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.common.errors import InputError
from preprocessing.common.names import last_part, name_bytes, one_line, printable
from preprocessing.common.storage import Store
from preprocessing.sources.base import (
    CATALOGUE_SCHEMA,
    NO_OPTIONS,
    TRAIN,
    Catalogue,
    Extract,
    Mapper,
    Source,
    SourceOptions,
    check_classes_have_images,
    sort_table,
)
from preprocessing.sources.class_numbers import distinct_names, name_classes
from preprocessing.sources.folder_images import skip_unread
from preprocessing.sources.parquet_files import SUFFIX, find_files, holds_files
from preprocessing.sources.parquet_images import Labels, extract, read_columns, read_labels
from preprocessing.sources.skipped import NOT_CHOSEN, OTHER_SPLIT, Skipped
from preprocessing.sources.split_names import split_files


class HubParquetSource(Source):
    """A row of a Parquet file is an image. A class is a name in the schema's metadata or, without names, a number."""

    layout = "parquet"
    looks_like = "train-*.parquet and validation-*.parquet, as on the Hugging Face hub"
    listed_quickly = False
    staged = True
    takes = ("--image-column", "--label-column", "--first-label")

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._sizes = find_files(store)
        self._files = split_files(self._sizes, store.describe())
        first = self._files.splits[TRAIN][0]
        self._columns = read_columns(store, first, options.image_column, options.label_column)
        self.labels_inside = self._columns.names is None
        if options.first_label and not self.labels_inside:
            where = store.describe(first)
            raise InputError(
                f"--first-label {options.first_label}: {where} has class names, which count from 0: leave it out"
            )
        self._labels: dict[str, Labels] = {}

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a Parquet file at the root or at most two folders below it, and no class folder."""
        return holds_files(store)

    def read(self, mapper: Mapper = map) -> None:
        """Reads all labels, once, by `mapper`: an item for each file."""
        if self._labels:
            return
        paths, found = [path for _, path in self._paths()], {}
        read = mapper(functools.partial(read_labels, self.store, self._columns), paths)
        for path, labels in zip(paths, read, strict=True):
            if isinstance(labels, str):
                raise InputError(labels)
            found[path] = labels
        self._labels = found

    @functools.cached_property
    def _classes(self) -> dict[int, str]:
        """The class of each label."""
        if self._columns.names is not None:
            return distinct_names(self._columns.names)
        self.read()
        labels = np.unique(np.concatenate([self._labels[path].labels for path in self._files.splits[TRAIN]]))
        named = name_classes(labels.tolist(), self.options.first_label, self.store.describe())
        return {int(label): name for label, name in named.items()}

    def classes(self) -> list[str]:
        """The names of the classes, or else the numbers of the labels in train."""
        if not self._classes:
            raise InputError(f"{self.store.describe(self._files.splits[TRAIN][0])} has no rows: download it again")
        return sorted(self._classes.values())

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the files' names, splits and sizes, and of the columns that are read."""
        files = [(split, printable(path), self._sizes[path]) for split, path in self._paths()]
        return hashlib.sha256(repr((tuple(self._columns), self.options.first_label, files)).encode()).hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`. Reads the labels by `mapper`, unless they have been read."""
        self.read(mapper)
        splits, wanted, skipped = {}, pa.array(classes, pa.string()), Skipped()
        for split, paths in self._files.splits.items():
            table = self._table(paths)
            chosen = pc.is_in(table.column("class"), wanted)
            splits[split], left = table.filter(chosen), table.filter(pc.invert(chosen))
            if len(left):
                skipped.add(NOT_CHOSEN, left.column("id")[0].as_py(), len(left))
        check_classes_have_images(
            splits[TRAIN], classes, self.store.describe(), "choose classes that have images with --classes"
        )
        for path in self._files.unread:
            skipped.add(OTHER_SPLIT, path)
        skip_unread(self.store, set(self._sizes), skipped)
        return Catalogue({split: table for split, table in splits.items() if len(table)}, skipped)

    def extract(self) -> Extract:
        """Reads images from rows of a file."""
        return functools.partial(extract, self.store, self._columns)

    def _paths(self) -> list[tuple[str, str]]:
        """All files that are read, each with its split."""
        return [(split, path) for split, paths in self._files.splits.items() for path in paths]

    def _table(self, paths: Sequence[str]) -> pa.Table:
        """A split's catalogue, sorted by id."""
        rows = [len(self._labels[path].labels) for path in paths]
        classes = pa.concat_arrays([self._classes_of(path) for path in paths])
        names = pc.replace_substring_regex(pa.concat_arrays([self._labels[path].names for path in paths]), ".*/", "")
        ids = pc.binary_join_element_wise(classes, names, "/")
        if names.null_count or pc.any(pc.equal(names, "")).as_py() or pc.count_distinct(ids).as_py() < len(ids):
            named = [_numbered_names(path, count) for path, count in zip(paths, rows, strict=True)]
            ids = pc.binary_join_element_wise(classes, pa.concat_arrays(named), "/")
        columns = {
            "id": ids,
            "class": classes,
            "path": pa.array(np.repeat(np.array([name_bytes(path) for path in paths], object), rows), pa.binary()),
            "offset": pa.array(np.concatenate([np.arange(count) for count in rows]), pa.int64()),
            "length": pa.array(np.repeat([self._labels[path].mean_bytes for path in paths], rows), pa.int64()),
        }
        return sort_table(pa.table(columns, schema=CATALOGUE_SCHEMA))

    def _classes_of(self, path: str) -> pa.Array:
        """The classes of a file's images; `InputError` for a label that train does not have."""
        labels = self._labels[path].labels
        places = pc.index_in(pa.array(labels), pa.array(list(self._classes), pa.int64()))
        if places.null_count:
            row = pc.index(places.is_null(), True).as_py()
            where = one_line(self.store.describe(path))
            raise InputError(f"{where}: row {row:,} has label {labels[row]}, which train does not have: remove the row")
        return pa.array(self._classes.values(), pa.string()).take(places)


def _numbered_names(path: str, rows: int) -> pa.Array:
    """Names for images that have none, from their file and row."""
    numbers = pc.utf8_lpad(pa.array(np.arange(rows)).cast(pa.string()), width=6, padding="0")
    stem = printable(last_part(path)).removesuffix(SUFFIX)
    return pc.binary_join_element_wise(pa.scalar(stem), numbers, "-")
