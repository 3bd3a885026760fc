"""The log of a process's trainings: their evaluations, and the checkpoints that these belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lottery.experiment.steps import Timeline
from lottery.run.answers import Answers
from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import RunDirectory
from lottery.training.scores import Scores
from lottery.training.trainer import Trainer
from lottery.worker.background import Background
from lottery.worker.member import Member

# The fields of a result that a row of metrics.jsonl has too.
_SCORES = ("top1", "top5", "loss", "select_top1", "select_top5", "select_loss")


class _Snapshot(NamedTuple):
    """A training at one moment, in main memory: the content of its files."""

    name: str
    metrics: list[dict[str, Any]]
    answers: Answers | None
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
        self._answers: dict[str, Answers] = {}  # of the evaluation at the end
        self._background = Background()

    def add(self, member: Member, scores: Scores) -> None:
        """Adds an evaluation, with the mean loss of the steps since the last one.

        One at this step that gave the same accuracy stays: on another processor its loss may round differently.
        """
        rows = self._metrics.setdefault(member.name, [])
        again = bool(rows) and rows[-1]["step"] == member.step
        if again and rows[-1]["top1"] == scores.top1:
            return
        row = {
            "step": member.step,
            "epoch": round(self._timeline.epoch(member.step), 4),
            "training_loss": round(member.loss_sum / max(member.loss_steps, 1), 6),
        }
        if again:
            row = rows.pop()
        rows.append({**row, "top1": scores.top1, "top5": scores.top5, "loss": scores.loss})
        member.loss_sum, member.loss_steps = 0.0, 0

    def add_final(self, member: Member, answers: Answers, select: Scores | None) -> None:
        """Adds to the evaluation at the last step which images were right, and the scores on the selection split."""
        self._answers[member.name] = answers
        if select is not None:
            row = self._metrics[member.name][-1]
            row |= {"select_top1": select.top1, "select_top5": select.top5, "select_loss": select.loss}

    def final_scores(self, member: Member) -> dict[str, float]:
        """The scores of the trained network, by field of its result; empty if it was not evaluated at the last step."""
        rows = self._metrics.get(member.name, [])
        if not rows or rows[-1]["step"] != self._timeline.total:
            return {}
        return {name: rows[-1][name] for name in _SCORES if name in rows[-1]}

    def lacks_answers(self, member: Member) -> bool:
        """Whether it was evaluated at its last step, but nothing says which images were right.

        An earlier version saved none, or the user has deleted them.
        """
        return bool(self.final_scores(member)) and member.name not in self._answers

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
        rows, answers = list(self._metrics.get(member.name, [])), self._answers.get(member.name)
        return _Snapshot(member.name, rows, answers, member.checkpoint())

    def _write(self, snapshot: _Snapshot) -> None:
        # The metrics first: of rows that the state has not come to, resuming makes new ones; missing ones stay missing.
        self._run.write_metrics(snapshot.name, snapshot.metrics)
        if snapshot.answers is not None:
            self._run.write_answers(snapshot.name, snapshot.answers)
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
        if saved.step == evaluated == self._timeline.total:
            self._resume_final(member)
        return True

    def _resume_final(self, member: Member) -> None:
        scores = self.final_scores(member)
        if not scores:
            raise self._run.lacks_metrics(member.name, member.step)
        answers = self._run.answers(member.name, scores["top1"], scores.get("select_top1"))
        if answers is not None:
            self._answers[member.name] = answers
