"""How far weights moved in training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lottery.tickets.masks import Mask


@dataclass(frozen=True)
class Distance:
    """Euclidean norms over the weights that are kept."""

    start: float  # of the weights before training
    moved: float  # of the difference that training made

    @property
    def relative(self) -> float | None:
        """Distance moved, as a multiple of the start's norm; None if that is 0."""
        return self.moved / self.start if self.start else None


def distances(start: Mapping[str, Any], final: Mapping[str, Any], mask: Mask) -> dict[str, Distance]:
    """For each kernel of the mask how far it moved from `start` to `final`, arrays by path; sums are in float64."""
    found = {}
    for path, kept in mask.items():
        before, after = (np.asarray(state[path], np.float64)[kept] for state in (start, final))
        found[path] = Distance(float(np.linalg.norm(before)), float(np.linalg.norm(after - before)))
    return found


def whole_distance(layers: Iterable[Distance]) -> Distance:
    """The distance of all kernels together."""
    pairs = [(layer.start, layer.moved) for layer in layers]
    return Distance(math.hypot(*(start for start, _ in pairs)), math.hypot(*(moved for _, moved in pairs)))
