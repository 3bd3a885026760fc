"""Tickets that one process trains together off one stream of batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from lottery.experiment.schedules import learning_rates
from lottery.experiment.steps import Timeline, segments
from lottery.input.pipeline import TrainingInput
from lottery.tickets.masks import Mask
from lottery.training.trainer import State, Trainer
from lottery.worker.telemetry import Telemetry

Status = Literal["training", "done", "diverged", "failed"]


@dataclass
class Member:
    """One training of a bundle: a ticket, or the dense run."""

    name: str
    state: State
    step: int = 0  # how many steps of the schedule and of the stream are behind it
    mask: Mask | None = None
    seconds: float = 0.0  # its own, without the bundle's other members
    loss_sum: float = 0.0  # over the steps since the last evaluation
    loss_steps: int = 0
    status: Status = "training"
    reason: str = ""


def train(
    trainer: Trainer,
    members: Sequence[Member],
    source: TrainingInput,
    timeline: Timeline,
    rate: Any,
    stops: frozenset[int],
    reached: Callable[[Member], None],
    progressed: Callable[[int], None],
    telemetry: Telemetry,
) -> None:
    """Trains every member from its step to the end of the timeline.

    The stream begins where the member that is furthest behind stands; another joins when the stream gets to it. A
    member that diverges leaves with a status and a reason, and the others go on.

    Args:
        rate: the learning-rate section of the experiment.
        stops: steps at which `reached` is called for every member that stands there; the last step is always one.
        reached: told of a member that stands at a stop, its state loaded in the trainer.
        progressed: told after each member's run of batches how many images it was trained on.
        telemetry: takes down how long batches were waited for, and counts images.

    Raises:
        tf.errors.ResourceExhaustedError: out of memory in a bundle, or in the dense run; a ticket alone fails instead.
    """
    training = [member for member in members if member.step < timeline.total]
    if not training:
        return
    first = min(member.step for member in training)
    joins = {member.step for member in training}
    runs = segments(first, timeline.total, frozenset(stops | joins), source.longest_run)
    for (begin, end), (images, labels) in zip(runs, telemetry.waiting(source.stream(runs)), strict=True):
        images = trainer.put(images)
        rates = learning_rates(rate, timeline.steps_per_epoch, timeline.total, begin, end)
        for member in training:
            if member.step != begin or member.status != "training":
                continue
            started = time.perf_counter()
            try:
                trainer.load(member.state, member.mask)
                losses = trainer.run(images, labels, rates)
                member.state = trainer.state()
            except tf.errors.ResourceExhaustedError as error:
                if len(members) > 1 or member.mask is None or trainer.is_one_of_several:
                    raise  # it may fit with fewer beside it, or on another machine; and other workers wait for this one
                member.status, member.reason = "failed", f"out of memory at step {begin}: {_what(error)}"
                continue
            member.step = end
            member.loss_sum += float(losses.sum(dtype=np.float64))
            member.loss_steps += end - begin
            member.seconds += time.perf_counter() - started
            finite = np.isfinite(losses)
            if not finite.all():
                at = begin + int(np.argmin(finite))
                member.status, member.reason = "diverged", f"the loss is {losses[at - begin]} at step {at}"
            elif end in stops or end == timeline.total:
                reached(member)
            telemetry.trained(int(labels.shape[0] * labels.shape[1]))
            progressed(int(labels.shape[0] * labels.shape[1]))
        if all(member.status != "training" for member in training):
            return


def _what(error: Exception) -> str:
    """The line of TensorFlow's message that says what did not fit."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "OOM" in line), lines[0])[:200]
