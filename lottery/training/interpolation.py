"""States on the straight line between two states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def interpolate(one: Mapping[str, Any], other: Mapping[str, Any], position: float) -> Arrays:
    """The state at a position on the line: 0 is `one`, 1 is `other`; arrays by path, of the same shapes and types.

    It is exact at both ends, and wherever the two are equal, so masked weights stay exactly 0.
    Integers, such as seed generators, are those of the nearer end.
    """
    return {path: _between(np.asarray(one[path]), np.asarray(other[path]), position) for path in one}


def _between(one: NDArray[Any], other: NDArray[Any], position: float) -> NDArray[Any]:
    near, far, share = (one, other, position) if position <= 0.5 else (other, one, 1 - position)
    if not np.issubdtype(one.dtype, np.floating):
        return near
    exact = near.astype(np.float64)  # from the nearer end: near + 0 x difference is near, to the bit
    between: NDArray[Any] = (exact + share * (far.astype(np.float64) - exact)).astype(one.dtype)
    return between
