"""What a process keeps of its trainings: where each stands, what its evaluations said, and when to save again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lottery.experiment.steps import Timeline
from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import RunDirectory
from lottery.tickets import scheduling
from lottery.training.scores import Scores
from lottery.training.trainer import Trainer
from lottery.worker.training_loop import Member


class Record:
    """The metrics of a process' trainings by name, beside the checkpoints that they belong to."""

    def __init__(self, run: RunDirectory, trainer: Trainer, timeline: Timeline) -> None:
        self._run, self._trainer, self._timeline = run, trainer, timeline
        self._metrics: dict[str, list[dict[str, Any]]] = {}

    def evaluated(self, member: Member, scores: Scores) -> None:
        """Takes down an evaluation, and the mean loss of the steps since the last one."""
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

    def scores(self, training: str) -> Scores | None:
        """Of the trained network: the evaluation at the last step, if there was one."""
        rows = self._metrics.get(training, [])
        if not rows or rows[-1]["step"] != self._timeline.total:
            return None
        return Scores(rows[-1]["top1"], rows[-1]["top5"], rows[-1]["loss"])

    def save(self, member: Member) -> None:
        """Keeps where a training stands."""
        self._run.write_metrics(member.name, self._metrics.get(member.name, []))
        self._run.write_checkpoint(member.name, checkpoint(member))

    def resume(self, member: Member) -> bool:
        """Puts a member where its training was saved; False where it was not."""
        saved = self._run.checkpoint(member.name)
        if saved is None:
            return False
        self._trainer.check(saved.variables, *self._run.state_file(member.name))
        member.state, member.step, member.seconds = saved.variables, saved.step, saved.seconds
        member.loss_sum, member.loss_steps = saved.loss_sum, saved.loss_steps
        rows = self._run.metrics(member.name)
        # Rows newer than the state will be made anew; that of its own step too, if it was saved before its evaluation.
        known = saved.step if saved.loss_steps == 0 else saved.step - 1
        self._metrics[member.name] = [row for row in rows if row["step"] <= known]
        if saved.step == known == self._timeline.total and self.scores(member.name) is None:
            raise self._run.lacks_metrics(member.name, saved.step)
        return True


class Saving:
    """When the next checkpoint is due, from what the last one cost."""

    def __init__(self, interval: float | str, mean_time_between_failures: float) -> None:
        """`interval` in seconds, or `auto`; `mean_time_between_failures` in seconds, of all that must not fail."""
        self._fixed = None if interval == "auto" else float(interval)
        self._mean_time_between_failures = mean_time_between_failures
        self._cost = 1.0  # seconds; a guess until one was made
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time."""
        interval = self._fixed or scheduling.checkpoint_interval(self._cost, self._mean_time_between_failures)
        return time.monotonic() - self._last >= interval

    def save(self, write: Callable[[], None]) -> None:
        """Calls `write` and takes down how long it took."""
        started = time.monotonic()
        write()
        self._last = time.monotonic()
        self._cost = max(self._last - started, 1e-3)


def checkpoint(member: Member) -> Checkpoint:
    """Where a training stands, as arrays."""
    variables = {path: np.asarray(value) for path, value in member.state.items()}
    return Checkpoint(member.step, variables, member.seconds, member.loss_sum, member.loss_steps)
