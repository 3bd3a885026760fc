"""The training of a bundle, with evaluations, checkpoints, telemetry, events and shutdown requests."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any

import tensorflow as tf

from lottery.input.assembler_processes import AssemblerError
from lottery.input.training_batches import TrainingInput
from lottery.protocol import Progress, Saved
from lottery.run.heartbeats import BEAT_EVERY, Activity
from lottery.run.telemetry_rows import thinned
from lottery.worker import training_loop
from lottery.worker.checkpoint_timer import CheckpointTimer
from lottery.worker.member import Member
from lottery.worker.session import Session
from lottery.worker.shutdown import ShutdownRequested
from lottery.worker.telemetry import Telemetry
from preprocessing.common.errors import InputError, StorageError

_ROW_EVERY = 60.0  # seconds between rows of telemetry
_PACES = 25  # looks at how far the bundle is, for its pace: two minutes


def train_bundle(
    session: Session,
    members: Sequence[Member],
    seed: int,
    pauses: frozenset[int],
    at_pause: Callable[[Member], None],
) -> None:
    """Trains members to the end of the timeline, evaluates them on the way, and saves them as often as is worth it.

    Args:
        seed: of the order of samples.
        pauses: steps at which `at_pause` is called, besides those of evaluations and the last one.
        at_pause: called with each member that has reached a pause, after its evaluation.

    Raises:
        ShutdownRequested: after saving, if the process was told to stop.
        StorageError: after an attempt to save, if the dataset cannot be read, or a checkpoint not be written.
    """
    timeline = session.timeline
    pauses |= timeline.evaluations

    def pause(paused: Sequence[Member]) -> None:
        for member in paused:
            if member.ticket is None:  # of several workers all check it here, at the same state
                session.check(member)
        going = [member for member in paused if member.training]
        with progress.telemetry.spent("evaluation"):
            session.evaluate([member for member in going if member.step in timeline.evaluations])
        for member in going:
            at_pause(member)

    source = session.training_input(seed)
    session.agree_on(members)
    progress = _Progress(session, members)
    with closing(progress.telemetry):
        _train(session, members, source, pauses, pause, progress)
        progress.finish()


def _train(
    session: Session,
    members: Sequence[Member],
    source: TrainingInput,
    pauses: frozenset[int],
    pause: Callable[[Sequence[Member]], None],
    progress: _Progress,
) -> None:
    """Trains, and saves what it has if it cannot go on. Raises as `train_bundle` does."""
    try:
        # These were interrupted between their last step and its evaluation, or lack a part of it.
        pause([member for member in members if member.training and _is_to_be_evaluated(session, member, pauses)])
        training_loop.train(
            session.trainer,
            members,
            source,
            session.timeline,
            session.experiment.training.learning_rate,
            pauses,
            pause,
            progress.add,
            progress.telemetry,
        )
    except (ShutdownRequested, tf.errors.OpError, AssemblerError, MemoryError):
        # An OpError if another worker is lost. In all these cases the training so far is good.
        if session.position.chief:
            progress.save()
        raise
    except InputError:  # the dataset is damaged; or storage fails, the run directory's perhaps, which may fail again
        if session.position.chief:
            with suppress(StorageError):
                progress.save()
        raise
    except BaseException:
        with suppress(StorageError):
            session.log.settle()  # a checkpoint that is being written is good
        raise


def _is_to_be_evaluated(session: Session, member: Member, pauses: frozenset[int]) -> bool:
    return member.step in pauses and (member.loss_steps > 0 or session.log.lacks_answers(member))


class _Progress:
    """Accompanies the training of a bundle: checkpoints, telemetry, events and shutdown requests."""

    def __init__(self, session: Session, members: Sequence[Member]) -> None:
        self._session, self._members = session, members
        self._saved_at = self._saving_at = self._steps()
        gang = session.experiment.gang
        # A gang stops when any of its executors fails.
        self._timer = CheckpointTimer(gang.checkpoint, gang.mean_time_between_failures / session.placement.tasks)
        self.telemetry = Telemetry(os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._lately, self._told = self.telemetry.meter(), time.monotonic()
        self._pace = deque([(self._told, sum(self._steps()))], maxlen=_PACES)
        self._rows, self._noted = session.run.telemetry(self._bundle), time.monotonic()

    def add(self, images: int) -> None:
        """Reports images that were trained on, and begins to save if that is due.

        Raises ShutdownRequested after a request, StorageError if the last checkpoint could not be written.
        """
        if self._session.position.chief:
            self._take_note(self._session.log.written())
            if self._timer.due():
                with self.telemetry.spent("checkpoint"):
                    self._timer.run(self._begin_save)
        done = sum(not member.training for member in self._members)
        self._session.report(Progress(images, done, self._activity()))
        self._session.shutdown.check()

    def save(self) -> None:
        """Saves the bundle, and reports it if it has come further since the last time."""
        with suppress(StorageError):  # the checkpoint that could not be written is out of date
            self._take_note(self._session.log.settle())
        self._saving_at = self._steps()
        for member in self._members:  # a task whose partner has died kills a child that is silent for 90 s
            self._session.save([member])
            self._session.report(Progress(0))
        self._report_saved()

    def finish(self) -> None:
        """Waits for the last checkpoint, and writes the last row of telemetry."""
        self._take_note(self._session.log.settle())
        self._write_telemetry(self._with_row())

    def _begin_save(self) -> None:
        """Begins to save the bundle, once the last checkpoint is written."""
        self._take_note(self._session.log.settle())
        self._saving_at = self._steps()
        self._session.begin_save(self._members, partial(self._write_telemetry, self._with_row()))

    def _take_note(self, cpu_seconds: float | None) -> None:
        """Takes note of a checkpoint that is written now: None if none is."""
        if cpu_seconds is not None:
            # Training that uses all cores lost this much time to it.
            self._timer.went_on_beside(cpu_seconds / self._session.placement.cores)
            self._report_saved()

    def _report_saved(self) -> None:
        if self._saving_at != self._saved_at:
            self._saved_at = self._saving_at
            self._session.report(Saved())

    def _steps(self) -> list[int]:
        return [member.step for member in self._members]

    @property
    def _bundle(self) -> str:
        """The bundle's name: its first training's."""
        return self._members[0].name

    def _activity(self) -> Activity | None:
        """What the bundle is doing, if some seconds have passed since that was last said."""
        now = time.monotonic()
        if now - self._noted >= _ROW_EVERY:
            self._with_row()
        if now - self._told < BEAT_EVERY:
            return None
        self._told = now
        self._pace.append((now, sum(self._steps())))
        training = [member for member in self._members if member.training]
        if not training:
            return None
        total = self._session.timeline.total
        (since, before), (_, after) = self._pace[0], self._pace[-1]
        measured = self._lately.read()
        del measured["seconds"]
        return Activity(
            trainings=tuple(member.name for member in training),
            step=min(member.step for member in training),
            total=total,
            steps_left=sum(total - member.step for member in training),
            steps_per_s=round((after - before) / (now - since), 4),
            loss=_mean([member.loss for member in training]),
            top1=_mean([self._session.log.last_top1(member) for member in training]),
            **measured,
        )

    def _with_row(self) -> list[dict[str, Any]]:
        """The rows of telemetry so far and one of now."""
        self._noted = time.monotonic()
        placement = self._session.placement
        place = {"task": placement.task, "executor": placement.executor, "trainings": len(self._members)}
        row = {**self.telemetry.row(), "step": min(self._steps()), **place}
        self._rows = thinned([*self._rows, row])
        return self._rows

    def _write_telemetry(self, rows: list[dict[str, Any]]) -> None:
        self._session.run.write_telemetry(self._bundle, rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
