"""Tickets and their controls: what a sweep consists of, and each one's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from lottery.experiment.config import Experiment
from lottery.experiment.steps import Timeline
from lottery.seeds import derived_seed

NO_CONTROL = "none"


@dataclass(frozen=True, order=True)
class Ticket:
    """(mask, trellis point, seed), or a control: its counterpart that should lose."""

    level: int  # index into masks.densities
    step: int  # the trellis point that its weights are reset to
    control: str = NO_CONTROL  # none, reinit (new weights, all the steps) or shuffle (permuted mask)
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
    def stream(self) -> tuple[int, ...]:
        """Equal for tickets that share a stream of batches, and so can be trained in one bundle."""
        return (self.seed,)


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
    def stream(self) -> tuple[int, ...]:
        """Equal for trainings that share a stream of batches, and so can be trained in one bundle."""
        return self.replicate, *self.ticket.stream


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

    `reinit` starts from new weights, which no reset changes, so there is one a level; `shuffle` has one for each
    trellis point.
    """
    tickets = []
    for seed in experiment.tickets.seeds:
        for level in range(len(experiment.masks.densities)):
            tickets += [Ticket(level, step, seed=seed) for step in timeline.trellis]
            if "reinit" in experiment.tickets.controls:
                tickets.append(Ticket(level, 0, "reinit", seed))
            if "shuffle" in experiment.tickets.controls:
                tickets += [Ticket(level, step, "shuffle", seed) for step in timeline.trellis]
    return tickets


def stream_seed(ticket_seed: int, experiment_seed: int) -> int:
    """The seed of a ticket's order of samples: seed 0 continues the dense run's, others have orders of their own."""
    return experiment_seed if ticket_seed == 0 else derived_seed("ticket", experiment_seed, ticket_seed)


def first_step(ticket: Ticket, experiment: Experiment) -> int:
    """The step at which its learning rate and data order begin: its reset step, or 0 with `schedule: restart`."""
    return ticket.step if experiment.tickets.schedule == "continue" else 0
