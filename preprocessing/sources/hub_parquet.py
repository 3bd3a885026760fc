"""Parquet files as the Hugging Face hub has them: `train-00000-of-00294.parquet`, or `train/0000.parquet`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
from preprocessing.sources.class_numbers import distinct_names
from preprocessing.sources.listing import LISTING_THREADS
from preprocessing.sources.parquet_files import SUFFIX, find_splits, holds_files
from preprocessing.sources.parquet_images import Labels, extract, read_columns, read_labels
from preprocessing.sources.skipped import NOT_CHOSEN, Skipped


class HubParquetSource(Source):
    """A row of a Parquet file is an image. A class is a name in the schema's metadata or, without names, a label."""

    layout = "parquet"
    looks_like = "train-*.parquet and validation-*.parquet, as on the Hugging Face hub"
    listed_quickly = False
    staged = True
    takes = ("--image-column", "--label-column")

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        super().__init__(store, options)
        self._splits, self._skipped = find_splits(store)
        first = self._splits[TRAIN][0].path
        self._columns = read_columns(store, first, options.image_column, options.label_column)

    @classmethod
    def recognises(cls, store: Store) -> bool:
        """Whether there is a Parquet file at the root or at most two folders below it, and no class folder."""
        return holds_files(store)

    @functools.cached_property
    def _class_names(self) -> dict[int, str]:
        """The class of each label."""
        if self._columns.names is not None:
            return distinct_names(self._columns.names)
        paths = [file.path for file in self._splits[TRAIN]]
        with ThreadPoolExecutor(LISTING_THREADS) as pool:
            found = _whole(paths, pool.map(functools.partial(read_labels, self.store, self._columns), paths))
        labels = np.unique(np.concatenate([labels.labels for labels in found.values()]))
        width = len(str(labels[-1])) if len(labels) else 1
        return {int(label): f"{label:0{width}}" for label in labels}

    def classes(self) -> list[str]:
        """The names of the classes; if there are none, the labels of train, with zeros before to the same length."""
        names = sorted(self._class_names.values())
        if not names:
            raise InputError(f"{self.store.describe(self._splits[TRAIN][0].path)} has no rows: download it again")
        return names

    def signature(self, classes: Sequence[str]) -> str:
        """A hash of the files' names, splits and sizes, and of the columns that are read."""
        files = [(split, printable(path), size) for split, files in self._splits.items() for path, size in files]
        return hashlib.sha256(repr((tuple(self._columns), files)).encode()).hexdigest()

    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`. Labels are read by `mapper`: an item for each file."""
        paths = [file.path for files in self._splits.values() for file in files]
        found = _whole(paths, mapper(functools.partial(read_labels, self.store, self._columns), paths))
        skipped = Skipped()
        skipped.add_all(self._skipped)
        splits, wanted = {}, pa.array(classes, pa.string())
        for split, files in self._splits.items():
            table = self._table([file.path for file in files], found)
            chosen = pc.is_in(table.column("class"), wanted)
            splits[split] = table.filter(chosen)
            left = table.filter(pc.invert(chosen))
            if len(left):
                skipped.add(NOT_CHOSEN, left.column("id")[0].as_py(), len(left))
        check_classes_have_images(
            splits[TRAIN], classes, self.store.describe(), "choose classes that have images with --classes"
        )
        return Catalogue({split: table for split, table in splits.items() if len(table)}, skipped)

    def extract(self) -> Extract:
        """Reads images from rows of a file."""
        return functools.partial(extract, self.store, self._columns)

    def _table(self, paths: Sequence[str], found: Mapping[str, Labels]) -> pa.Table:
        """A split's catalogue, sorted by id."""
        rows = [len(found[path].labels) for path in paths]
        classes = pa.concat_arrays([self._classes_of(path, found[path].labels) for path in paths])
        names = pc.replace_substring_regex(pa.concat_arrays([found[path].names for path in paths]), ".*/", "")
        ids = pc.binary_join_element_wise(classes, names, "/")
        if names.null_count or pc.any(pc.equal(names, "")).as_py() or pc.count_distinct(ids).as_py() < len(ids):
            named = [_numbered_names(path, count) for path, count in zip(paths, rows, strict=True)]
            ids = pc.binary_join_element_wise(classes, pa.concat_arrays(named), "/")
        columns = {
            "id": ids,
            "class": classes,
            "path": pa.array(np.repeat(np.array([name_bytes(path) for path in paths], object), rows), pa.binary()),
            "offset": pa.array(np.concatenate([np.arange(count) for count in rows]), pa.int64()),
            "length": pa.array(np.repeat([found[path].mean_bytes for path in paths], rows), pa.int64()),
        }
        return sort_table(pa.table(columns, schema=CATALOGUE_SCHEMA))

    def _classes_of(self, path: str, labels: NDArray[np.int64]) -> pa.Array:
        known = pa.array(list(self._class_names), pa.int64())
        places = pc.index_in(pa.array(labels), known)
        if places.null_count:
            row = pc.index(places.is_null(), True).as_py()
            where = one_line(self.store.describe(path))
            raise InputError(
                f"{where}: row {row:,} has label {labels[row]}, which {TRAIN} does not have: remove the row"
            )
        return pa.array(self._class_names.values(), pa.string()).take(places)


def _whole(paths: Sequence[str], read: Iterable[Labels | str]) -> dict[str, Labels]:
    """What was read from each file; `InputError` if one cannot be used."""
    found: dict[str, Labels] = {}
    for path, labels in zip(paths, read, strict=True):
        if isinstance(labels, str):
            raise InputError(labels)
        found[path] = labels
    return found


def _numbered_names(path: str, rows: int) -> pa.Array:
    """Names for images that have none, from their file and row."""
    numbers = pc.utf8_lpad(pa.array(np.arange(rows)).cast(pa.string()), width=6, padding="0")
    stem = printable(last_part(path)).removesuffix(SUFFIX)
    return pc.binary_join_element_wise(pa.scalar(stem), numbers, "-")
