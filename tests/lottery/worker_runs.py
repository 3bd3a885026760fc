"""Workers in the test's own process, and their results in the run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lottery.run import checkpoint


class Killed(BaseException):
    """Stands for the end of a process."""


@dataclass(frozen=True)
class Worker:
    """A session and the tickets of its assignment."""

    session: Any
    tickets: tuple

    def train_dense(self):
        from lottery.worker.dense_run import train_dense

        train_dense(self.session)

    def train_tickets(self):
        from lottery.worker.ticket_bundle import train_tickets

        train_tickets(self.session, self.tickets)


def final(sweep, ticket):
    return sweep.run.checkpoint(ticket if isinstance(ticket, str) else ticket.name).variables


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)


def files(sweep, ticket):
    """A training's artefacts, without times."""
    folder = Path(sweep.run.uri) / "tickets" / ticket.name
    state = checkpoint.unpack((folder / "state.safetensors").read_bytes())
    return (
        state.step,
        {path: value.tobytes() for path, value in state.variables.items()},
        (folder / "metrics.jsonl").read_text(),
        (folder / "answers.safetensors").read_bytes(),
    )
