"""Which images become rows, and in what order: seeded, and the same on every machine with every library version.

Every choice ranks names by a keyed hash of each name: the stream of a random generator may change between versions.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.common.errors import InputError
from preprocessing.job.settings import Settings
from preprocessing.sources.base import MINIVAL, TRAIN, Catalogue
from preprocessing.sources.skipped import NOT_CHOSEN, Skipped

# Names that are looked at together.
_BLOCK = 1 << 16


def select(catalogue: Catalogue, classes: Sequence[str], settings: Settings) -> dict[str, pa.Table]:
    """The chosen rows of the catalogue, by split, in the dataset's order. Column `label` (int32) indexes `classes`.

    Raises `InputError` if no image of train is chosen, or the holdout leaves none on one side.
    """
    parts: dict[str, tuple[pa.Table, NDArray[np.int32], NDArray[np.int64]]] = {}
    for split, table in catalogue.splits.items():
        label = _labels(table, classes)
        kept = np.flatnonzero(label >= 0)
        if settings.images_per_class is not None:
            keys = name_keys("images-per-class", settings.seed, table.column("id"), kept)
            kept = kept[rank_in_class(label[kept], keys) < settings.images_per_class]
        if len(kept):
            parts[split] = table, label, kept
    if TRAIN not in parts:
        raise InputError("no image of train is in the chosen classes: choose others with --classes")
    if settings.holdout:
        table, label, kept = parts[TRAIN]
        keys = name_keys("holdout", settings.seed, table.column("id"), kept)
        held = hold_out(keys, label[kept], settings.holdout)
        parts[MINIVAL], parts[TRAIN] = (table, label, kept[held]), (table, label, kept[~held])
    chosen = {}
    for split, (table, label, kept) in sorted(parts.items()):
        keys = name_keys(f"order of {split}", settings.seed, table.column("id"), kept)
        order = kept[np.argsort(keys, kind="stable")]
        rows = table.drop_columns(["class"]).take(pa.array(order))
        chosen[split] = rows.append_column("label", pa.array(label[order]))
    return chosen


def _labels(table: pa.Table, classes: Sequence[str]) -> NDArray[np.int32]:
    """The label of every image; -1 if its class is not one of `classes`."""
    found = pc.index_in(table.column("class"), pa.array(classes, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int32)


def account(catalogue: Catalogue, chosen: dict[str, pa.Table]) -> Skipped:
    """The catalogue's account of skipped files, and the images that `select` left out."""
    total = copy.deepcopy(catalogue.skipped)
    for split, table in catalogue.splits.items():
        parts = (split, MINIVAL) if split == TRAIN else (split,)
        if sum(len(chosen[part]) for part in parts if part in chosen) == len(table):
            continue
        taken = pa.concat_arrays(
            [chunk for part in parts if part in chosen for chunk in chosen[part].column("id").chunks]
        )
        left = table.filter(pc.invert(pc.is_in(table.column("id"), value_set=taken)))
        total.add(NOT_CHOSEN, left.column("id")[0].as_py(), len(left))
    return total


def choose_classes(classes: Sequence[str], wanted: int | tuple[str, ...] | None, seed: int) -> list[str]:
    """All classes, `wanted` of them drawn by seed, or those named; sorted. Draws with the same seed are nested.

    A class such as `tench, Tinca tinca` is named by any of its parts that no other class has.
    Raises `InputError` for a class that the source does not have, or for more classes than it has.
    """
    if wanted is None:
        return list(classes)
    if isinstance(wanted, tuple):
        named = _by_part(classes)
        unknown = sorted(set(wanted) - set(named))
        if unknown:
            raise InputError(f"--classes: the source has no class {unknown[0]!r}; it has {_some(classes)}")
        return sorted({named[name] for name in wanted})
    if wanted > len(classes):
        raise InputError(f"--classes {wanted}: the source has {len(classes)}; ask for as many or fewer")
    keys = name_keys("classes", seed, classes)
    return sorted(classes[place] for place in np.argsort(keys, kind="stable")[:wanted])


def _by_part(classes: Sequence[str]) -> dict[str, str]:
    """The classes by their names, and by those parts between commas that only one of them has."""
    parts = [(part.strip(), name) for name in classes for part in name.split(",")]
    count = Counter(part for part, _ in parts)
    return {part: name for part, name in parts if count[part] == 1} | {name: name for name in classes}


def hold_out(keys: NDArray[np.uint64], labels: NDArray[np.int32], holdout: float) -> NDArray[np.bool_]:
    """Which images leave train for minival: a fraction (below 1) or a number, from every class in proportion.

    `keys` put the images of a class in order. Raises `InputError` if it takes no image, or all of them.
    """
    count = round(holdout * len(keys)) if holdout < 1 else int(holdout)
    if not 0 < count < len(keys):
        raise InputError(
            f"--holdout {holdout:g} takes {count:,} of {len(keys):,} images of train: leave some on each side"
        )
    ranks = rank_in_class(labels, keys)
    # The images of a class are spread evenly over 0..1, so that the first of this order have a share of each.
    sizes = np.bincount(labels)[labels]
    order = np.lexsort((keys, (ranks + 0.5) / sizes))
    held = np.zeros(len(keys), np.bool_)
    held[order[:count]] = True
    return held


def rank_in_class(labels: NDArray[np.int32], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The rank 0, 1, ... of each image among those of its label, by key."""
    order = np.lexsort((keys, labels))
    ordered = labels[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks


def name_keys(purpose: str, seed: int, names: Any, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
    """A 64-bit hash of each name, different for every purpose and seed.

    `names` are a list, or an Arrow column, of which only some `rows` may be wanted.
    """
    key = hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=32).digest()
    if isinstance(names, pa.ChunkedArray):
        names = names.combine_chunks()
    keys = np.empty(len(names) if rows is None else len(rows), np.uint64)
    for start in range(0, len(keys), _BLOCK):  # as strings, many millions of names would fill the memory
        block = slice(start, start + _BLOCK)
        part = names[block] if rows is None else names.take(pa.array(rows[block]))
        texts = part if isinstance(part, list) else part.to_pylist()
        digests = b"".join([hashlib.blake2b(name.encode(), key=key, digest_size=8).digest() for name in texts])
        keys[block] = np.frombuffer(digests, "<u8")
    return keys


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
