"""What one task of the gang does: its tickets in bundles, one child process after the other. Knows no Spark."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from lottery.assignment import Assignment
from lottery.ledger import RunDirectory, ticket_result
from lottery.plan import bundle_size, bundles
from lottery.steps import timeline
from lottery.supervisor import Ended, supervise
from lottery.tickets import Ticket
from preprocessing.errors import EXIT_BAD_INPUT, InputError
from preprocessing.storage import Store

_BEAT_EVERY = 1.0  # seconds
_ATTEMPTS = 2  # of the same trainings, before they are split up or given up


class ChildError(Exception):
    """A child died again and again; the message has why, and the end of its log."""


@dataclass(frozen=True)
class Place:
    """Where a task runs: its rank, its executor's address, and what Spark gave it."""

    task: int
    executor: str
    gpus: tuple[str, ...]
    cores: int
    tasks_on_host: int


def run_tickets(assignment: Assignment, place: Place, parameters: int) -> int:
    """Trains the assignment's tickets, in bundles as large as memory allows; how many results were written.

    A bundle whose child dies twice is taken apart, and a ticket whose child dies twice when it is alone is recorded
    as failed: it must not keep the others from being trained.
    """
    run = RunDirectory(Store(assignment.run))
    beats = _Beats(run, place, len(assignment.tickets))
    size = bundle_size(assignment.experiment.gang.bundle, parameters, _memory() // place.tasks_on_host)
    waiting = bundles(assignment.tickets, size)
    deaths: Counter[tuple[Ticket, ...]] = Counter()
    while waiting:
        bundle = waiting.pop(0)
        ended = _train(assignment, bundle, place, beats)
        done = run.done()
        left = tuple(ticket for ticket in bundle if ticket not in done)
        beats.settle(len(bundle) - len(left))
        if not left:
            continue
        deaths[left] += 1
        if deaths[left] < _ATTEMPTS:
            waiting.insert(0, left)
        elif len(left) > 1:
            waiting[:0] = [(ticket,) for ticket in left]
        else:
            _give_up(assignment, run, left[0], ended)
            beats.settle(1)
    beats.write()
    return len(assignment.tickets)


def run_dense(assignment: Assignment, place: Place) -> None:
    """Trains the dense run and makes the masks. Raises ChildError where its child dies twice."""
    run = RunDirectory(Store(assignment.run))
    beats = _Beats(run, place, 1)
    for _ in range(_ATTEMPTS):
        ended = _train(assignment, (), place, beats)
        if run.dense_result() is not None:
            beats.write()
            return
    raise ChildError(f"the dense run's process died: {ended.reason}; the end of its log: {ended.tail}")


def child_environment(gpus: Sequence[str], cores: int) -> dict[str, str]:
    """The environment of a child. Never set in the Python worker, which Spark reuses for the next task."""
    return {
        # A GPU is used exactly when Spark handed it out: else two tasks of a machine would share one.
        "CUDA_VISIBLE_DEVICES": ",".join(gpus) if gpus else "-1",
        "OMP_NUM_THREADS": str(cores),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # --py-files reach the worker this way only
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


class _Beats:
    """A task's signs of life in the run directory, for the driver's progress line."""

    def __init__(self, run: RunDirectory, place: Place, total: int) -> None:
        self._run, self._place, self._total = run, place, total
        self._images = self._done = self._running = 0
        self._written = 0.0

    def event(self, event: dict[str, Any]) -> None:
        """Takes note of what a child tells."""
        self._images += int(event.get("images", 0))
        self._running = int(event.get("done", self._running))
        if time.monotonic() - self._written >= _BEAT_EVERY:
            self.write()

    def settle(self, tickets: int) -> None:
        """Counts the results that the child that has ended left behind."""
        self._done += tickets
        self._running = 0

    def write(self) -> None:
        """Writes the sign of life."""
        self._written = time.monotonic()
        self._run.write_beat(
            self._place.task,
            {
                "task": self._place.task,
                "executor": self._place.executor,
                "trainings": self._total,
                "done": self._done + self._running,
                "images": self._images,
                "time": time.time(),
            },
        )


def _train(assignment: Assignment, tickets: tuple[Ticket, ...], place: Place, beats: _Beats) -> Ended:
    told = msgspec.structs.replace(
        assignment, tickets=tickets, task=place.task, executor=place.executor, threads=place.cores
    )
    ended = supervise(
        "lottery.worker",
        told.message(),
        child_environment(place.gpus, place.cores),
        assignment.experiment.gang.hang_after,
        beats.event,
    )
    if ended.status == EXIT_BAD_INPUT:
        raise InputError(ended.tail.splitlines()[-1].removeprefix("error: "))
    if ended.status:
        print(f"task {place.task}: child ended: {ended.reason}\n{ended.tail}", file=sys.stderr, flush=True)
    return ended


def _give_up(assignment: Assignment, run: RunDirectory, ticket: Ticket, ended: Ended) -> None:
    last = ended.tail.splitlines()[-1] if ended.tail else "no log"
    run.write_result(
        ticket_result(
            ticket,
            assignment.experiment,
            timeline(assignment.experiment, assignment.train_images),
            run.mask(ticket.level),
            status="failed",
            note=f"its process died twice: {ended.reason}: {last}",
            executor=assignment.executor,
            task=assignment.task,
        )
    )


def _memory() -> int:
    """Bytes that this task's container, or its machine, has left."""
    available = int(psutil.virtual_memory().available)
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available
