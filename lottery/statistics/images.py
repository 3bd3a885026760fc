"""Two networks on the same images: which one gets more of them right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar


@dataclass(frozen=True)
class ImageComparison:
    """The exact paired test of two networks. It is about these two networks, not about how they were made."""

    images: int
    first_only: int  # images that only the first network gets right
    second_only: int
    difference: float  # accuracy of the first network less that of the second, a fraction
    low: float | None  # ends of the exact interval of the difference; None if the networks differ on no image
    high: float | None
    p: float  # two-sided, of "both are as often right" (McNemar's exact test)


def compare_images(first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float = 0.95) -> ImageComparison:
    """Compares which images two networks get right, bool [images] each, in the same order.

    The test and the interval take as given on how many images the networks differ. The interval leaves out 0 exactly if
    p < 1 - `confidence`.

    Raises ValueError if there are no images, or not as many of both.
    """
    if first.shape != second.shape or not first.size:
        raise ValueError(f"{first.size} and {second.size} images: not the same ones")
    first_only, second_only = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    both, neither = int(np.sum(first & second)), int(np.sum(~first & ~second))
    differ, images = first_only + second_only, first.size
    difference = (first_only - second_only) / images
    if not differ:
        return ImageComparison(images, 0, 0, 0.0, None, None, 1.0)
    p = min(float(mcnemar([[both, first_only], [second_only, neither]], exact=True).pvalue), 1.0)
    share = stats.binomtest(first_only, differ).proportion_ci(confidence, method="exact")
    low, high = ((2 * end - 1) * differ / images for end in (share.low, share.high))
    return ImageComparison(images, first_only, second_only, difference, float(low), float(high), p)
