"""A run directory -> a look at it: all that a snapshot is made from, with few requests to the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lottery.run.heartbeats import Heartbeat
from lottery.run.history import Happening
from lottery.run.origin import Origin
from lottery.run.run_directory import DenseResult, RunDirectory, TicketResult
from lottery.tickets.tickets import Ticket
from preprocessing.common.claim import Claim, last_claim
from preprocessing.common.errors import InputError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import open_store

_THREADS = 16


@dataclass(frozen=True)
class ReplicateLook:
    """What is there of one of the experiment's seeds; `seed` is None if it has one only."""

    seed: int | None
    dense: DenseResult | None = None
    results: Mapping[Ticket, TicketResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What lies in a run directory at one moment."""

    run: str  # for people
    now: float  # seconds since 1970
    origin: Origin
    replicates: Sequence[ReplicateLook]
    heartbeats: Sequence[Heartbeat] = ()
    history: Sequence[Happening] = ()
    claim: Claim | None = None
    alive: bool = False  # whether the claim's holder is, as far as one look tells


class Reader:
    """Looks at a run directory again and again.

    Each look reads the claim, the history, a heartbeat for each task, and each result that is new, or a failure, which
    another try may replace; and it lists the heartbeats, and the tickets of each seed.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._origin = run, run.origin()
        self._store = open_store(run.uri)
        seeds = self._origin.experiment.seeds
        self._replicates = [_Replicate(run.replicate(seed), seed) for seed in seeds] or [_Replicate(run, None)]

    def look(self) -> Look:
        """What is there now. Raises InputError if a result is damaged, StorageError."""
        claim, alive = patiently(lambda: last_claim(self._store), self._store)
        return Look(
            run=self._run.describe(),
            now=time.time(),
            origin=self._origin,
            replicates=[replicate.look() for replicate in self._replicates],
            heartbeats=self._run.heartbeats.read(),
            history=self._run.history.read(),
            claim=claim,
            alive=alive,
        )


class _Replicate:
    """One seed's run directory. It remembers what cannot change any more."""

    def __init__(self, run: RunDirectory, seed: int | None) -> None:
        self._run, self._seed = run, seed
        self._dense: DenseResult | None = None
        self._results: dict[Ticket, TicketResult] = {}

    def look(self) -> ReplicateLook:
        if self._dense is None:
            self._dense = self._run.dense_result()
        done = self._run.done()
        kept = {ticket: result for ticket, result in self._results.items() if result.status != "failed"}
        self._results = {ticket: kept[ticket] for ticket in sorted(done) if ticket in kept}
        self._results |= self._read(sorted(done - kept.keys()))
        return ReplicateLook(self._seed, self._dense, dict(self._results))

    def _read(self, tickets: Sequence[Ticket]) -> dict[Ticket, TicketResult]:
        if not tickets:
            return {}
        with ThreadPoolExecutor(min(_THREADS, len(tickets))) as pool:
            found: Iterable[TicketResult | None] = pool.map(self._result, tickets)
            return {result.ticket: result for result in found if result is not None}

    def _result(self, ticket: Ticket) -> TicketResult | None:
        """None if it has gone since the listing: a failed ticket is being tried again."""
        try:
            return self._run.result(ticket)
        except InputError:
            if self._run.has_result(ticket.name):
                raise
            return None
