"""A thread beside the training. It does one job at a time; what the job raises is raised in the training."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Runs one job at a time in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "background")
        self._job: Future[float] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Starts a job, after the last one. Raises as `settle` does, and then does not start it."""
        self.settle()
        self._job = self._thread.submit(_timed, job)

    def finished(self) -> float | None:
        """As `settle`, but waits for nothing: None also if the job is not done yet."""
        return self.settle() if self._job is not None and self._job.done() else None

    def settle(self) -> float | None:
        """Waits for the job. Returns its seconds of CPU time; None if there is no job, or it was settled before.

        Raises what the job raised.
        """
        job, self._job = self._job, None
        return None if job is None else job.result()


def _timed(job: Callable[[], None]) -> float:
    started = time.thread_time()
    job()
    return time.thread_time() - started
