"""The training of a bundle, with evaluations, checkpoints, telemetry, events and shutdown requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import tensorflow as tf

from lottery.input.assembler_processes import AssemblerDiedError
from lottery.protocol import Progress, Saved
from lottery.worker import training_loop
from lottery.worker.checkpoint_timer import CheckpointTimer
from lottery.worker.member import Member
from lottery.worker.session import Session
from lottery.worker.shutdown import ShutdownRequested
from lottery.worker.telemetry import Telemetry
from preprocessing.common.errors import InputError, StorageError


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
    """
    timeline = session.timeline
    pauses |= timeline.evaluations

    def pause(paused: Sequence[Member]) -> None:
        for member in paused:
            if member.ticket is None:  # of several workers all check it here, at the same state
                session.check(member)
        going = [member for member in paused if member.training]
        session.evaluate([member for member in going if member.step in timeline.evaluations])
        for member in going:
            at_pause(member)

    source = session.training_input(seed)
    session.agree_on(members)
    progress = _Progress(session, members)
    try:
        # These had to stop before they were evaluated.
        pause([member for member in members if member.training and member.loss_steps and member.step in pauses])
        training_loop.train(
            session.trainer,
            members,
            source,
            timeline,
            session.experiment.training.learning_rate,
            pauses,
            pause,
            progress.add,
            progress.telemetry,
        )
    except (ShutdownRequested, tf.errors.OpError, AssemblerDiedError):
        # An OpError if another worker is lost. In all three cases what is trained is good.
        if session.position.chief:
            progress.save()
        raise
    except InputError:  # the dataset is damaged; or storage fails, the run directory's perhaps, which may fail again
        if session.position.chief:
            with suppress(StorageError):
                progress.save()
        raise
    progress.close()


class _Progress:
    """What accompanies the training of a bundle: checkpoints, telemetry, events, and a look at shutdown requests."""

    def __init__(self, session: Session, members: Sequence[Member]) -> None:
        self._session, self._members = session, members
        self._saved_at = [member.step for member in members]
        gang = session.experiment.gang
        # A gang stops when any of its executors fails.
        self._timer = CheckpointTimer(gang.checkpoint, gang.mean_time_between_failures / session.placement.tasks)
        self.telemetry = Telemetry(os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._rows = session.run.telemetry(self._bundle)

    def add(self, images: int) -> None:
        """Reports images that were trained on, and saves if that is due. Raises ShutdownRequested after a request."""
        if self._session.position.chief and self._timer.due():
            self._timer.run(self.save)
            self._write_telemetry()
        done = sum(not member.training for member in self._members)
        self._session.report(Progress(images, done))
        self._session.shutdown.check()

    def save(self) -> None:
        """Saves the bundle, and reports it if it has come further since the last time."""
        self._session.save(self._members)
        steps = [member.step for member in self._members]
        if steps != self._saved_at:
            self._saved_at = steps
            self._session.report(Saved())

    def close(self) -> None:
        """Writes the last row of telemetry."""
        self.telemetry.close()
        self._write_telemetry()

    @property
    def _bundle(self) -> str:
        """The bundle's name: its first training's."""
        return self._members[0].name

    def _write_telemetry(self) -> None:
        self._rows.append(self.telemetry.row())
        self._session.run.write_telemetry(self._bundle, self._rows)
