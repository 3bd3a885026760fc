"""Controls: what a ticket is compared with. Each is a function of the ticket's mask, and a line in CONTROLS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lottery.seeds import random_stream
from lottery.tickets.masks import Mask, global_mask, kept
from preprocessing.common.errors import InputError

# (mask of the level, seed of the ticket's order of samples, level) -> mask of the control.
MaskChange = Callable[[Mask, int, int], Mask]


def unchanged(mask: Mask, seed: int, level: int) -> Mask:
    """The ticket's own mask."""
    return mask


def shuffled(mask: Mask, seed: int, level: int) -> Mask:
    """The mask permuted within each kernel, so that each kernel's density stays."""
    return {
        name: random_stream("shuffle", seed, level, name).permutation(kept.ravel()).reshape(kept.shape)
        for name, kept in mask.items()
    }


def scattered(mask: Mask, seed: int, level: int) -> Mask:
    """As many weights as the mask keeps, drawn from all kernels at once, which thus have nearly the same density."""
    scores = {name: random_stream("scatter", seed, level, name).random(kept.shape) for name, kept in mask.items()}
    return global_mask(scores, kept(mask))


def everything(mask: Mask, seed: int, level: int) -> Mask:
    """All weights."""
    return {name: np.ones_like(kept) for name, kept in mask.items()}


@dataclass(frozen=True)
class Control:
    """What a control changes of its ticket.

    `mask`: its mask. `weights`: those that it starts from: the ticket's (before the mask), new ones, or the dense run's
    final ones. `is_narrow`: whether its network is narrower, with as many parameters as the ticket's mask leaves.
    `each`: whether there is one for each ticket; for each level, as it depends on no reset point and trains all the
    steps; or for each reset point, as it depends on no level.
    """

    mask: MaskChange = unchanged
    weights: Literal["ticket", "new", "final"] = "ticket"
    is_narrow: bool = False
    each: Literal["ticket", "level", "point"] = "ticket"

    @property
    def is_dense(self) -> bool:
        """Whether it keeps all weights, whatever the level."""
        return self.mask is everything


CONTROLS = {
    "reinit": Control(weights="new", each="level"),
    "shuffle": Control(mask=shuffled),
    "random": Control(mask=scattered),
    "continue": Control(mask=everything, weights="final", each="point"),
    "narrow": Control(mask=everything, weights="new", is_narrow=True, each="level"),
}


def find(name: str) -> Control:
    """The control of this name. Raises InputError if there is none."""
    if name not in CONTROLS:
        raise InputError(f"tickets.controls: {name} is not a known control; give {', '.join(CONTROLS)}")
    return CONTROLS[name]


def is_for_all_levels(name: str) -> bool:
    """Whether a ticket of this kind, a control or none, is compared with the tickets of every level."""
    return name in CONTROLS and CONTROLS[name].each == "point"
