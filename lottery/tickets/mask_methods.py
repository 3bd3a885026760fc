"""The methods that make masks: what each ranks weights by, and how many it keeps in each kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lottery.experiment.config import Experiment
from lottery.experiment.steps import Timeline, to_steps
from lottery.experiment.user_code import locate
from lottery.seeds import random_stream
from lottery.tickets.budgets import Budget, erdos_renyi_kernel, layerwise
from lottery.tickets.masks import Kernels, Mask, Shapes, global_mask, kept_weights, mask_by_kernel, prunable_weights
from preprocessing.common.errors import InputError

_KEY = "masks.method"


@dataclass(frozen=True)
class Method:
    """How masks are made.

    `scores`: what weights are ranked by, the highest being kept. `own` is a function of the user's.
    `budget`: decides how many weights each kernel keeps; None ranks weights over all kernels at once.
    `at_end`: whether by default the dense run's final weights are scored, or else its first.
    """

    scores: Literal["magnitude", "random", "snip", "grasp", "synflow", "own"]
    budget: Budget | None = None
    at_end: bool = True

    @property
    def reads_images(self) -> bool:
        """Whether the scores depend on gradients of the loss, and so on images."""
        return self.scores in ("snip", "grasp", "own")


METHODS = {
    "global_magnitude": Method("magnitude"),
    "layerwise_magnitude": Method("magnitude", layerwise),
    "erk_magnitude": Method("magnitude", erdos_renyi_kernel),
    "magnitude_at_init": Method("magnitude", at_end=False),
    "random": Method("random"),
    "erk_random": Method("random", erdos_renyi_kernel),
    "snip": Method("snip", at_end=False),
    "grasp": Method("grasp", at_end=False),
    "synflow": Method("synflow", at_end=False),
}


def find(name: str) -> Method:
    """The method of this name; `package.module:function` is one of the user's own.

    Raises InputError if there is none, or the module cannot be found.
    """
    if name in METHODS:
        return METHODS[name]
    if not name.partition(":")[2]:
        known = ", ".join(METHODS)
        raise InputError(f"{_KEY}: {name} is not a known method; give {known}, or your own as module:function")
    locate(_KEY, name)
    return Method("own", at_end=False)


def scored_step(experiment: Experiment, timeline: Timeline) -> int:
    """The step of the dense run whose weights are scored; its last step stands for the final weights."""
    at, method = experiment.masks.at, find(experiment.masks.method)
    if at is not None:
        return to_steps(at, timeline.steps_per_epoch)
    return timeline.total if method.at_end else 0


def scored_images(experiment: Experiment) -> int:
    """On how many images gradients are taken."""
    return experiment.masks.images or experiment.data.batch


def check(experiment: Experiment, timeline: Timeline, train_images: int) -> None:
    """Raises InputError if the method is unknown, its step is not kept, or it has no use for a key that is given."""
    masks, method = experiment.masks, find(experiment.masks.method)
    step = scored_step(experiment, timeline)
    if masks.at is not None and method.scores == "random":
        raise InputError(f"masks.at: {masks.method} does not look at weights; leave the key out")
    if step not in (*timeline.trellis, timeline.total):
        raise InputError(
            f"masks.at: {masks.at} is step {step:,}, whose weights are not kept; add it to the trellis, or give one of "
            f"its points, or training.length ({experiment.training.length}) for the final weights"
        )
    if masks.images is not None and not method.reads_images:
        raise InputError(f"masks.images: {masks.method} does not look at images; leave the key out")
    if method.reads_images and scored_images(experiment) > train_images:
        raise InputError(f"masks.images: {masks.images} is more than the {train_images} training images; choose fewer")


def random_scores(shapes: Shapes, seed: int) -> Kernels:
    """Random numbers as scores, the same for every density: a sparser mask is a subset of a denser one."""
    return {name: random_stream("random mask", seed, name).random(shape) for name, shape in shapes.items()}


def masks_of(scores: Kernels, densities: Sequence[float], budget: Budget | None) -> list[Mask]:
    """For each density the mask of the highest scores, exact to the weight.

    With a budget, a kernel may keep a weight fewer at a higher density, as largest remainders do: but for that, and
    without a budget always, a sparser mask is a subset of a denser one.

    Raises UnrankedError if a score is not finite.
    """
    if budget is None:
        prunable = prunable_weights(scores)
        return [global_mask(scores, kept_weights(density, prunable)) for density in densities]
    shapes = {name: kernel.shape for name, kernel in scores.items()}
    return [mask_by_kernel(scores, budget(shapes, density)) for density in densities]
