"""Two networks on the same images: which one gets more of them right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from lottery.statistics.seeds import Estimate, estimate


@dataclass(frozen=True)
class ImageComparison:
    """The exact paired test of two networks. It is about these two networks, not about how they were made."""

    images: int
    first_only: int  # images that only the first network gets right
    second_only: int
    difference: Estimate  # accuracy of the first network less that of the second, a fraction; over images
    p: float  # two-sided, of "both are as often right" (McNemar's exact test)


def compare_images(first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float = 0.95) -> ImageComparison:
    """Compares which images two networks get right, bool [images] each, in the same order.

    The p is exact. The interval is the t interval over images, which is a little too narrow if the networks differ on
    fewer than 10 or so; there is none if they differ on no image.

    Raises ValueError if there are no images, or not as many of both.
    """
    if first.shape != second.shape or not first.size:
        raise ValueError(f"{first.size} and {second.size} images: not the same ones")
    first_only, second_only = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    both, neither = int(np.sum(first & second)), int(np.sum(~first & ~second))
    difference = estimate((first.astype(float) - second).tolist(), confidence)
    assert difference is not None
    test = mcnemar([[both, first_only], [second_only, neither]], exact=True)
    p = min(float(test.pvalue), 1.0) if first_only + second_only else 1.0
    return ImageComparison(first.size, first_only, second_only, difference, p)
