"""Iterative pruning (Frankle and Carbin, 2019): each round ranks what the round before it has trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lottery.experiment.config import Experiment
from lottery.tickets import mask_methods
from lottery.tickets.masks import Kernels, Mask, global_mask, kept_weights, magnitudes, mask_by_kernel, prunable_weights
from preprocessing.common.errors import InputError

_METHODS = ("magnitude", "random")  # by whose scores, which are never negative, rounds can be ranked


def check(experiment: Experiment) -> None:
    """Raises InputError if the experiment is iterative, and its method does not rank trained weights."""
    masks, method = experiment.masks, mask_methods.find(experiment.masks.method)
    if masks.iterative is None:
        return
    if method.scores not in _METHODS or not method.at_end:
        raise InputError(
            f"masks.method: {masks.method} does not rank trained weights, as masks.iterative does; "
            "give one of the magnitude or random methods, or densities in its place"
        )
    if masks.at is not None:
        raise InputError("masks.at: masks.iterative always ranks final weights; leave the key out")


def round_mask(before: Mask, kernels: Kernels, density: float, experiment: Experiment) -> Mask:
    """The mask of a round: of the weights that the round before it kept, those of highest score.

    It keeps `round(density * prunable)` weights in all, and none that `before` does not keep. With a budget, a kernel
    keeps at most what it has left, and the others make up for it.

    Args:
        before: the mask of the round before.
        kernels: the weights that it has trained, float arrays by path.
        density: of all prunable weights, not of those that are left.

    Raises UnrankedError if a weight is not finite.
    """
    method = mask_methods.find(experiment.masks.method)
    shapes = {path: kept.shape for path, kept in before.items()}
    scores = (
        mask_methods.random_scores(shapes, experiment.seed)
        if method.scores == "random"
        else magnitudes({path: kernels[path] for path in before})
    )
    among = {path: np.where(kept, scores[path], -1.0) for path, kept in before.items()}
    if method.budget is None:
        return global_mask(among, kept_weights(density, prunable_weights(before)))
    left = {path: int(np.count_nonzero(kept)) for path, kept in before.items()}
    return mask_by_kernel(among, within(method.budget(shapes, density), left))


def within(counts: Mapping[str, int], left: Mapping[str, int]) -> dict[str, int]:
    """The counts with none above what is left of a kernel, and the same sum; the first kernels with room make up."""
    found = {path: min(count, left[path]) for path, count in counts.items()}
    missing = sum(counts.values()) - sum(found.values())
    for path in found:
        more = min(missing, left[path] - found[path])
        found[path] += more
        missing -= more
    return found
