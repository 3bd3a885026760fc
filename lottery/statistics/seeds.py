"""Accuracies over seeds: mean, standard deviation and interval, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Of a seed: a fraction of the images, or None if its training diverged or failed.
Accuracy = float | None


@dataclass(frozen=True)
class Estimate:
    """The mean of one value per seed, and how far it can be trusted; all in the unit of the values."""

    count: int  # of values
    mean: float
    deviation: float | None  # sample standard deviation; None of a single value
    low: float | None  # ends of the t interval of the mean; None of a single value, or of values that are all equal
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval; None if there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def estimate(values: Sequence[Accuracy], confidence: float = 0.95) -> Estimate | None:
    """The mean of the values with its two-sided t interval.

    None if there are no values or one is None: a mean over the seeds that survived would flatter.

    Values that are all equal have no interval. Accuracies are counts of images, so a few of them can be equal by
    chance, and an interval of width 0 would claim certainty.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = float(np.mean(known))
    if len(known) == 1:
        return Estimate(1, mean, None, None, None)
    if is_constant(known):
        return Estimate(len(known), mean, 0.0, None, None)
    low, high = stats.t.interval(confidence, len(known) - 1, loc=mean, scale=stats.sem(known))
    return Estimate(len(known), mean, float(np.std(known, ddof=1)), float(low), float(high))


def paired_differences(ticket: Mapping[int, Accuracy], other: Mapping[int, Accuracy]) -> list[Accuracy]:
    """The accuracy of a ticket less that of another network with the same seed, by rising seed; fractions.

    A seed that only one of them has was not trained yet, and is left out. A difference is None if either accuracy is.
    """
    pairs = [(ticket[seed], other[seed]) for seed in sorted(ticket.keys() & other.keys())]
    return [None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs]


def is_constant(values: Sequence[float]) -> bool:
    """Whether values differ by no more than the rounding of a subtraction. Two accuracies differ by far more."""
    return float(np.ptp(values)) < 1e-12
