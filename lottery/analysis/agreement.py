"""On how many images two networks predict the same class, against what their accuracies alone explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Agreement:
    """Two networks' predictions for the same images; all are fractions of the images."""

    one_top1: float
    other_top1: float
    churn: float  # on which they predict different classes
    expected_churn: float  # if neither knew what the other gets right, and wrong answers were drawn alike
    both_right: float
    both_wrong: float


def agreement(one: Classes, other: Classes, labels: Classes, classes: int) -> Agreement:
    """The agreement of two networks' predictions, int [images] each, for images with these labels.

    A prediction of -1 is no class: it is wrong, and agrees with nothing.
    """
    right, other_right = one == labels, other == labels
    first, second = float(right.mean()), float(other_right.mean())
    same = float(((one == other) & (one >= 0)).mean())
    return Agreement(
        one_top1=first,
        other_top1=second,
        churn=1 - same,
        expected_churn=1 - first * second - (1 - first) * (1 - second) / max(classes - 1, 1),
        both_right=float((right & other_right).mean()),
        both_wrong=float((~right & ~other_right).mean()),
    )
