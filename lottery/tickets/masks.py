"""Scores to masks: the weights of highest score are kept, ranked over all kernels at once or within each."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottery.experiment.sections import Masks
from preprocessing.common.errors import InputError

Mask = dict[str, NDArray[np.bool_]]
Kernels = Mapping[str, NDArray[np.floating[Any]]]
Shapes = Mapping[str, tuple[int, ...]]


class UnrankedError(ValueError):
    """Weights or scores that are not finite, so that they have no rank."""


def prunable_weights(kernels: Mapping[str, NDArray[Any]]) -> int:
    """How many weights the kernels, or their masks, have together."""
    return sum(kernel.size for kernel in kernels.values())


def kept_weights(density: float, prunable: int) -> int:
    """How many of `prunable` weights a mask of this density keeps: the nearest whole number."""
    return round(density * prunable)


def check_levels(masks: Masks, prunable: int) -> None:
    """Raises InputError for a level whose mask would keep none of `prunable` weights."""
    for level, density in enumerate(masks.levels):
        if kept_weights(density, prunable):
            continue
        if masks.iterative is not None:
            raise InputError(
                f"masks.iterative.rounds: {masks.iterative.rounds} rounds leave none of the {prunable:,} weights; "
                f"give at most {level}"
            )
        raise InputError(
            f"masks.densities: {density:g} keeps none of the {prunable:,} weights; "
            f"leave it out, or give at least {1 / prunable:.1g}"
        )


def without_excluded(kernels: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The paths of kernels that match none of the patterns (`masks.exclude`), which are fnmatch's.

    Raises InputError for a pattern that no path matches, or if no kernel is left.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in kernels):
            raise InputError(f"masks.exclude: {pattern} matches no prunable kernel; there are {', '.join(kernels)}")
    left = [path for path in kernels if not any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
    if kernels and not left:
        raise InputError(
            f"masks.exclude: {', '.join(patterns)} leaves no kernel to prune; there are {', '.join(kernels)}"
        )
    return left


def global_mask(scores: Kernels, count: int) -> Mask:
    """The mask that keeps the `count` weights of highest score, ranked over all kernels at once.

    It goes by rank, not by a threshold: at a tie the weight that comes first (kernels in their given order, then C
    order) is kept. So the number is exact, and a mask that keeps fewer weights is a subset of one that keeps more.

    Args:
        scores: by kernel, float arrays of any shape.

    Raises UnrankedError if a score is not finite.
    """
    _check_finite(scores)
    return _split(_highest(np.concatenate([kernel.ravel() for kernel in scores.values()]), count), scores)


def mask_by_kernel(scores: Kernels, counts: Mapping[str, int]) -> Mask:
    """The mask that keeps in each kernel the `counts` weights of highest score; ties and errors as in `global_mask`."""
    _check_finite(scores)
    return {name: _highest(kernel.ravel(), counts[name]).reshape(kernel.shape) for name, kernel in scores.items()}


def magnitudes(kernels: Kernels) -> Kernels:
    """The score of magnitude pruning: the absolute value of each weight."""
    return {name: np.abs(kernel) for name, kernel in kernels.items()}


def global_magnitude_masks(kernels: Kernels, densities: Sequence[float]) -> list[Mask]:
    """For each density the mask of global magnitude pruning (Frankle and Carbin, 2019), as `global_mask` makes it.

    Args:
        kernels: the dense run's final kernels by name, float arrays of any shape.
        densities: fractions in (0, 1].

    Raises UnrankedError if a weight is not finite.
    """
    scores, prunable = magnitudes(kernels), prunable_weights(kernels)
    return [global_mask(scores, kept_weights(density, prunable)) for density in densities]


def kept(mask: Mask) -> int:
    """How many weights the mask keeps."""
    return sum(int(np.count_nonzero(kernel)) for kernel in mask.values())


def empty_kernels(mask: Mask) -> list[str]:
    """Names of the kernels that keep no weight: nothing passes through their layers."""
    return [name for name, kernel in mask.items() if not kernel.any()]


def _check_finite(scores: Kernels) -> None:
    bad = [name for name, kernel in scores.items() if not np.isfinite(kernel).all()]
    if bad:
        raise UnrankedError(f"kernels with weights or scores that are not finite cannot be ranked: {', '.join(bad)}")


def _highest(scores: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of the scores [n] are the `count` highest, bool [n]; of equal ones the first."""
    if count == 0:
        return np.zeros(scores.size, dtype=bool)
    least = np.partition(scores, scores.size - count)[scores.size - count]
    highest: NDArray[np.bool_] = scores > least
    ties = np.flatnonzero(scores == least)
    highest[ties[: count - np.count_nonzero(highest)]] = True
    return highest


def _split(flat: NDArray[np.bool_], kernels: Kernels) -> Mask:
    ends = np.cumsum([kernel.size for kernel in kernels.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(kernel.shape) for (name, kernel), part in zip(kernels.items(), parts, strict=True)}
