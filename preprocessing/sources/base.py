"""What every layout of raw images offers: its classes, and the catalogue of its images."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from preprocessing.common.errors import InputError
from preprocessing.common.names import name_bytes, name_of, printable
from preprocessing.common.storage import Store
from preprocessing.sources.skipped import Skipped

TRAIN, VAL, MINIVAL = "train", "val", "minival"
# The offset of an image that is a whole file.
WHOLE_FILE = -1

# A raw image. `id` is `<class>/<file name>` in every layout, as text. Its bytes are [offset, offset + length) of the
# file `path`, whose name need not be UTF-8.
CATALOGUE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("class", pa.string()),
        pa.field("path", pa.binary()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
    ]
)
Row = tuple[str, str, str, int, int]

# `map`, or a function like it that runs elsewhere. Results come back in order.
Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Catalogue:
    """The images of some classes, a table sorted by id for each split, and what was skipped."""

    splits: dict[str, pa.Table]
    skipped: Skipped = field(default_factory=Skipped)


class Source(abc.ABC):
    """Raw images in one layout. The constructor checks that the layout's parts are there, and reads little."""

    layout: str
    looks_like: str  # for the message about a source without a known layout
    listed_quickly: bool  # whether listings suffice for the catalogue; else tasks share the reading

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    @abc.abstractmethod
    def recognises(cls, store: Store) -> bool:
        """Whether the folder has this layout."""

    @classmethod
    def near_miss(cls, files: Sequence[str]) -> str | None:
        """Why a folder with these files at its root only nearly has this layout; begins with a file's name."""
        return None

    @abc.abstractmethod
    def classes(self) -> list[str]:
        """All classes, sorted; `InputError` if there are none."""

    def names(self) -> dict[str, str]:
        """The names of classes in words, as far as the source has them."""
        return {}

    @abc.abstractmethod
    def signature(self, classes: Sequence[str]) -> str:
        """A hash (hex) that changes with the images of `classes`, as far as names, sizes and order show it."""

    @abc.abstractmethod
    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`; `InputError` if the source is damaged or a class has no image in train."""


def make_table(rows: Iterable[Row]) -> pa.Table:
    """A catalogue's table, sorted by id; `InputError` if an id occurs twice."""
    ordered = sorted((printable(row[0]), row[1], name_bytes(row[2]), row[3], row[4]) for row in rows)
    columns = list(zip(*ordered, strict=True)) or [()] * len(CATALOGUE_SCHEMA)
    for before, after in itertools.pairwise(ordered):
        if before[0] == after[0]:
            raise InputError(
                f"{after[0]} is in the source twice ({name_of(before[2])} and {name_of(after[2])}): remove one"
            )
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, CATALOGUE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CATALOGUE_SCHEMA)


def check_classes_have_images(rows: Iterable[Row], classes: Sequence[str], where: str, remedy: str) -> None:
    """Raises `InputError` for a class without a row in train: nothing would have its label."""
    empty = sorted(set(classes) - {row[1] for row in rows})
    if empty:
        more = f", and {len(empty) - 1:,} more classes like it" if len(empty) > 1 else ""
        raise InputError(f"{where}: class {empty[0]} holds no images{more}: {remedy}")
