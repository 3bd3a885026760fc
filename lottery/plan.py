"""Tickets -> bundles -> gang: who trains what, for how long, and how often it is saved. Pure functions."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from lottery.tickets import Ticket
from preprocessing.errors import InputError


@dataclass(frozen=True)
class Plan:
    """For each task of the gang the tickets that it trains."""

    tasks: tuple[tuple[Ticket, ...], ...]

    @property
    def tickets(self) -> int:
        """How many tickets are in the plan."""
        return sum(map(len, self.tasks))


def plan(tickets: Sequence[Ticket], tasks: int, cost: Callable[[Ticket], int]) -> Plan:
    """Lays tickets out over at most `tasks` tasks.

    All tickets of one mask and seed go to one task, which thus loads the mask once and reads one stream. Masks are
    dealt out longest first, each to the task with the least work (Graham, 1969: within 4/3 of the best).
    """
    groups = [tuple(group) for _, group in groupby(sorted(tickets, key=_mask), key=_mask)]
    costs = {group: sum(map(cost, group)) for group in groups}
    groups.sort(key=lambda group: -costs[group])
    loads: list[tuple[int, int]] = [(0, task) for task in range(min(tasks, len(groups)))]
    lists: list[list[Ticket]] = [[] for _ in loads]
    for group in groups:
        load, task = heapq.heappop(loads)
        lists[task] += group
        heapq.heappush(loads, (load + costs[group], task))
    return Plan(tuple(map(tuple, lists)))


def bundles(tickets: Sequence[Ticket], size: int) -> list[tuple[Ticket, ...]]:
    """Tickets in bundles of at most `size`, as even as can be, one seed each: seeds have different streams."""
    found: list[tuple[Ticket, ...]] = []
    for _, group in groupby(sorted(tickets, key=_mask), key=lambda ticket: ticket.seed):
        members = tuple(group)
        count = math.ceil(len(members) / size)
        bounds = [round(part * len(members) / count) for part in range(count + 1)]
        found += [members[first:last] for first, last in pairwise(bounds)]
    return found


def gang_size(asked: int | str, slots: int, masks: int, together: int = 1) -> int:
    """How many tasks the gang has: `together` a mask, at most one a slot.

    Raises InputError for more than there are slots, or fewer than train a ticket together.
    """
    if slots < 1:
        raise InputError("the cluster has no free slot for a task; add executors, or lower spark.task.cpus")
    if asked != "auto" and int(asked) > slots:
        raise InputError(
            f"gang.tasks: {asked} tasks asked for, but the cluster has {slots} slots; "
            f"add executors or --set gang.tasks={slots}"
        )
    tasks = slots if asked == "auto" else int(asked)
    if tasks < together:
        raise InputError(
            f"gang.executors_per_ticket: {together} are more than the gang's {tasks} tasks; "
            f"add executors or --set gang.executors_per_ticket={tasks}"
        )
    return min(tasks // together, masks) * together


def workers(asked: int | str, slots: int, batch: int, devices: int) -> int:
    """How many executors train together: as many as were asked for, or with `auto` as there are slots.

    Where these are too many, or the batch does not divide among their devices, the next smaller number that will do:
    the global batch is the same for any.
    """
    most = slots if asked == "auto" else min(int(asked), slots)
    return next((count for count in range(most, 1, -1) if batch % (count * devices) == 0), 1)


def check_divides(key: str, asked: int | str, batch: int, devices: int, executors: int) -> None:
    """Raises InputError where so many executors, of so many devices each, cannot train a batch together."""
    if asked == "auto" or int(asked) == 1:
        return
    if int(asked) > executors:
        raise InputError(f"{key}: {asked} are more than the cluster's {executors}; --set {key}={executors}")
    if batch % (int(asked) * devices):
        raise InputError(
            f"{key}: data.batch {batch} does not divide among {asked} executors of {devices} devices each; "
            f"--set {key}={workers(asked, executors, batch, devices)}"
        )


def bundle_size(asked: int | str, parameters: int, memory: int) -> int:
    """How many tickets a process trains together.

    `auto` lets the tickets' states fill a quarter of the process's memory (bytes); the rest is for TensorFlow and
    the batches. A ticket's state is its weights, up to two optimizer slots, its mask and the copy that is written.
    """
    if asked != "auto":
        return int(asked)
    return max(1, memory // 4 // (5 * 4 * parameters))


def checkpoint_interval(cost: float, mean_time_between_failures: float) -> float:
    """Seconds between the end of a checkpoint and the next one that lose the least time; all in seconds.

    Young's sqrt(2 x cost x MTBF) (1974) with the terms of higher order of Daly ("A higher order estimate of the optimum
    checkpoint interval for restart dumps", 2006), for where checkpoints take long or failures are many.
    """
    if cost >= 2 * mean_time_between_failures:
        return mean_time_between_failures
    share = cost / (2 * mean_time_between_failures)
    return math.sqrt(2 * cost * mean_time_between_failures) * (1 + math.sqrt(share) / 3 + share / 9) - cost


@dataclass(frozen=True)
class Estimate:
    """What a plan takes: `hours` until its longest task is done, and the cluster's `executor_hours` until then."""

    hours: float
    executor_hours: float


def estimate(
    work: Plan, cost: Callable[[Ticket], int], seconds: float, slots: int, together: int = 1, dense: float = 0.0
) -> Estimate:
    """Hours of a plan on a cluster of `slots` executors, which are all held until the end.

    `seconds` is what a step takes on one executor; `together` train a ticket, in that fraction of the time. `dense` is
    the steps of a dense run before it over the executors that train it. So it is an estimate from below: what they wait
    for each other is not in it.
    """
    longest = max((sum(map(cost, tickets)) for tickets in work.tasks), default=0)
    hours = seconds * (longest / together + dense) / 3600
    return Estimate(hours, hours * slots)


def speed_up(work: Plan, cost: Callable[[Ticket], int]) -> tuple[float, float]:
    """(S, E) of a plan against one task (Amdahl, 1967): S = all work / the longest task's, E = S / tasks."""
    loads = [sum(map(cost, tickets)) for tickets in work.tasks]
    speed = sum(loads) / max(loads)
    return speed, speed / len(loads)


def _mask(ticket: Ticket) -> tuple[int, int]:
    return ticket.seed, ticket.level
