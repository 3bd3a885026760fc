"""The learning rate at a step, as pure functions of the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lottery.experiment.sections import LearningRate
from lottery.experiment.steps import to_steps
from preprocessing.common.errors import InputError


def check(rate: LearningRate, steps_per_epoch: int, total: int) -> None:
    """Raises InputError where the schedule's lengths contradict each other or the training's."""
    warmup = to_steps(rate.warmup, steps_per_epoch)
    start = warmup if rate.decay_start is None else to_steps(rate.decay_start, steps_per_epoch)
    if warmup > start or start > total:
        raise InputError(
            f"training.learning_rate: warm-up ends at step {warmup}, decay starts at {start}, "
            f"training ends at {total}; these must not decrease"
        )
    if (rate.decay == "step") != bool(rate.milestones):
        raise InputError("training.learning_rate.milestones: belong to decay: step, and to no other; give both or none")


def learning_rates(rate: LearningRate, steps_per_epoch: int, total: int, first: int, last: int) -> NDArray[np.float32]:
    """The learning rate of each step in [first, last), float32 [last - first]. Step s trains the s-th batch, from 0.

    During the warm-up step s has peak * (s + 1) / warmup, so that no step is spent at a rate of 0. `linear` and
    `cosine` (Loshchilov and Hutter, 2017, without restarts) fall from the peak at the decay's start towards 0 at
    the end of training; `exponential` falls to `factor` times the peak there; `step` multiplies at each milestone.
    """
    steps = np.arange(first, last, dtype=np.float64)
    warmup = to_steps(rate.warmup, steps_per_epoch)
    start = warmup if rate.decay_start is None else to_steps(rate.decay_start, steps_per_epoch)
    progress = np.clip((steps - start) / max(total - start, 1), 0.0, 1.0)
    scale: NDArray[np.float64]
    if rate.decay == "linear":
        scale = 1.0 - progress
    elif rate.decay == "cosine":
        scale = 0.5 * (1.0 + np.cos(np.pi * progress))
    elif rate.decay == "exponential":
        scale = np.power(rate.factor, progress)
    elif rate.decay == "step":
        milestones = [to_steps(milestone, steps_per_epoch) for milestone in rate.milestones]
        passed = np.sum([steps >= milestone for milestone in milestones], axis=0, dtype=np.float64)
        scale = np.power(rate.factor, passed)
    else:
        scale = np.ones_like(steps)
    ramp = np.minimum((steps + 1) / warmup, 1.0) if warmup else np.ones_like(steps)
    rates: NDArray[np.float32] = (rate.peak * ramp * scale).astype(np.float32)
    return rates
