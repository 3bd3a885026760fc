"""Which images become rows, and in what order: seeded, and the same on every machine with every library version.

Every choice ranks names by a keyed hash of each name: the stream of a random generator may change between versions.
"""

from __future__ import annotations

import copy
import hashlib
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


def select(catalogue: Catalogue, classes: Sequence[str], settings: Settings) -> dict[str, pa.Table]:
    """The chosen rows of the catalogue, by split, in the dataset's order. Column `label` (int32) indexes `classes`.

    Raises `InputError` if no image of train is chosen, or the holdout leaves none on one side.
    """
    labels = {name: label for label, name in enumerate(classes)}
    splits = {}
    for split, table in catalogue.splits.items():
        ids = np.array(table.column("id").to_pylist(), object)
        label = np.array([labels.get(name, -1) for name in table.column("class").to_pylist()], np.int32)
        kept = np.flatnonzero(label >= 0)
        if settings.images_per_class is not None:
            keys = name_keys("images-per-class", settings.seed, ids[kept])
            kept = kept[rank_in_class(label[kept], keys) < settings.images_per_class]
        splits[split] = kept, ids, label, table
    parts = {split: (kept, ids, label, table) for split, (kept, ids, label, table) in splits.items() if len(kept)}
    if TRAIN not in parts:
        raise InputError("no image of train is in the chosen classes: choose others with --classes")
    if settings.holdout:
        kept, ids, label, table = parts[TRAIN]
        held = hold_out(ids[kept], label[kept], settings.holdout, settings.seed)
        parts[MINIVAL] = kept[held], ids, label, table
        parts[TRAIN] = kept[~held], ids, label, table
    chosen = {}
    for split, (kept, ids, label, table) in sorted(parts.items()):
        order = kept[np.argsort(name_keys(f"order of {split}", settings.seed, ids[kept]), kind="stable")]
        chosen[split] = table.take(pa.array(order)).append_column("label", pa.array(label[order]))
    return chosen


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

    Raises `InputError` for a class that the source does not have, or for more classes than it has.
    """
    if wanted is None:
        return list(classes)
    if isinstance(wanted, tuple):
        unknown = sorted(set(wanted) - set(classes))
        if unknown:
            raise InputError(f"--classes: the source has no class {unknown[0]!r}; it has {_some(classes)}")
        return sorted(set(wanted))
    if wanted > len(classes):
        raise InputError(f"--classes {wanted}: the source has {len(classes)}; ask for as many or fewer")
    keys = name_keys("classes", seed, classes)
    return sorted(classes[place] for place in np.argsort(keys, kind="stable")[:wanted])


def hold_out(ids: Any, labels: NDArray[np.int32], holdout: float, seed: int) -> NDArray[np.bool_]:
    """Which images leave train for minival: a fraction (below 1) or a number, from every class in proportion.

    Raises `InputError` if it takes no image, or all of them.
    """
    count = round(holdout * len(ids)) if holdout < 1 else int(holdout)
    if not 0 < count < len(ids):
        raise InputError(
            f"--holdout {holdout:g} takes {count:,} of {len(ids):,} images of train: leave some on each side"
        )
    keys = name_keys("holdout", seed, ids)
    ranks = rank_in_class(labels, keys)
    # The images of a class are spread evenly over 0..1, so that the first of this order have a share of each.
    sizes = np.bincount(labels)[labels]
    order = np.lexsort((keys, (ranks + 0.5) / sizes))
    held = np.zeros(len(ids), np.bool_)
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


def name_keys(purpose: str, seed: int, names: Any) -> NDArray[np.uint64]:
    """A 64-bit hash of each name, different for every purpose and seed."""
    key = hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=32).digest()
    digests = b"".join(hashlib.blake2b(name.encode(), key=key, digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
