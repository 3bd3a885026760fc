"""`--plan`: what would run, for how long and at what price, as lines of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark import SparkContext

from lottery.driver import preflight
from lottery.driver.gang import GangError, SparkEndedError, wait_for_slots
from lottery.driver.parts import cost_line, round_line, round_of, state_of
from lottery.driver.prepare import Sweep, SweepError
from lottery.driver.reuse import plan_reuse
from lottery.driver.stages import gang_layout
from lottery.executor import model_check
from lottery.run.run_directory import DenseResult
from lottery.run.siblings import find_siblings
from lottery.tickets.gang_size import Layout
from lottery.tickets.scheduling import Estimate, Schedule, bundle_size, bundles, estimate, schedule, speed_up
from lottery.tickets.tickets import NO_CONTROL, Item, Ticket, Training
from preprocessing.common.clean_up import afterwards


@dataclass(frozen=True)
class SweepPlan:
    """What would run on a cluster, and what the preflight found."""

    lines: tuple[str, ...]
    findings: preflight.Findings


@dataclass(frozen=True)
class _Cluster:
    """What a plan is made for: a cluster that was looked at."""

    slots: int
    gang: Layout
    findings: preflight.Findings


def plan_sweep(
    sweep: Sweep, context: SparkContext, price_per_hour: float | None = None, images_per_second: float | None = None
) -> SweepPlan:
    """Checks the cluster as a run would, and reports what would run on it; the run directory stays as it was.

    Args:
        price_per_hour: of one executor, in whatever currency.
        images_per_second: that one executor trains on; by default as the dense run did, once it is done.

    Raises InputError as `run_sweep` does.
    """
    left = [*sweep.trainings_left(), *sweep.trainings_failed()]
    lines = [f"run directory: {sweep.run.describe()}", progress_summary(sweep, left)]
    if sweep.experiment.search == "frontier":
        sweep, said = _next_round(sweep, left)
        left, lines = [training for training in left if sweep.asks(training)], [*lines, *said]
    siblings = find_siblings(sweep.runs, sweep.run.uri)
    reuse = [plan_reuse(each, _of_replicate(left, index), siblings) for index, each in enumerate(sweep.replicates)]
    lines += [line for each in reuse for line in each.lines]
    left = [training for training in left if training.ticket not in reuse[training.replicate].tickets]
    dense_runs = sum(each.dense is None and not each.waits for each in reuse)
    cluster = _look_at(sweep, context, left, dense_runs)
    facts, dense = cluster.findings.model, next((each.dense for each in reuse if each.dense is not None), None)
    if facts is not None:
        lines += model_check.lines(facts, sweep.experiment)
    if dense_runs:
        lines.append(dense_line(sweep, cluster.gang, dense_runs))
    known = facts or dense
    seconds = seconds_per_step(dense, sweep.experiment.data.batch, images_per_second)
    shares = schedule(left, cluster.gang.tasks // cluster.gang.together, sweep.training_cost, sweep.by_chain)
    if left:
        bundle = _bundle(sweep, known.parameters if known else None, cluster.findings)
        lines.append(speed_line(shares, sweep.training_cost, cluster.gang.together, cluster.slots))
        lines += gang_lines(shares, sweep.training_cost, cluster.gang.together, bundle, seconds, sweep.rounds)
    if left or dense_runs:
        rounds = math.ceil(dense_runs / cluster.gang.dense_runs)
        before = rounds * sweep.timeline.total / cluster.gang.dense
        lines.append(price_line(_estimate(sweep, cluster, shares, seconds, before), price_per_hour))
    return SweepPlan(tuple(lines), cluster.findings)


def _next_round(sweep: Sweep, left: Sequence[Training]) -> tuple[Sweep, list[str]]:
    """The sweep with only the next round of its search, and lines on it and on the whole search."""
    state = state_of(sweep, retries=True)
    part = round_of(sweep, state, left)
    said = "search: it is over" if part is None else f"{round_line(part, state)}, which is planned here"
    return part or sweep.asking(()), [cost_line(sweep, state), said]


def _of_replicate(trainings: Sequence[Training], index: int) -> list[Ticket]:
    return [training.ticket for training in trainings if training.replicate == index]


def _look_at(sweep: Sweep, context: SparkContext, left: Sequence[Training], dense_runs: int) -> _Cluster:
    try:
        with afterwards(sweep.run.tidy):
            slots = wait_for_slots(context, sweep.experiment.gang.wait_for_executors)
            gang = gang_layout(sweep, context, slots, left, dense_runs, first=True)
            return _Cluster(slots, gang, preflight.inspect(sweep, context, gang.most, sweep.question()))
    except SparkEndedError:
        raise
    except GangError as error:
        raise SweepError(f"the cluster cannot run a gang: {error}; look at the logs of its executors") from error


def _bundle(sweep: Sweep, parameters: int | None, findings: preflight.Findings) -> int | None:
    asked = sweep.experiment.gang.bundle
    if parameters is None and asked == "auto":
        return None
    return bundle_size(asked, parameters or 0, min(probe.memory for probe in findings.probes))


def _estimate(
    sweep: Sweep, cluster: _Cluster, shares: Schedule[Training], seconds: float | None, before: float
) -> Estimate | None:
    if seconds is None:
        return None
    return estimate(shares, sweep.training_cost, seconds, cluster.slots, cluster.gang.together, before)


def progress_summary(sweep: Sweep, left: Sequence[Training]) -> str:
    """How many tickets and controls are done if these are left."""
    replicates = len(sweep.replicates)
    tickets = replicates * sum(ticket.control == NO_CONTROL for ticket in sweep.tickets)
    controls = replicates * len(sweep.tickets) - tickets
    tickets_left = sum(training.ticket.control == NO_CONTROL for training in left)
    controls_done = controls - (len(left) - tickets_left)
    also = f", {controls_done} of {controls} controls" if controls else ""
    seeds = f", of {replicates} seeds" if replicates > 1 else ""
    return f"{tickets - tickets_left} of {tickets} tickets are done{also}{seeds}"


def dense_line(sweep: Sweep, gang: Layout, count: int) -> str:
    """A line on the dense runs that are to be trained, of which there are `count`."""
    on = f" on {gang.dense} executors" if gang.dense > 1 else ""
    kept = numbers(sweep.timeline.trellis)
    if count == 1:
        return f"dense run: {sweep.timeline.total:,} steps{on}, states kept at {kept}"
    each = f"{count} of {sweep.timeline.total:,} steps, {gang.dense_runs} at once"
    return f"dense runs: {each}{', each' if on else ''}{on}, states kept at {kept}"


def seconds_per_step(dense: DenseResult | None, batch: int, images_per_second: float | None) -> float | None:
    """Seconds that one executor takes for a step: as the user said, else as the dense run took; None if unknown.

    In a dense run on several executors each step took all of them that long.
    """
    if images_per_second is not None:
        return batch / images_per_second
    if dense is not None and dense.steps:
        return dense.seconds / dense.steps * dense.executors
    return None


def gang_lines(
    shares: Schedule[Item],
    cost: Callable[[Item], int],
    together: int,
    bundle: int | None,
    seconds: float | None,
    rounds: bool = False,
) -> list[str]:
    """The gang's tasks and what each would train.

    Args:
        together: executors that train a ticket.
        bundle: tickets in a bundle at most; None if a task will find that out from its memory.
        seconds: that a step takes on one executor; None if unknown.
        rounds: whether levels are rounds of iterative pruning, each in bundles of its own.
    """
    lines = []
    for number, tickets in enumerate(shares.tasks):
        first = number * together
        tasks = f"task {first}" if together == 1 else f"tasks {first} to {first + together - 1}"
        steps = sum(map(cost, tickets))
        levels = numbers(sorted({ticket.level for ticket in tickets}))
        line = f"  {tasks}: {counted(len(tickets), 'training')} of level{'s' if ',' in levels else ''} {levels}"
        if bundle is not None:
            line += f" in {counted(len(bundles(tickets, bundle, rounds)), 'bundle')}"
        line += f", {steps:,} steps"
        if seconds is not None:
            line += f", {_hours(steps * seconds / together / 3600)}"
        lines.append(line)
    return lines


def speed_line(shares: Schedule[Item], cost: Callable[[Item], int], together: int, slots: int) -> str:
    """The gang's size and Amdahl's S and E."""
    speed, efficiency = speed_up(shares, cost)
    return f"gang: {len(shares.tasks) * together} tasks on {slots} slots, S = {speed:.2f}, E = {efficiency:.2f}"


def price_line(estimate: Estimate | None, price_per_hour: float | None) -> str:
    """How long it takes and what it costs, or what is needed to know that."""
    if estimate is None:
        return "hours: not known before the dense run; give --images-per-second, of one executor, for an estimate"
    line = f"estimate: {_hours(estimate.hours)}, {estimate.executor_hours:,.1f} executor-hours"
    if price_per_hour is not None:
        line += f", {estimate.executor_hours * price_per_hour:,.2f} at {price_per_hour:g} an hour of an executor"
    return line


def numbers(values: Sequence[int]) -> str:
    """`1, 2, 3`."""
    return ", ".join(map(str, values))


def counted(number: int, what: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"
