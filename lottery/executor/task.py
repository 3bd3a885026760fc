"""What one task of the gang does: its tickets in bundles, one child process after the other. Knows no Spark."""

from __future__ import annotations

import contextlib
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

from lottery.executor import rendezvous
from lottery.executor.group import Group, Outcome
from lottery.executor.supervisor import ChildError, Ended, supervise
from lottery.experiment.steps import timeline
from lottery.protocol import EXIT_NO_GPUS, EXIT_OUT_OF_MEMORY, Assignment
from lottery.run.heartbeats import Heartbeat
from lottery.run.run_directory import DENSE, RunDirectory, ticket_result
from lottery.tickets.scheduling import bundle_size, bundles
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import EXIT_BAD_INPUT, EXIT_STORAGE, InputError, StorageError
from preprocessing.common.storage import open_store

_BEAT_EVERY = 5.0  # seconds
_PATIENCE = 120.0  # seconds between the ends of the children of tasks that train together
_ATTEMPTS = 2  # of the same trainings without progress, before they are split up or given up


class GpuLostError(ChildError):
    """A child does not see a GPU that its task was given."""


@dataclass(frozen=True)
class Place:
    """Where a task runs: its rank, its executor's address, and what Spark gave it."""

    task: int
    executor: str
    host: str
    gpus: tuple[str, ...]
    cores: int
    tasks: int  # in the whole gang
    tasks_on_host: int
    endpoints: tuple[str, ...] = ()  # of the tasks that train together, this one's among them; none where it is alone

    @property
    def workers(self) -> int:
        """How many tasks train together."""
        return max(1, len(self.endpoints))

    @property
    def worker(self) -> int:
        """Its place among them; 0 is the chief, who writes."""
        return self.task % self.workers

    @property
    def group(self) -> int:
        """Which of the gang's groups that is."""
        return self.task // self.workers


