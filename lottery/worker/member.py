"""One training of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import DENSE
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import Ticket

Status = Literal["training", "done", "diverged", "failed"]


@dataclass
class Member:
    """One training of a bundle: a ticket's, or without a ticket the dense run."""

    ticket: Ticket | None = None
    mask: Mask | None = None
    state: Mapping[str, Any] = field(default_factory=dict)  # the variables by path: arrays, or the trainer's `state`
    step: int = 0  # steps of the schedule and of the stream that are done
    fine_tuned: bool = False  # whether every step has the schedule's last learning rate
    seconds: float = 0.0  # its own, without the bundle's other members
    loss_sum: float = 0.0  # over the steps since the last evaluation
    loss_steps: int = 0
    loss: float | None = None  # the mean over its last run of batches
    status: Status = "training"
    reason: str = ""

    @property
    def name(self) -> str:
        """The training's name in the run directory."""
        return DENSE if self.ticket is None else self.ticket.name

    @property
    def training(self) -> bool:
        """Whether it has not ended."""
        return self.status == "training"

    def end(self, status: Status, reason: str = "") -> None:
        """Ends the training. Unless it is done, its state is freed, to make room on the device for the others."""
        self.status, self.reason = status, reason
        if status != "done":
            self.state = {}

    def checkpoint(self) -> Checkpoint:
        """Its exact state, as arrays."""
        variables = {path: np.asarray(value) for path, value in self.state.items()}
        return Checkpoint(self.step, variables, self.seconds, self.loss_sum, self.loss_steps)
