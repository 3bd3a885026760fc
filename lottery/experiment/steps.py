"""Training progress: one integer count of batches, and the experiment's lengths converted to it once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lottery.experiment.config import Experiment
from lottery.experiment.sections import Length
from preprocessing.common.errors import InputError


def to_steps(length: Length, steps_per_epoch: int) -> int:
    """`500` is 500 steps; `0.5ep` is half an epoch's steps, rounded to the nearest (ties to even)."""
    if isinstance(length, int):
        return length
    return round(float(length.removesuffix("ep")) * steps_per_epoch)


@dataclass(frozen=True)
class Timeline:
    """The steps of an experiment on a dataset."""

    steps_per_epoch: int
    total: int
    trellis: tuple[int, ...]
    evaluations: frozenset[int]

    def epoch(self, step: int) -> float:
        """Where `step` lies, in epochs."""
        return step / self.steps_per_epoch


def timeline(experiment: Experiment, train_images: int) -> Timeline:
    """The experiment's steps on a training split of `train_images`.

    An epoch has `train_images // batch` steps: the last partial batch of each epoch's order is dropped. Each
    epoch has another order, so no image is left out of every epoch.

    Raises InputError if a batch exceeds the split or the trellis does not lie within the training.
    """
    batch = experiment.data.batch
    per_epoch = train_images // batch
    if per_epoch == 0:
        raise InputError(f"data.batch: {batch} is more than the {train_images} training images; choose a smaller batch")
    total = to_steps(experiment.training.length, per_epoch)
    trellis = tuple(to_steps(point, per_epoch) for point in experiment.trellis)
    for earlier, later in itertools.pairwise(trellis):
        if later <= earlier:
            raise InputError(
                f"trellis: steps {earlier} and {later} do not increase; list distinct resets, earliest first"
            )
    if trellis[0] != 0:
        raise InputError(f"trellis: begins at {experiment.trellis[0]}; its first point must be 0ep")
    if trellis[-1] >= total:
        raise InputError(
            f"trellis: {experiment.trellis[-1]} is not before the end of training, {experiment.training.length}"
        )
    every = experiment.training.evaluate_every
    interval = to_steps(every, per_epoch) if every is not None else total
    if interval == 0:
        raise InputError(f"training.evaluate_every: {every} is no step; give at least one step, or leave it out")
    return Timeline(per_epoch, total, trellis, frozenset([*range(interval, total, interval), total]))


@dataclass(frozen=True)
class Segments:
    """Runs of steps, made as they are gone through: those of 350 epochs of ImageNet would take 200 MB as a list."""

    edges: tuple[int, ...]
    longest: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for begin, end in itertools.pairwise(self.edges):
            for start in range(begin, end, self.longest):
                yield start, min(start + self.longest, end)


def segments(first: int, last: int, stops: frozenset[int], longest: int) -> Segments:
    """[first, last) cut into runs of at most `longest` steps that end at every stop within it."""
    return Segments(tuple(sorted({first, last, *(stop for stop in stops if first < stop < last)})), longest)