def run_tickets(assignment: Assignment, place: Place, parameters: int, stage: str = "") -> None:
    """Trains the assignment's tickets, in bundles as large as memory allows.

    Tasks that train together all do the same, and agree after each bundle on how it went.

    A bundle that does not fit into memory is halved. One whose child dies twice without a checkpoint in between is
    taken apart, and a ticket whose child does so when it is alone is recorded as failed: it must not keep the others
    from being trained. A child that was given notice is followed by another, for as long as the machine is there.
    """
    run = RunDirectory(open_store(assignment.run))
    beats = _Beats(run, place, len(assignment.tickets))
    group = _group(assignment, run, place, stage)
    size = group.least(bundle_size(assignment.experiment.gang.bundle, parameters, memory(place)))
    waiting = bundles(assignment.tickets, size)
    deaths: Counter[tuple[Ticket, ...]] = Counter()
    while waiting:
        bundle = waiting.pop(0)
        outcome = _train(assignment, bundle, place, beats, group)
        ended = outcome.ended
        left = tuple(ticket for ticket in bundle if ticket.name in outcome.left)
        beats.settle(len(bundle) - len(left))
        if not left:
            continue
        if ended.status == EXIT_OUT_OF_MEMORY and len(left) > 1:
            waiting[:0] = [left[: len(left) // 2], left[len(left) // 2 :]]
            continue
        if ended.on_notice:
            waiting.insert(0, left)
            continue
        deaths[left] = 1 if outcome.saved else deaths[left] + 1
        if deaths[left] < _ATTEMPTS:
            waiting.insert(0, left)
        elif len(left) > 1:
            waiting[:0] = [(ticket,) for ticket in left]
        else:
            if place.worker == 0:
                _give_up(assignment, run, left[0], place, ended)
            beats.settle(1)
    beats.write()


def run_dense(assignment: Assignment, place: Place, stage: str = "") -> None:
    """Trains the dense run, with all of the gang's tasks together, and makes the masks.

    Raises ChildError where its child dies twice without a checkpoint in between.
    """
    run = RunDirectory(open_store(assignment.run))
    beats = _Beats(run, place, 1)
    group = _group(assignment, run, place, stage)
    deaths = 0
    while deaths < _ATTEMPTS:
        outcome = _train(assignment, (), place, beats, group)
        ended = outcome.ended
        if not outcome.left:
            beats.settle(1)
            beats.write()
            return
        if not ended.on_notice:
            deaths = 1 if outcome.saved else deaths + 1
    raise ChildError(f"the dense run's process died: {ended.reason}; the end of its log: {_last_lines(ended)}")


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
        self._run, self._place = run, place
        self._total = total if place.worker == 0 else 0  # of tasks that train together one counts
        self._images = self._done = self._running = 0
        self.saved = 0  # checkpoints that children have written
        self._written = 0.0

    def event(self, event: dict[str, Any]) -> None:
        """Takes note of what a child tells."""
        self._images += int(event.get("images", 0))
        self.saved += int(event.get("saved", 0))
        if self._total:
            self._running = int(event.get("done", self._running))
        if time.monotonic() - self._written >= _BEAT_EVERY:
            self.write()

    def settle(self, tickets: int) -> None:
        """Counts the results that the child that has ended left behind."""
        self._done += tickets if self._total else 0
        self._running = 0

    def write(self) -> None:
        """Writes the sign of life; a store that is away for a moment is no reason to stop."""
        self._written = time.monotonic()
        with contextlib.suppress(StorageError):
            self._run.heartbeats.write(
                Heartbeat(
                    task=self._place.task,
                    executor=self._place.executor,
                    trainings=self._total,
                    done=self._done + self._running,
                    images=self._images,
                    saved=self.saved,
                    time=time.time(),
                )
            )


def _group(assignment: Assignment, run: RunDirectory, place: Place, stage: str) -> Group:
    # A child that has lost another notices in half a minute; one that hangs is killed by whoever started it.
    patience = assignment.experiment.gang.hang_after + _PATIENCE
    return Group(run, stage, place.group, place.worker, place.workers, patience)


def _train(assignment: Assignment, tickets: tuple[Ticket, ...], place: Place, beats: _Beats, group: Group) -> Outcome:
    """What came of a child that trained these tickets, or the dense run."""
    run, saved = RunDirectory(open_store(assignment.run)), beats.saved
    told = msgspec.structs.replace(
        assignment,
        tickets=tickets,
        task=place.task,
        tasks=place.tasks,
        executor=place.executor,
        threads=place.cores,
        gpus=len(place.gpus) if assignment.experiment.gang.check_gpus else 0,
    )
    ended = supervise(
        "lottery.worker",
        told.message(),
        {**child_environment(place.gpus, place.cores), **rendezvous.environment(place.endpoints, place.worker)},
        assignment.experiment.gang.hang_after,
        beats.event,
    )
    beats.write()  # with the checkpoints of a child that died, by which the driver tells progress
    if ended.status == EXIT_BAD_INPUT:
        raise InputError(ended.tail.splitlines()[-1].removeprefix("error: "))
    if ended.status:
        print(f"task {place.task}: child ended: {ended.reason}\n{ended.tail}", file=sys.stderr, flush=True)
    if ended.status == EXIT_STORAGE:
        raise StorageError(ended.tail.splitlines()[-1].removeprefix("error: "))
    if ended.status == EXIT_NO_GPUS:  # no fault of the tickets
        raise GpuLostError(f"executor {place.executor}: {ended.tail.splitlines()[-1].removeprefix('error: ')}")
    if tickets:
        done = run.done()
        left = tuple(ticket.name for ticket in tickets if ticket not in done)
    else:
        left = () if run.dense_result() is not None else (DENSE,)
    return group.agree(Outcome(ended, beats.saved > saved, left))


def _give_up(assignment: Assignment, run: RunDirectory, ticket: Ticket, place: Place, ended: Ended) -> None:
    run.write_result(
        ticket_result(
            ticket,
            assignment.experiment,
            timeline(assignment.experiment, assignment.train_images),
            run.mask(ticket.level),
            status="failed",
            note=_reason_to_give_up(ended),
            executor=place.executor,
            task=place.task,
        )
    )


def _reason_to_give_up(ended: Ended) -> str:
    if ended.status == EXIT_OUT_OF_MEMORY:
        lines = [line.strip() for line in ended.tail.splitlines() if "OOM when" in line]
        return f"out of memory: {lines[0] if lines else _last_lines(ended)}"
    return f"its process died again and again: {ended.reason}: {_last_lines(ended)}"


def _last_lines(ended: Ended) -> str:
    """The end of a child's log in one line: Spark shows the first line of an exception's message."""
    return " | ".join(ended.tail.splitlines()[-5:])[-1000:] or "it is empty"


def memory(place: Place) -> int:
    """Bytes that a task may use: its share of the machine's, or what is left of its container's limit."""
    share = int(psutil.virtual_memory().available) // place.tasks_on_host
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not limit.exists() or not limit.read_text().strip().isdigit():
        return share
    statistics = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
    cached = int(statistics.get("inactive_file", 0))  # counted as used, but given back when needed
    return min(share, int(limit.read_text()) - int(used.read_text()) + cached)
