"""What a user may ask of an analysis."""

from __future__ import annotations

from dataclasses import dataclass

from preprocessing.common.errors import InputError

PARTS = ("overlap", "layers", "distance", "barrier", "agreement")
FORWARD = frozenset({"barrier", "agreement"})  # those that take forward passes, and so the dataset


@dataclass(frozen=True)
class Options:
    """The parts of an analysis, and how exact they are.

    Args:
        parts: of PARTS; None: all that are possible.
        data: URI of the dataset that the sweep ran on.
        points: networks on a line between two trainings, both ends included.
        statistics_images: training images from which batch norm's statistics are taken anew; 0: they are not.

    Raises InputError if they do not fit together.
    """

    parts: tuple[str, ...] | None = None
    data: str | None = None
    points: int = 11
    statistics_images: int = 2048

    def __post_init__(self) -> None:
        for part in self.parts or ():
            if part not in PARTS:
                raise InputError(f"--parts: {part} is not a part; give some of {', '.join(PARTS)}")
            if part in FORWARD and self.data is None:
                raise InputError(f"--parts: {part} takes forward passes over the dataset; give it as --data DATASET")
        if self.points < 2:
            raise InputError(f"--points: {self.points} is less than a line's two ends; give at least 3")
        if self.statistics_images < 0:
            raise InputError(f"--statistics-images: {self.statistics_images} is negative; give 0 to leave them out")

    def has(self, part: str) -> bool:
        """Whether a part is to be done."""
        return part in self.parts if self.parts is not None else part not in FORWARD or self.data is not None
