"""When a sweep will end, and how long it has held its executors. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lottery.run.heartbeats import Heartbeat
from lottery.run.history import Happening
from lottery.status.reader import Look
from lottery.tickets.tickets import Ticket, all_tickets, first_step


def executor_seconds(history: Sequence[Happening], until: float | None) -> float:
    """How long executors have been held, added up over them.

    A sweep holds its executors from its first stage until it ends; one that was killed, until its last row. `until` is
    the time up to which the last sweep is known to have lived, if it has not ended.
    """
    total, slots, since = 0.0, 0, None
    for row in history:
        if row.kind == "sweep began":
            since = None  # the last one did not say when it ended
        if since is not None:
            total += slots * max(0.0, row.time - since)
            since = None if row.kind == "sweep ended" else row.time
        if row.kind == "stage began":
            slots, since = row.slots, row.time
    return total + (slots * max(0.0, until - since) if since is not None and until is not None else 0.0)


def executors(history: Sequence[Happening]) -> int:
    """How many executors the last stage had; 0 before the first."""
    return next((row.slots for row in reversed(history) if row.kind == "stage began"), 0)


def stage(history: Sequence[Happening]) -> str:
    """The stage at work; empty between two."""
    for row in reversed(history):
        if row.kind == "stage began":
            return row.stage
        if row.kind in ("stage ended", "stage failed", "sweep began", "sweep ended"):
            return ""
    return ""


def task_seconds_left(heartbeat: Heartbeat) -> float | None:
    """Until a task has done all its trainings, at its pace of late; None if that is not known."""
    activity = heartbeat.activity
    if activity is None or activity.steps_per_s <= 0:
        return None
    return (activity.steps_left + heartbeat.waiting) / activity.steps_per_s


def seconds_left(look: Look) -> float | None:
    """Until the sweep is done; None if that cannot be told yet, as in a search, whose rounds depend on results.

    The stage at work takes as long as its slowest task. What comes after it takes as many steps as there are, on as
    many executors as can share them, at the pace of the dense run. Loading, masks and waits are not in it, so it is an
    estimate from below.
    """
    if look.origin.experiment.search == "frontier":
        return None
    at_work = stage(look.history)
    later = 0 if at_work == "tickets" else sum(_steps(look, ticket) for ticket in _left(look))
    tasks = [task_seconds_left(heartbeat) for heartbeat in look.heartbeats if heartbeat.trainings]
    known = [seconds for seconds in tasks if seconds is not None]
    now = 0.0 if at_work in ("", "masks") else max(known, default=None)
    if now is None or (at_work not in ("", "masks") and len(known) < len(tasks) and not _all_done(look.heartbeats)):
        return None
    if not later:
        return now
    pace = _pace(look)
    masks = {(seed, ticket.mask) for seed, ticket in _left(look)}
    together = min(executors(look.history), len(masks) * look.origin.experiment.gang.executors_per_ticket)
    return now + later / (pace * together) if pace and together else None


def _all_done(heartbeats: Sequence[Heartbeat]) -> bool:
    """Whether each task whose pace is not known has nothing left to do."""
    return all(heartbeat.done >= heartbeat.trainings for heartbeat in heartbeats if heartbeat.activity is None)


def _pace(look: Look) -> float | None:
    """Steps a second of one executor: as the dense run took, or takes."""
    for replicate in look.replicates:
        dense = replicate.dense
        if dense is not None and dense.steps and dense.seconds:
            return dense.steps / dense.seconds / dense.executors
    chiefs = [each.activity.steps_per_s for each in look.heartbeats if each.trainings and each.activity]
    return sum(chiefs) / len(look.heartbeats) if chiefs else None


def _left(look: Look) -> list[tuple[int | None, Ticket]]:
    tickets = all_tickets(look.origin.experiment, look.origin.timeline)
    return [(each.seed, ticket) for each in look.replicates for ticket in tickets if ticket not in each.results]


def _steps(look: Look, training: tuple[int | None, Ticket]) -> int:
    return look.origin.timeline.total - first_step(training[1], look.origin.experiment)
