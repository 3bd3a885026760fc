"""How a stage of the gang is going: a progress line, warnings of stalls, and what goes into the run's history."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lottery.driver.gang import GangError
from lottery.driver.prepare import Sweep
from lottery.run.heartbeats import Heartbeat
from lottery.status.stalls import Stalls
from preprocessing.common.errors import StorageError
from preprocessing.common.progress import Pace, StageProgress, format_duration

logger = logging.getLogger(__name__)

_POLL = 2.0  # seconds between looks at the heartbeats
_LINE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Stage:
    """A stage: its name, how many tasks train how many trainings on how many executors, and their steps in all."""

    name: str
    tasks: int
    slots: int
    trainings: int
    steps: int = 0


@contextmanager
def sweep_history(sweep: Sweep) -> Iterator[None]:
    """Has the block in the run's history as one sweep, and how it ended."""
    history = sweep.home.history
    history.add("sweep began")
    try:
        yield
    except BaseException as error:
        history.add("sweep ended", message=str(error) or type(error).__name__)
        raise
    history.add("sweep ended")


@contextmanager
def gang_progress(sweep: Sweep, stage: Stage) -> Iterator[None]:
    """Shows progress while the block runs, and has it in the run's history as a stage."""
    history, watcher, ended = sweep.home.history, _Watcher(sweep, stage), threading.Event()
    history.add("stage began", stage=stage.name, tasks=stage.tasks, slots=stage.slots, trainings=stage.trainings)
    thread = threading.Thread(target=watcher.watch, args=(ended,), daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    try:
        yield
    except (GangError, StorageError) as error:
        end()
        images, seconds = watcher.unsaved()
        history.add("stage failed", stage=stage.name, message=str(error), lost_images=images, lost_seconds=seconds)
        raise
    finally:
        end()
    history.add("stage ended", stage=stage.name)


class _Watcher:
    """Follows the heartbeats of a stage's tasks."""

    def __init__(self, sweep: Sweep, stage: Stage) -> None:
        self._run, self._stage = sweep.home, stage
        self._batch = sweep.experiment.data.batch
        self._stalls = Stalls(sweep.experiment)
        self._pace = Pace(0, time.monotonic())
        self._heartbeats: Sequence[Heartbeat] = ()
        self._deaths: dict[int, int] = {}  # by task
        self._rates: dict[int, float] = {}  # by task: its last images/s, which a process that dies no longer tells
        self._marked = time.monotonic()

    def watch(self, ended: threading.Event) -> None:
        """Reports until the stage has ended."""
        if not self._stage.steps:
            self._follow(ended)
            return
        with StageProgress(self._stage.name, self._stage.steps, "steps", every=_LINE_EVERY) as progress:
            self._follow(ended, progress)

    def unsaved(self) -> tuple[int, float]:
        """Images that would have to be trained again if all tasks died now, and seconds of one executor for that.

        Without those of a process that has died: they are reported with its death.
        """
        lost = [self._lost(beat) for beat in self._heartbeats if beat.activity is not None]
        return sum(images for images, _ in lost), round(sum(seconds for _, seconds in lost), 1)

    def _follow(self, ended: threading.Event, progress: StageProgress | None = None) -> None:
        while True:
            over = ended.wait(_POLL)
            try:
                self._heartbeats = self._run.heartbeats.read()
            except StorageError:  # away for a moment
                if over:
                    return
                continue
            self._report_deaths()
            if progress is not None:
                self._show(progress, ended=over)
            if over:
                return
            self._warn()
            self._mark()

    def _show(self, progress: StageProgress, *, ended: bool) -> None:
        images, done = sum(each.images for each in self._heartbeats), sum(each.done for each in self._heartbeats)
        self._pace.update(images, time.monotonic())
        worked, seconds = self._pace.since(time.monotonic(), ended=ended)
        rate = f"{worked / seconds:,.0f}" if seconds else "-"
        counts = {"trainings done": f"{done} of {self._stage.trainings}", "images/s": rate}
        progress.update(min(images // self._batch, self._stage.steps), **counts)

    def _report_deaths(self) -> None:
        for beat in self._heartbeats:
            if beat.activity is not None and beat.activity.images_per_s:
                self._rates[beat.task] = beat.activity.images_per_s
            if beat.deaths > self._deaths.get(beat.task, 0):
                images, seconds = self._lost(beat)
                lost = f"; {format_duration(seconds)} of training lost" if seconds else ""
                logger.warning("task %d on %s: its process died: %s%s", beat.task, beat.executor, beat.last_death, lost)
                self._run.history.add(
                    "process died",
                    stage=self._stage.name,
                    task=beat.task,
                    executor=beat.executor,
                    message=beat.last_death,
                    lost_images=images,
                    lost_seconds=seconds,
                )
            self._deaths[beat.task] = beat.deaths

    def _lost(self, beat: Heartbeat) -> tuple[int, float]:
        rate = self._rates.get(beat.task)
        return beat.unsaved, round(beat.unsaved / rate, 1) if rate else 0.0

    def _warn(self) -> None:
        for warning in self._stalls.look(self._heartbeats, time.monotonic()):
            logger.warning(warning)
            self._run.history.add("warning", stage=self._stage.name, message=warning)

    def _mark(self) -> None:
        """Leaves a sign of life each minute, by which `status` tells how long a killed sweep held its executors."""
        if time.monotonic() - self._marked >= _LINE_EVERY:
            self._marked = time.monotonic()
            self._run.history.add("alive")
