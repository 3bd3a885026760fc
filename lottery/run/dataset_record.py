"""`dataset.json` of a run directory: what a trained network has to know about the images that it was trained on."""

from __future__ import annotations

import msgspec

from preprocessing.dataset.opening import Dataset


class DatasetRecord(msgspec.Struct, frozen=True):
    """A dataset's properties that do not follow from its hash. `mean` and `std` are per channel, in 0..255."""

    place: str  # where the sweep read it, for people
    hash: str
    size: int  # pixels a side
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def record_of(dataset: Dataset) -> DatasetRecord:
    """What is recorded of a dataset."""
    return DatasetRecord(
        place=dataset.describe(),
        hash=dataset.content_hash,
        size=dataset.size,
        classes=tuple(dataset.class_names),
        mean=dataset.mean,
        std=dataset.std,
    )
