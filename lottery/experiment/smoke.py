"""An experiment shrunk to about a minute: every stage and every kind of ticket, with nothing learnt."""

from __future__ import annotations

from msgspec.structs import replace

from lottery.experiment.config import Experiment
from lottery.experiment.sections import LearningRate

_STEPS = 6
_RESET = 2
_BATCH = 16
_SIDE = 32  # pixels: the least that the shipped ImageNet models take
_EVALUATION_BATCHES = 2
_ROUNDS = 2


def shrink(experiment: Experiment) -> Experiment:
    """The experiment with the same model, optimizer, schedule kind and controls, but few and small steps.

    Two densities (its first and last) or rounds, and two reset points remain. Its identity differs from the
    experiment's, since its fields do; so does its name, for the reader of a folder of runs.
    """
    data, training, masks = experiment.data, experiment.training, experiment.masks
    return replace(
        experiment,
        name=f"{experiment.name}-smoke",
        data=replace(data, batch=min(data.batch, _BATCH), crop=_shrink_crop(experiment)),
        training=replace(
            training,
            length=_STEPS,
            learning_rate=_shrink_rate(training.learning_rate),
            evaluate_every=_RESET if training.evaluate_every is not None else None,
            evaluate_batches=_EVALUATION_BATCHES,
        ),
        trellis=(0, _RESET) if len(experiment.trellis) > 1 else (0,),
        masks=replace(
            masks,
            densities=tuple(dict.fromkeys((*masks.densities[:1], *masks.densities[-1:]))),
            iterative=masks.iterative and replace(masks.iterative, rounds=min(masks.iterative.rounds, _ROUNDS)),
            at=None if masks.at is None else 0,
            images=masks.images and min(masks.images, _BATCH),
        ),
        tickets=replace(experiment.tickets, seeds=experiment.tickets.seeds[:1]),
        seeds=experiment.seeds[:2],
    )


def _shrink_crop(experiment: Experiment) -> int | None:
    """A smaller crop; but not for a ticket of another run directory, which may fit no other size."""
    crop = experiment.data.crop
    return crop if crop is None or experiment.transfer is not None else min(crop, _SIDE)


def _shrink_rate(rate: LearningRate) -> LearningRate:
    """The same kind of schedule within the few steps; at a hundredth of its peak, so that nothing diverges."""
    return replace(
        rate,
        peak=rate.peak / 100,
        warmup=1 if rate.warmup else 0,
        decay_start=None,
        milestones=(_STEPS // 2,) if rate.milestones else (),
    )
