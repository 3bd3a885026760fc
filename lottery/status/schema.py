"""What a snapshot of a sweep consists of: the document of `status --json`.

Keys are never renamed; new ones may come. Times are in seconds since 1970, shares between 0 and 1. docs/watching.md
describes each key.
"""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["running", "done", "stopped", "dead"]


class Dense(msgspec.Struct, frozen=True, kw_only=True):
    """A dense run."""

    seed: int | None  # the replicate's; None if the experiment has one seed
    status: str  # `left`, `training`, `done`, `diverged` or `failed`
    top1: float | None
    note: str


class Trainings(msgspec.Struct, frozen=True, kw_only=True):
    """How many tickets and controls there are, and how they ended."""

    total: int
    done: int  # that have a result: `diverged` and `failed` are among them
    diverged: int
    failed: int
    training: int  # that are at work just now
    left: int  # without a result: `training` are among them


class Replicate(msgspec.Struct, frozen=True, kw_only=True):
    """One of the experiment's seeds."""

    seed: int | None
    trainings: Trainings


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that diverged or failed."""

    seed: int | None
    ticket: str
    status: str
    note: str


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the gang. What is not known is null."""

    task: int
    executor: str
    seed: int | None
    trainings: tuple[str, ...]  # that it trains just now; empty while a process starts, and while masks are made
    done: int  # of its trainings
    total: int
    step: int | None  # of the training that is furthest behind
    steps: int | None  # of a whole training
    epoch: float | None
    images_per_s: float | None
    loss: float | None
    top1: float | None
    input_wait: float | None
    device_wait: float | None
    checkpoint_wait: float | None
    evaluation: float | None
    cpu_percent: float | None
    memory_mib: float | None
    gpus: int
    gpu_percent: float | None
    gpu_memory_mib: float | None
    gpu_watts: float | None
    gpu_mhz: float | None
    gpus_lost: int
    deaths: int
    silent: float | None  # seconds since its last heartbeat
    seconds_left: float | None  # until all its trainings are done


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that died, and what it cost."""

    time: float
    kind: str  # `process died` or `stage failed`
    stage: str
    task: int | None
    executor: str
    message: str
    lost_images: int
    lost_seconds: float  # of one executor


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """A warning of the driver."""

    time: float
    message: str


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Money, in the currency of the price."""

    price_per_hour: float  # of one executor
    spent: float
    to_come: float | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep at one moment."""

    version: int = 1
    run: str
    time: float
    state: State
    search: str  # `grid`; or `frontier`, which trains only a part of `trainings.total`
    holder: str  # who is or was at work: `process 12 on host`
    stage: str  # at work: `dense run`, `masks` or `tickets`
    last_sign: float | None  # of life
    ended: str  # how the last sweep ended, if that was not with all that was asked for
    dense: tuple[Dense, ...]
    trainings: Trainings  # of all replicates
    replicates: tuple[Replicate, ...]
    problems: tuple[Problem, ...]
    tasks: tuple[Task, ...]
    images_per_s: float
    executors: int  # that the sweep holds
    executor_hours: float  # so far, from the first stage on
    executor_hours_left: float | None
    seconds_left: float | None
    expected_end: float | None
    faults: tuple[Fault, ...]
    lost_images: int
    lost_seconds: float
    warnings: tuple[Warned, ...]
    cost: Cost | None
