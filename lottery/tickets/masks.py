"""Weights to masks by global magnitude, and the controls' masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottery.seeds import random_stream
from preprocessing.common.errors import InputError

Mask = dict[str, NDArray[np.bool_]]
Kernels = Mapping[str, NDArray[np.floating[Any]]]


def prunable_weights(kernels: Mapping[str, NDArray[Any]]) -> int:
    """How many weights the kernels, or their masks, have together."""
    return sum(kernel.size for kernel in kernels.values())


def kept_weights(density: float, prunable: int) -> int:
    """How many of `prunable` weights a mask of this density keeps: the nearest whole number."""
    return round(density * prunable)


def check_densities(densities: Sequence[float], prunable: int) -> None:
    """Raises InputError for a density whose mask would keep none of `prunable` weights."""
    for density in densities:
        if kept_weights(density, prunable) == 0:
            raise InputError(
                f"masks.densities: {density:g} keeps none of the {prunable:,} weights; "
                f"leave it out, or give at least {1 / prunable:.1g}"
            )


def global_magnitude_masks(kernels: Kernels, densities: Sequence[float]) -> list[Mask]:
    """For each density the mask that keeps exactly `round(density * prunable)` weights of largest magnitude.

    Weights are ranked over all kernels at once (global magnitude pruning, Frankle and Carbin, 2019) and by rank,
    not by a threshold: at a tie the weight that comes first (kernels in their given order, then C order) is kept,
    so that the number is exact and a sparser mask is a subset of a denser one.

    Args:
        kernels: the dense run's final kernels by name, float arrays of any shape.
        densities: fractions in (0, 1].

    Raises:
        ValueError: a weight is not finite, so it has no rank.
    """
    magnitudes = np.concatenate([np.abs(kernel).ravel() for kernel in kernels.values()])
    if not np.isfinite(magnitudes).all():
        bad = [name for name, kernel in kernels.items() if not np.isfinite(kernel).all()]
        raise ValueError(f"kernels with weights that are not finite cannot be ranked: {', '.join(bad)}")
    largest_first = np.argsort(-magnitudes, kind="stable")
    masks = []
    for density in densities:
        flat = np.zeros(magnitudes.size, dtype=bool)
        flat[largest_first[: kept_weights(density, magnitudes.size)]] = True
        masks.append(_split(flat, kernels))
    return masks


def shuffled(mask: Mask, seed: int, level: int) -> Mask:
    """The `shuffle` control's mask: each kernel's mask permuted within the kernel, so that its density stays."""
    return {
        name: random_stream("shuffle", seed, level, name).permutation(kept.ravel()).reshape(kept.shape)
        for name, kept in mask.items()
    }


def kept(mask: Mask) -> int:
    """How many weights the mask keeps."""
    return sum(int(np.count_nonzero(kernel)) for kernel in mask.values())


def empty_kernels(mask: Mask) -> list[str]:
    """Names of the kernels that keep no weight: nothing passes through their layers."""
    return [name for name, kernel in mask.items() if not kernel.any()]


def _split(flat: NDArray[np.bool_], kernels: Kernels) -> Mask:
    ends = np.cumsum([kernel.size for kernel in kernels.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(kernel.shape) for (name, kernel), part in zip(kernels.items(), parts, strict=True)}
