"""The log of a process's trainings: their evaluations, and the checkpoints that these belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lottery.experiment.steps import Timeline
from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import RunDirectory
from lottery.training.scores import Scores
from lottery.training.trainer import Trainer
from lottery.worker.background import Background
from lottery.worker.member import Member


class _Snapshot(NamedTuple):
    """A training at one moment, in main memory: the content of its two files."""

    name: str
    metrics: list[dict[str, Any]]
    state: Checkpoint


class TrainingLog:
    """The rows of metrics.jsonl of each training, written and read together with its checkpoints.

    Checkpoints are written in the background, one after the other, while training goes on. So an older one never
    replaces a newer one, and each is written with the rows of its own step. Until it is written, it takes as much main
    memory as the states in it.
    """

    def __init__(self, run: RunDirectory, trainer: Trainer, timeline: Timeline) -> None:
        self._run, self._trainer, self._timeline = run, trainer, timeline
        self._metrics: dict[str, list[dict[str, Any]]] = {}
        self._background = Background()

    def add(self, member: Member, scores: Scores) -> None:
        """Adds an evaluation, with the mean loss of the steps since the last one."""
        self._metrics.setdefault(member.name, []).append(
            {
                "step": member.step,
                "epoch": round(self._timeline.epoch(member.step), 4),
                "training_loss": round(member.loss_sum / max(member.loss_steps, 1), 6),
                "top1": scores.top1,
                "top5": scores.top5,
                "loss": scores.loss,
            }
        )
        member.loss_sum, member.loss_steps = 0.0, 0

    def final_scores(self, member: Member) -> Scores | None:
        """The scores of the trained network; None if it was not evaluated at the last step."""
        rows = self._metrics.get(member.name, [])
        if not rows or rows[-1]["step"] != self._timeline.total:
            return None
        return Scores(rows[-1]["top1"], rows[-1]["top5"], rows[-1]["loss"])

    def last_top1(self, member: Member) -> float | None:
        """Top-1 accuracy of the member's last evaluation; None if it has had none."""
        rows = self._metrics.get(member.name, [])
        return rows[-1]["top1"] if rows else None

    def begin_save(self, members: Iterable[Member], then: Callable[[], None] = lambda: None) -> None:
        """Takes members off the device, and begins to write their evaluations and checkpoints; last it calls `then`.

        A member that has a result by then is left out: this process may have outlived its task, and another one have
        finished the work.

        Raises as `settle` does: the last checkpoint is waited for.
        """
        self.settle()
        snapshots = [self._snapshot(member) for member in members]

        def write() -> None:
            while snapshots:  # a written one is forgotten at once, for its memory
                snapshot = snapshots.pop(0)
                if not self._run.has_result(snapshot.name):
                    self._write(snapshot)
            then()

        self._background.start(write)

    def written(self) -> float | None:
        """CPU seconds of a checkpoint whose writing has ended since this was last asked; None if there is none.

        Raises StorageError if it could not be written.
        """
        return self._background.finished()

    def settle(self) -> float | None:
        """As `written`, but waits until nothing is being written."""
        return self._background.settle()

    def save(self, member: Member) -> None:
        """Writes the member's evaluations and its checkpoint, whole when this returns. Raises as `written` does."""
        self.settle()
        self._write(self._snapshot(member))

    def _snapshot(self, member: Member) -> _Snapshot:
        return _Snapshot(member.name, list(self._metrics.get(member.name, [])), member.checkpoint())

    def _write(self, snapshot: _Snapshot) -> None:
        # The metrics first: of rows that the state has not come to, resuming makes new ones; missing ones stay missing.
        self._run.write_metrics(snapshot.name, snapshot.metrics)
        self._run.write_checkpoint(snapshot.name, snapshot.state)

    def resume(self, member: Member) -> bool:
        """Gives a member the state in which its training was saved. False if it was not saved."""
        saved = self._run.checkpoint(member.name)
        if saved is None:
            return False
        self._trainer.check(saved.variables, *self._run.state_file(member.name))
        member.state, member.step, member.seconds = saved.variables, saved.step, saved.seconds
        member.loss_sum, member.loss_steps = saved.loss_sum, saved.loss_steps
        rows = self._run.metrics(member.name)
        # Rows newer than the state will be made again; so will its own step's, if it was saved before its evaluation.
        evaluated = saved.step if saved.loss_steps == 0 else saved.step - 1
        self._metrics[member.name] = [row for row in rows if row["step"] <= evaluated]
        if saved.step == evaluated == self._timeline.total and self.final_scores(member) is None:
            raise self._run.lacks_metrics(member.name, saved.step)
        return True
