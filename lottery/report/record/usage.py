"""How well the gang used its machines over time, from its telemetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottery.report.record.spans import Clock

_BINS = 120


@dataclass(frozen=True)
class Use:
    """One measure over time, in equal bins of the time that the sweep was at work; bins without any work are left out.

    `begin`, `mean`, `low` and `high` are float [bins]: seconds, and over the tasks at work then the mean, least and
    most.
    """

    begin: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def use_over_time(rows: Iterable[Mapping[str, Any]], clock: Clock, field: str, bins: int = _BINS) -> Use | None:
    """The use that telemetry rows give in `field`; None if none of them has it.

    A row counts in each bin by how much of the bin's time it covers; one that is not finite does not count.
    """
    width = clock.total / bins
    weight, total = np.zeros(bins), np.zeros(bins)
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    for row in rows:
        value = row.get(field)
        end = clock.elapsed(float(row["time"]))
        begin = max(end - float(row["seconds"]), 0.0)
        if value is None or not np.isfinite(value) or end <= begin or width <= 0:
            continue
        first, last = int(begin / width), min(int(np.ceil(end / width)), bins)
        edges = width * np.arange(first, last + 1)
        covered = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0, None)
        weight[first:last] += covered
        total[first:last] += covered * float(value)
        low[first:last] = np.minimum(low[first:last], float(value))
        high[first:last] = np.maximum(high[first:last], float(value))
    known = weight > 0
    if not known.any():
        return None
    mean: NDArray[np.float64] = total[known] / weight[known]
    return Use(width * np.flatnonzero(known).astype(np.float64), mean, low[known], high[known])
