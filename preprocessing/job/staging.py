"""Staging: images that are not byte ranges of their files are copied, once, into blobs in which they are.

A blob holds the chosen images of one file of the source, one after the other. It is complete when its index is there,
which is written after it, so a killed job picks up where it left off. Both lie in the job's work folder and go with it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.names import name_bytes, name_of
from preprocessing.common.retries import patiently
from preprocessing.common.storage import Store
from preprocessing.job.shards import RECORD_THREADS, work_folder
from preprocessing.sources.base import Extract, Mapper

logger = logging.getLogger(__name__)

STAGED = "staged"


@dataclass(frozen=True)
class Unit:
    """The images of one file that are needed: their `numbers` in it, ascending; about `size` bytes."""

    path: str
    numbers: NDArray[np.int64]
    size: int

    @property
    def digest(self) -> str:
        """A hash (hex) of what is wanted."""
        parts = name_bytes(self.path) + b"\0" + str(self.size).encode() + b"\0" + self.numbers.astype("<i8").tobytes()
        return hashlib.sha256(parts).hexdigest()

    @property
    def blob(self) -> str:
        """The name of its blob below the folder of the staged blobs."""
        return hashlib.sha256(name_bytes(self.path)).hexdigest()[:16]

    @property
    def index(self) -> str:
        """The name of its index there."""
        return f"{self.blob}.json"


class Index(msgspec.Struct, frozen=True):
    """What a blob holds: the lengths, in bytes, of a unit's images, in their order. `unit` is the unit's digest."""

    unit: str
    lengths: list[int]


def staged_folder(output: Store, fingerprint: str) -> Store:
    """Where a job's blobs are."""
    return output.child(f"{work_folder(fingerprint)}/{STAGED}")


def plan_units(splits: dict[str, pa.Table]) -> list[Unit]:
    """What has to be staged for the chosen images (columns path, offset, length as in a catalogue), by path."""
    parts = [table.select(["path", "offset", "length"]) for table in splits.values()]
    images = pa.concat_tables(parts).combine_chunks()
    offsets, lengths = images.column("offset").to_numpy(), images.column("length").to_numpy()
    return [
        Unit(path, np.sort(offsets[rows]), int(lengths[rows].sum()))
        for path, rows in sorted(_rows_by_path(images).items())
    ]


def stage(units: Sequence[Unit], extract: Extract, output: Store, fingerprint: str, mapper: Mapper) -> dict[str, Index]:
    """Stages the units that no earlier run has staged, by `mapper`, an item for each. Returns all indexes, by path.

    Raises `InputError` for a damaged file, once all others are staged.
    """
    folder = staged_folder(output, fingerprint)
    found = staged_before(units, output, fingerprint)
    left = [unit for unit in units if unit.path not in found]
    if found:
        logger.info("%s of %s files were staged by an earlier run", f"{len(found):,}", f"{len(units):,}")
    for unit, index in zip(left, mapper(functools.partial(_stage, extract, folder), left), strict=True):
        if isinstance(index, str):
            raise InputError(index)
        found[unit.path] = index
    return found


def staged_before(units: Sequence[Unit], output: Store, fingerprint: str) -> dict[str, Index]:
    """The indexes, by path, of the units whose blobs are complete."""
    folder = staged_folder(output, fingerprint)
    with ThreadPoolExecutor(RECORD_THREADS) as pool:
        indexes = pool.map(lambda unit: patiently(lambda: _read_index(folder, unit), folder), units)
        return {unit.path: index for unit, index in zip(units, indexes, strict=True) if index is not None}


def locate(table: pa.Table, units: Sequence[Unit], indexes: dict[str, Index]) -> pa.Table:
    """The table with path, offset and length of every image as they are in the folder of the staged blobs."""
    offsets, lengths = table.column("offset").to_numpy().copy(), np.empty(len(table), np.int64)
    blobs = np.empty(len(table), object)
    wanted = {unit.path: unit for unit in units}
    for path, rows in _rows_by_path(table).items():
        unit, sizes = wanted[path], np.array(indexes[path].lengths, np.int64)
        places = np.searchsorted(unit.numbers, offsets[rows])
        blobs[rows] = unit.blob.encode()
        lengths[rows] = sizes[places]
        offsets[rows] = (np.cumsum(sizes) - sizes)[places]
    columns = {"path": pa.array(blobs, pa.binary()), "offset": pa.array(offsets), "length": pa.array(lengths)}
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _stage(extract: Extract, folder: Store, unit: Unit) -> Index | str:
    """Writes a unit's blob, then its index; or explains what is wrong with the file.

    That is returned, not raised, as Spark tries again what raises. Raises `StorageError` if storage fails.
    """
    lengths = []
    try:
        with folder.replacing(unit.blob) as path, path.open("wb") as blob:
            for image in extract(unit.path, unit.numbers.tolist()):
                lengths.append(len(image))
                blob.write(image)
    except StorageError:
        raise
    except InputError as error:
        return str(error)
    if len(lengths) != len(unit.numbers):
        raise AssertionError(f"{unit.path}: {len(lengths)} images, not {len(unit.numbers)}")
    index = Index(unit.digest, lengths)
    folder.write(unit.index, msgspec.json.encode(index))
    return index


def _read_index(folder: Store, unit: Unit) -> Index | None:
    try:
        index = msgspec.json.decode(folder.read(unit.index), type=Index)
    except (FileNotFoundError, ValueError):  # msgspec's own, or Unicode's
        return None
    whole = len(index.lengths) == len(unit.numbers) and folder.size(unit.blob) == sum(index.lengths)
    return index if index.unit == unit.digest and whole else None


def _rows_by_path(table: pa.Table) -> dict[str, NDArray[np.int64]]:
    """The rows of each path in a table."""
    paths = table.column("path").combine_chunks().dictionary_encode()
    codes = paths.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(paths.dictionary)))
    names = map(name_of, paths.dictionary.to_pylist())
    return dict(zip(names, np.split(order, ends[:-1]), strict=True))
