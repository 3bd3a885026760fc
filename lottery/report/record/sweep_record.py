"""What a report knows of a sweep, as it was read from its run directories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lottery.report.record.spans import Clock, Span, spans
from lottery.run.origin import Origin
from lottery.run.provenance import Provenance
from lottery.run.results import DenseResult, TicketResult
from lottery.run.run_directory import RunDirectory
from lottery.run.submission import Submission
from lottery.tickets.tickets import Ticket, all_tickets

Rows = Sequence[Mapping[str, Any]]
# Kernel by kernel: how many weights a mask keeps, and of how many.
Layers = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class ReplicateRecord:
    """One of the sweep's seeds; the only one, if it has one."""

    seed: int
    run: RunDirectory
    dense: DenseResult | None  # None if the dense run has not ended
    results: tuple[TicketResult, ...]
    metrics: Mapping[str, Rows]  # the evaluations of each training that has begun
    telemetry: Mapping[str, Rows]  # by bundle
    layers: Mapping[tuple[int, ...], Layers]  # by `mask_key`
    provenance: Provenance | None

    @cached_property
    def spans(self) -> list[Span]:
        """Who trained what when."""
        return spans(self.seed, self.telemetry, self.results)


@dataclass(frozen=True)
class SweepRecord:
    """A sweep, finished or not."""

    origin: Origin
    place: str  # the run directory, for people
    replicates: tuple[ReplicateRecord, ...]
    submission: Submission | None  # None if an earlier version started it
    search_over: bool | None = None  # whether its search is; None if it trains the whole grid

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.origin.experiment.name

    @property
    def dense(self) -> dict[int, DenseResult]:
        """The dense runs that have ended, by replicate."""
        return {each.seed: each.dense for each in self.replicates if each.dense is not None}

    @property
    def results(self) -> dict[int, tuple[TicketResult, ...]]:
        """The results of tickets and controls, by replicate."""
        return {each.seed: each.results for each in self.replicates}

    @property
    def pooled(self) -> list[TicketResult]:
        """The results of all replicates."""
        return [result for each in self.replicates for result in each.results]

    @cached_property
    def spans(self) -> list[Span]:
        """Who trained what when, of all replicates, by their beginning."""
        return sorted((span for each in self.replicates for span in each.spans), key=lambda span: span.begin)

    @property
    def telemetry(self) -> list[Mapping[str, Any]]:
        """The rows of telemetry of all processes."""
        return [row for each in self.replicates for rows in each.telemetry.values() for row in rows]

    @cached_property
    def clock(self) -> Clock:
        """The time that the sweep was at work."""
        return Clock((span.begin, span.end) for span in self.spans)

    @cached_property
    def tickets(self) -> list[Ticket]:
        """All tickets and controls of a replicate."""
        return all_tickets(self.origin.experiment, self.origin.timeline)

    @property
    def trainings(self) -> tuple[int, int]:
        """How many trainings are done, and how many there are, the dense runs among them."""
        done = len(self.dense) + sum(len(each.results) for each in self.replicates)
        return done, len(self.replicates) * (1 + len(self.tickets))

    @property
    def finished(self) -> bool:
        """Whether all trainings are done, or the search is over."""
        done, of = self.trainings
        return done == of if self.search_over is None else self.search_over


def mask_key(ticket: Ticket, of_dense_run: int) -> tuple[int, ...]:
    """What tells a ticket's mask from the others of its replicate: its level, and of a later round also its chain."""
    return (ticket.level,) if ticket.level < of_dense_run else (ticket.level, *ticket.chain)
