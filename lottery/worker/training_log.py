"""The log of a process's trainings: their evaluations, and the checkpoints that these belong to."""

from __future__ import annotations

from typing import Any

from lottery.experiment.steps import Timeline
from lottery.run.run_directory import RunDirectory
from lottery.training.scores import Scores
from lottery.training.trainer import Trainer
from lottery.worker.member import Member


class TrainingLog:
    """The rows of metrics.jsonl of each training, written and read together with its checkpoints."""

    def __init__(self, run: RunDirectory, trainer: Trainer, timeline: Timeline) -> None:
        self._run, self._trainer, self._timeline = run, trainer, timeline
        self._metrics: dict[str, list[dict[str, Any]]] = {}

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

    def save(self, member: Member) -> None:
        """Writes the member's evaluations and its checkpoint."""
        self._run.write_metrics(member.name, self._metrics.get(member.name, []))
        self._run.write_checkpoint(member.name, member.checkpoint())

    def resume(self, member: Member) -> bool:
        """Puts a member where its training was saved. False if it was not saved."""
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
