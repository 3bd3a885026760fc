"""The training of a bundle: members take turns on one stream of batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment.schedules import learning_rates
from lottery.experiment.sections import LearningRate
from lottery.experiment.steps import Timeline, segments
from lottery.input.training_batches import TrainingInput
from lottery.training.trainer import Trainer
from lottery.worker.member import Member
from lottery.worker.one_ahead import one_ahead
from lottery.worker.telemetry import Telemetry


def train(
    trainer: Trainer,
    members: Sequence[Member],
    source: TrainingInput,
    timeline: Timeline,
    rate: LearningRate,
    pauses: frozenset[int],
    on_pause: Callable[[Sequence[Member]], None],
    on_progress: Callable[[int], None],
    telemetry: Telemetry,
) -> None:
    """Trains every member from its step to the end of the timeline.

    The stream begins at the step of the member that is furthest behind; the others join when the stream reaches
    theirs. A member that diverges leaves with a status and a reason, and the others go on.

    Args:
        rate: the learning-rate section of the experiment.
        pauses: steps at which `on_pause` is called, besides the last step, at which it is always called.
        on_pause: called with the members that have just been trained up to a pause.
        on_progress: called with the number of images after each member's run of batches, and with 0 after a pause.
        telemetry: measures what is waited for, and counts images.

    Raises:
        tf.errors.ResourceExhaustedError: out of memory in a bundle, or in the dense run; a ticket alone fails instead.
    """
    waiting = [member for member in members if member.step < timeline.total]
    if not waiting:
        return
    first = min(member.step for member in waiting)
    joins = {member.step for member in waiting}
    per_epoch, total = timeline.steps_per_epoch, timeline.total
    last_rate = learning_rates(rate, per_epoch, total, total - 1, total)
    runs = segments(first, total, frozenset(pauses | joins), source.longest_run)
    coming = one_ahead(_on_devices(trainer, source, runs))
    for (begin, end), (images, labels) in zip(runs, telemetry.waiting(coming), strict=True):
        rates = learning_rates(rate, per_epoch, total, begin, end)
        count = int(labels.shape[0] * labels.shape[1])
        present = [member for member in waiting if member.step == begin and member.training]
        for member in present:
            try:
                own_rates = last_rate.repeat(len(rates)) if member.fine_tuned else rates
                with telemetry.spent("device"):
                    _run(trainer, member, images, labels, own_rates)
            except tf.errors.ResourceExhaustedError as error:
                if len(members) > 1 or member.mask is None or trainer.is_distributed:
                    raise  # it may fit with fewer members, or on another machine; and other workers wait for this one
                member.end("failed", f"out of memory at step {begin}: {_first_line(error)}")
                continue
            telemetry.trained(count)
            on_progress(count)
        paused = [member for member in present if member.training]
        if paused and (end in pauses or end == total):
            on_pause(paused)
            on_progress(0)
        if not any(member.training for member in waiting):
            return


def _on_devices(
    trainer: Trainer, source: TrainingInput, runs: Iterable[tuple[int, int]]
) -> Generator[tuple[tuple[Any, ...], Any], None, None]:
    """Each run's images, augmented, as a part on each device that trains; and its labels.

    Copying a batch to a GPU can take half as long as a step: the GPU must not wait for it. Meanwhile the next run is
    assembled.
    """
    for (begin, end), (images, labels) in zip(runs, one_ahead(source.stream(runs)), strict=True):
        yield trainer.split(source.augment(trainer.to_device(images), begin, end)), labels


def _run(trainer: Trainer, member: Member, images: Any, labels: Any, rates: NDArray[np.float32]) -> None:
    """One member's run of batches, one for each of `rates`."""
    started = time.perf_counter()
    trainer.load(member.state, member.mask)
    losses = trainer.run(images, labels, rates)
    member.state = trainer.state()
    first = member.step
    member.step += len(rates)
    total = float(losses.sum(dtype=np.float64))
    member.loss_sum += total
    member.loss_steps += len(rates)
    member.loss = total / len(rates)
    member.seconds += time.perf_counter() - started
    finite = np.isfinite(losses)
    if not finite.all():
        index = int(np.argmin(finite))
        member.end("diverged", f"the loss is {losses[index]} at step {first + index}")


def _first_line(error: Exception) -> str:
    """The line of TensorFlow's message that names the tensor that did not fit into memory."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "OOM" in line), lines[0])[:200]
