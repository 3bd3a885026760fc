"""When the next checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Callable

from lottery.tickets import scheduling


class CheckpointTimer:
    """Says when a checkpoint is due, from what the last one cost.

    Args:
        interval: seconds, or `auto`, which loses the least time.
        mean_time_between_failures: seconds, of everything whose failure would lose the work.
    """

    def __init__(self, interval: float | str, mean_time_between_failures: float) -> None:
        self._fixed = None if interval == "auto" else float(interval)
        self._mean_time_between_failures = mean_time_between_failures
        self._cost = 1.0  # seconds; a guess until the first one
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time."""
        interval = self._fixed or scheduling.checkpoint_interval(self._cost, self._mean_time_between_failures)
        return time.monotonic() - self._last >= interval

    def run(self, save: Callable[[], None]) -> None:
        """Calls `save` and measures how long it takes."""
        started = time.monotonic()
        save()
        self._last = time.monotonic()
        self._cost = max(self._last - started, 1e-3)
