"""How many weights two masks both keep, against chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from lottery.tickets.masks import Mask


@dataclass(frozen=True)
class Overlap:
    """Two masks of the same weights.

    Args:
        weights: how many there are to choose from.
        one, other: how many each mask keeps.
        both: how many both keep.
        expected: of `both`, if the masks were drawn independently.
        deviation: standard deviation of `both` then.
    """

    weights: int
    one: int
    other: int
    both: int
    expected: float
    deviation: float

    @property
    def over_chance(self) -> float | None:
        """How many times as many as expected both keep; None if none is expected."""
        return self.both / self.expected if self.expected else None

    @property
    def z(self) -> float | None:
        """By how many standard deviations it is more than expected; None if chance leaves no choice."""
        return (self.both - self.expected) / self.deviation if self.deviation else None

    @property
    def jaccard(self) -> float | None:
        """Weights that both keep, as a share of those that at least one keeps; None if there are none."""
        return _jaccard(self.one, self.other, self.both)

    @property
    def expected_jaccard(self) -> float | None:
        """The same, if both kept the expected number."""
        return _jaccard(self.one, self.other, self.expected)


def layer_overlaps(one: Mask, other: Mask) -> dict[str, Overlap]:
    """The overlap of two masks in each kernel: chance draws as many weights of the kernel as each mask keeps there.

    Raises ValueError if the masks are of other kernels.
    """
    shapes, others = ({path: kept.shape for path, kept in mask.items()} for mask in (one, other))
    for path in {**shapes, **others}:
        if shapes.get(path) != others.get(path):
            raise ValueError(f"{path} has shape {shapes.get(path)} in one and {others.get(path)} in the other")
    counts = [
        (kept.size, int(kept.sum()), int(other[path].sum()), int((kept & other[path]).sum()))
        for path, kept in one.items()
    ]
    return dict(zip(one, _overlaps(counts), strict=True))


def whole_overlap(layers: Mapping[str, Overlap]) -> Overlap:
    """The overlap over all kernels: chance draws from all weights alike."""
    (whole,) = _overlaps([_counts(layers.values())])
    return whole


def whole_overlap_by_layer(layers: Mapping[str, Overlap]) -> Overlap:
    """The overlap over all kernels: chance draws within each kernel, so that kernels' densities explain nothing."""
    expected = math.fsum(layer.expected for layer in layers.values())
    deviation = math.sqrt(math.fsum(layer.deviation**2 for layer in layers.values()))
    return Overlap(*_counts(layers.values()), expected, deviation)


def _counts(layers: Iterable[Overlap]) -> tuple[int, int, int, int]:
    rows = [(layer.weights, layer.one, layer.other, layer.both) for layer in layers]
    weights, one, other, both = (sum(column) for column in zip(*rows, strict=True))
    return weights, one, other, both


def _overlaps(counts: Sequence[tuple[int, int, int, int]]) -> list[Overlap]:
    # As floats: the variance multiplies four of them, which overflows integers.
    weights, one, other, _ = np.array(counts, dtype=float).T
    with np.errstate(divide="ignore", invalid="ignore"):
        means, variances = hypergeom.stats(weights, one, other, moments="mv")
    deviations = np.sqrt(np.nan_to_num(variances))  # scipy gives none for a single weight; it is 0
    return [
        Overlap(*row, float(mean), float(deviation))
        for row, mean, deviation in zip(counts, means, deviations, strict=True)
    ]


def _jaccard(one: int, other: int, both: float) -> float | None:
    either = one + other - both
    return both / either if either else None
