"""What every layout of raw images offers: its classes, and the catalogue of its images."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.common.errors import InputError
from preprocessing.common.names import name_bytes, name_of, one_line, printable
from preprocessing.common.storage import Store
from preprocessing.sources.skipped import Skipped

TRAIN, VAL, MINIVAL = "train", "val", "minival"
# The offset of an image that is a whole file.
WHOLE_FILE = -1

# A raw image. `id` is `<class>/<file name>` in every layout, as text. Its bytes are [offset, offset + length) of the
# file `path`, whose name need not be UTF-8. In a source that has to be staged, `offset` is the image's number in the
# file, and `length` an estimate.
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

# The images of these numbers (ascending) in file `path`, in this order. Raises `InputError` for a damaged file.
Extract = Callable[[str, Sequence[int]], Iterator[bytes]]


@dataclass(frozen=True)
class SourceOptions:
    """What the command line says about a source beyond its place. None: not said."""

    image_column: str | None = None
    label_column: str | None = None
    first_label: int | None = None
    files: tuple[str, ...] | None = None  # those that braces in --source name, below its folder

    def given(self) -> dict[str, object]:
        """The options that were given, by their names on the command line."""
        names = [option.name for option in fields(self) if option.name != "files"]
        values = {f"--{name.replace('_', '-')}": getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


NO_OPTIONS = SourceOptions()


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
    # Whether the classes are known only when all files have been read. The signature must not need them then.
    labels_inside: bool = False
    takes: tuple[str, ...] = ()  # the options, by their names on the command line, that mean something here
    # Whether images are not byte ranges of their files, and are copied out of them before they are converted.
    staged: bool = False

    def __init__(self, store: Store, options: SourceOptions = NO_OPTIONS) -> None:
        self.store = store
        self.options = options

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
        """All classes, sorted; `InputError` if there are none. After `read`, if `labels_inside`."""

    def read(self, mapper: Mapper = map) -> None:  # noqa: B027 - most have nothing to do
        """Reads, by `mapper`, what `classes` needs, if `labels_inside`; `InputError` if a file is damaged."""

    def names(self) -> dict[str, str]:
        """The names of classes in words, as far as the source has them."""
        return {}

    @abc.abstractmethod
    def signature(self, classes: Sequence[str]) -> str:
        """A hash (hex) that changes with the images of `classes`, as far as names, sizes and order show it."""

    @abc.abstractmethod
    def catalogue(self, classes: Sequence[str], mapper: Mapper = map) -> Catalogue:
        """Every image of `classes`; `InputError` if the source is damaged or a class has no image in train."""

    def extract(self) -> Extract:
        """The function, which can be pickled, that tasks call to read a file's images, if the source is `staged`."""
        raise NotImplementedError


def make_catalogue(
    rows: Mapping[str, Iterable[Row]], classes: Sequence[str], skipped: Skipped, where: str, remedy: str
) -> Catalogue:
    """The catalogue of each split's rows; `InputError` if a class has no image in train."""
    tables = {split: make_table(found) for split, found in rows.items()}
    check_classes_have_images(tables[TRAIN], classes, where, remedy)
    return Catalogue({split: table for split, table in tables.items() if len(table)}, skipped)


def make_table(rows: Iterable[Row]) -> pa.Table:
    """A catalogue's table, sorted by id; `InputError` if an id occurs twice."""
    return sort_table(table_of(rows))


def table_of(rows: Iterable[Row]) -> pa.Table:
    """A catalogue's table, or a part of it, in the order of the rows."""
    named = ((printable(id), name, name_bytes(path), offset, length) for id, name, path, offset, length in rows)
    columns = list(zip(*named, strict=True)) or [()] * len(CATALOGUE_SCHEMA)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, CATALOGUE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CATALOGUE_SCHEMA)


def sort_table(table: pa.Table) -> pa.Table:
    """The table sorted by id; `InputError` if an id occurs twice."""
    for place, column in enumerate(CATALOGUE_SCHEMA):  # one after the other, as many millions of rows fill the memory
        table = table.set_column(place, column, table.column(place).combine_chunks())
    ids = table.column("id")
    if not pc.all(pc.less_equal(ids.slice(0, max(0, len(ids) - 1)), ids.slice(1))).as_py():
        table = table.take(pc.sort_indices(table, [("id", "ascending")]))
        ids = table.column("id")
    same = pc.equal(ids.slice(0, max(0, len(ids) - 1)), ids.slice(1))
    twice = pc.index(same, True).as_py() if len(same) else -1
    if twice >= 0:
        first, second = map(name_of, sorted(table.column("path").slice(twice, 2).to_pylist()))
        raise InputError(one_line(f"{ids[twice].as_py()} is in the source twice ({first} and {second}): remove one"))
    return table


def check_classes_have_images(table: pa.Table, classes: Sequence[str], where: str, remedy: str) -> None:
    """Raises `InputError` for a class without an image in train's table: nothing would have its label."""
    empty = sorted(set(classes) - set(table.column("class").unique().to_pylist()))
    if empty:
        more = f", and {len(empty) - 1:,} more classes like it" if len(empty) > 1 else ""
        raise InputError(f"{where}: class {one_line(empty[0])} holds no images{more}: {remedy}")
