"""Tickets -> bundles -> gang: who trains what, for how long, and how often it is saved. Pure functions."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Generic

from lottery.tickets.tickets import Item


@dataclass(frozen=True)
class Schedule(Generic[Item]):
    """For each task of the gang the tickets that it trains."""

    tasks: tuple[tuple[Item, ...], ...]

    @property
    def tickets(self) -> int:
        """How many tickets are in the schedule."""
        return sum(map(len, self.tasks))


def schedule(tickets: Sequence[Item], tasks: int, cost: Callable[[Item], int]) -> Schedule[Item]:
    """Lays tickets out over at most `tasks` tasks.

    All tickets of one mask and seed go to one task, which thus loads the mask once and reads one stream. Masks are
    dealt out longest first, each to the task with the least work (Graham, 1969: within 4/3 of the best).
    """
    groups = [tuple(group) for _, group in groupby(sorted(tickets, key=_mask), key=_mask)]
    costs = {group: sum(map(cost, group)) for group in groups}
    groups.sort(key=lambda group: -costs[group])
    loads: list[tuple[int, int]] = [(0, task) for task in range(min(tasks, len(groups)))]
    lists: list[list[Item]] = [[] for _ in loads]
    for group in groups:
        load, task = heapq.heappop(loads)
        lists[task] += group
        heapq.heappush(loads, (load + costs[group], task))
    return Schedule(tuple(map(tuple, lists)))


def bundles(tickets: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    """Tickets in bundles of at most `size`, as even as can be, of one model and one stream of batches each."""
    found: list[tuple[Item, ...]] = []
    in_order = sorted(tickets, key=lambda ticket: (ticket.bundle, ticket.mask))
    for _, group in groupby(in_order, key=lambda ticket: ticket.bundle):
        members = tuple(group)
        count = math.ceil(len(members) / size)
        bounds = [round(part * len(members) / count) for part in range(count + 1)]
        found += [members[first:last] for first, last in pairwise(bounds)]
    return found


def bundle_size(asked: int | str, parameters: int, memory: int) -> int:
    """How many tickets a process trains together.

    `auto` lets the tickets' states fill a quarter of `memory`, in bytes: the GPU's if there is one, as states are
    tensors there. The rest is for TensorFlow and the batches. A ticket's state is its weights, up to two optimizer
    slots, its mask and the copy that is written.
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
    """What a schedule takes: `hours` until its longest task is done, and the cluster's `executor_hours` until then."""

    hours: float
    executor_hours: float


def estimate(
    shares: Schedule[Item],
    cost: Callable[[Item], int],
    seconds: float,
    slots: int,
    together: int = 1,
    dense: float = 0.0,
) -> Estimate:
    """Hours of a schedule on a cluster of `slots` executors, which are all held until the end.

    `seconds` is what a step takes on one executor; `together` train a ticket, in that fraction of the time. `dense` is
    the steps of a dense run before it over the executors that train it. So it is an estimate from below: what they wait
    for each other is not in it.
    """
    longest = max((sum(map(cost, tickets)) for tickets in shares.tasks), default=0)
    hours = seconds * (longest / together + dense) / 3600
    return Estimate(hours, hours * slots)


def speed_up(shares: Schedule[Item], cost: Callable[[Item], int]) -> tuple[float, float]:
    """(S, E) of a schedule against one task (Amdahl, 1967): S = all work / the longest task's, E = S / tasks."""
    loads = [sum(map(cost, tickets)) for tickets in shares.tasks]
    speed = sum(loads) / max(loads)
    return speed, speed / len(loads)


def _mask(item: Item) -> tuple[int, ...]:
    return item.mask
