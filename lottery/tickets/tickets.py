"""Tickets and their controls: what a sweep consists of, and each one's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeVar

from lottery.experiment.config import Experiment
from lottery.experiment.steps import Timeline
from lottery.seeds import derived_seed
from lottery.tickets import controls
from lottery.tickets.controls import Control
from lottery.tickets.masks import Mask

NO_CONTROL = "none"


@dataclass(frozen=True, order=True)
class Ticket:
    """(mask, trellis point, seed), or a control: what that is compared with."""

    level: int  # index into masks.densities
    step: int  # the trellis point that its weights are reset to
    control: str = NO_CONTROL  # none, or a name from lottery.tickets.controls
    seed: int = 0

    @property
    def name(self) -> str:
        """Its folder under tickets/, such as `07-000044-s0` or `07-000000-reinit-s0`."""
        control = "" if self.control == NO_CONTROL else f"-{self.control}"
        return f"{self.level:02d}-{self.step:06d}{control}-s{self.seed}"

    @property
    def mask(self) -> tuple[int, ...]:
        """Equal for tickets that share a mask and a stream of batches."""
        return self.seed, self.level

    @property
    def bundle(self) -> tuple[int, ...]:
        """Equal for tickets that share a stream of batches and a model, and so can be trained in one bundle."""
        return (self.seed, self.level) if changed(self).is_narrow else (self.seed,)


@dataclass(frozen=True, order=True)
class Training:
    """A ticket of one of the sweep's replicates."""

    replicate: int  # index into the sweep's replicates
    ticket: Ticket

    @property
    def level(self) -> int:
        """The level of its mask."""
        return self.ticket.level

    @property
    def mask(self) -> tuple[int, ...]:
        """Equal for trainings that share a mask and a stream of batches."""
        return self.replicate, *self.ticket.mask

    @property
    def bundle(self) -> tuple[int, ...]:
        """Equal for trainings that share a stream of batches and a model, and so can be trained in one bundle."""
        return self.replicate, *self.ticket.bundle


# What is laid out over tasks and cut into bundles.
Item = TypeVar("Item", Ticket, Training)

_NAME = re.compile(r"^(\d+)-(\d+)(?:-([a-z]+))?-s(\d+)$")


def from_name(name: str) -> Ticket | None:
    """The ticket with this name; None if it is not a ticket's name."""
    match = _NAME.match(name)
    if not match:
        return None
    level, step, control, seed = match.groups()
    return Ticket(int(level), int(step), control or NO_CONTROL, int(seed))


def all_tickets(experiment: Experiment, timeline: Timeline) -> list[Ticket]:
    """Every ticket of the experiment: per seed and level one for each trellis point, then the controls.

    Of the controls, some are the same for all reset points, and there is one a level; or for all levels, and there is
    one a reset point, at level 0.

    Raises InputError if it names a control that does not exist.
    """
    asked = {name: controls.find(name) for name in experiment.tickets.controls}
    tickets = []
    for seed in experiment.tickets.seeds:
        for level in range(len(experiment.masks.densities)):
            tickets += [Ticket(level, step, seed=seed) for step in timeline.trellis]
            for name in (name for name in controls.CONTROLS if name in asked):
                if asked[name].each == "level":
                    tickets.append(Ticket(level, 0, name, seed))
                elif asked[name].each == "ticket" or level == 0:
                    tickets += [Ticket(level, step, name, seed) for step in timeline.trellis]
    return tickets


def changed(ticket: Ticket) -> Control:
    """What a ticket has other than the ticket proper: nothing if it is no control."""
    return Control() if ticket.control == NO_CONTROL else controls.find(ticket.control)


def mask_density(ticket: Ticket, experiment: Experiment) -> float:
    """The fraction of its network's prunable weights that its mask keeps."""
    return 1.0 if changed(ticket).is_dense else experiment.masks.densities[ticket.level]


def own_mask(ticket: Ticket, mask: Mask, experiment: Experiment) -> Mask:
    """Its mask, from the mask of its level."""
    return changed(ticket).mask(mask, stream_seed(ticket.seed, experiment.seed), ticket.level)


def stream_seed(ticket_seed: int, experiment_seed: int) -> int:
    """The seed of a ticket's order of samples: seed 0 continues the dense run's, others have orders of their own."""
    return experiment_seed if ticket_seed == 0 else derived_seed("ticket", experiment_seed, ticket_seed)


def first_step(ticket: Ticket, experiment: Experiment) -> int:
    """The step at which its learning rate and data order begin: its reset step, or 0 with `schedule: restart`."""
    return ticket.step if experiment.tickets.schedule == "continue" else 0


def start_weights(ticket: Ticket, experiment: Experiment) -> Literal["new", "reset", "final"]:
    """Where its weights come from: a new initialisation, the dense run's state at its reset step, or at its end."""
    weights = changed(ticket).weights
    if weights != "ticket":
        return weights
    return "reset" if experiment.tickets.start == "weight_rewinding" else "final"


def is_fine_tuned(ticket: Ticket, experiment: Experiment) -> bool:
    """Whether all its steps have the last learning rate of the schedule."""
    return experiment.tickets.start == "fine_tuning" and start_weights(ticket, experiment) == "final"
