"""When the next checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Callable

from lottery.tickets import scheduling


class CheckpointTimer:
    """Says when a checkpoint is due, from the cost of the last one.

    The cost is the time for which training stood still, and the time that it lost to the writing while it went on.

    Args:
        interval: seconds, or `auto`, which loses the least time.
        mean_time_between_failures: seconds, for all machines whose failure would lose the work.
    """

    def __init__(self, interval: float | str, mean_time_between_failures: float) -> None:
        self._fixed = None if interval == "auto" else float(interval)
        self._mean_time_between_failures = mean_time_between_failures
        self._stood_still, self._beside = 1.0, 0.0  # seconds; a guess until the first one
        self._last = time.monotonic()

    @property
    def cost(self) -> float:
        """Seconds of training that the last checkpoint has cost."""
        return max(self._stood_still + self._beside, 1e-3)

    def due(self) -> bool:
        """Whether it is time."""
        interval = self._fixed or scheduling.checkpoint_interval(self.cost, self._mean_time_between_failures)
        return time.monotonic() - self._last >= interval

    def run(self, begin: Callable[[], None]) -> None:
        """Calls `begin`, and measures for how long training stands still."""
        started = time.monotonic()
        begin()
        self._last = time.monotonic()
        self._stood_still = self._last - started

    def went_on_beside(self, seconds: float) -> None:
        """Takes note of how much of its time training lost to the rest of the checkpoint, in seconds."""
        self._beside = seconds
