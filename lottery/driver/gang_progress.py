"""How far a stage of the gang is: a progress line from its tasks' heartbeats."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lottery.run.run_directory import RunDirectory
from preprocessing.common.errors import StorageError
from preprocessing.common.progress import Pace, StageProgress

_POLL = 2.0  # seconds between looks at the heartbeats


@contextmanager
def gang_progress(run: RunDirectory, stage: str, batch: int, trainings: int, steps: int) -> Iterator[None]:
    """Shows progress while the block runs.

    Args:
        stage: its name.
        batch: images of a step.
        trainings, steps: of the whole stage.
    """
    ended = threading.Event()

    def watch() -> None:
        pace = Pace(0, time.monotonic())
        with StageProgress(stage, steps, "steps") as progress:
            while not ended.wait(_POLL):
                _show(run, progress, pace, batch, trainings, steps, ended=False)
            _show(run, progress, pace, batch, trainings, steps, ended=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(
    run: RunDirectory, progress: StageProgress, pace: Pace, batch: int, trainings: int, steps: int, *, ended: bool
) -> None:
    try:
        heartbeats = run.heartbeats.read()
    except StorageError:
        return  # away for a moment
    images, done = sum(each.images for each in heartbeats), sum(each.done for each in heartbeats)
    pace.update(images, time.monotonic())
    worked, seconds = pace.since(time.monotonic(), ended=ended)
    rate = f"{worked / seconds:,.0f}" if seconds else "-"
    progress.update(min(images // batch, steps), **{"trainings done": f"{done} of {trainings}", "images/s": rate})
