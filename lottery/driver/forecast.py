"""What would run, for how long and at what price, as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lottery.run.run_directory import DenseResult
from lottery.tickets.scheduling import Estimate, Plan, bundles, speed_up
from lottery.tickets.tickets import Ticket

Cost = Callable[[Ticket], int]


def seconds_per_step(dense: DenseResult | None, batch: int, images_per_second: float | None) -> float | None:
    """Seconds that one executor takes for a step: as it was told, else as the dense run took; None where unknown.

    Of a dense run on several executors each step cost all of them that time.
    """
    if images_per_second is not None:
        return batch / images_per_second
    if dense is not None and dense.steps:
        return dense.seconds / dense.steps * dense.executors
    return None


def gang_lines(work: Plan, cost: Cost, together: int, bundle: int | None, seconds: float | None) -> list[str]:
    """The gang's tasks and what each would train.

    Args:
        together: executors that train a ticket.
        bundle: tickets in a bundle at most; None where that is found out when the task sees its memory.
        seconds: that a step takes on one executor; None where unknown.
    """
    lines = []
    for number, tickets in enumerate(work.tasks):
        first = number * together
        tasks = f"task {first}" if together == 1 else f"tasks {first} to {first + together - 1}"
        steps = sum(map(cost, tickets))
        levels = numbers(sorted({ticket.level for ticket in tickets}))
        line = f"  {tasks}: {_count(len(tickets), 'training')} of level{'s' if ',' in levels else ''} {levels}"
        if bundle is not None:
            line += f" in {_count(len(bundles(tickets, bundle)), 'bundle')}"
        line += f", {steps:,} steps"
        if seconds is not None:
            line += f", {_hours(steps * seconds / together / 3600)}"
        lines.append(line)
    return lines


def speed_line(work: Plan, cost: Cost, together: int, slots: int) -> str:
    """The gang's size and Amdahl's S and E."""
    speed, efficiency = speed_up(work, cost)
    return f"gang: {len(work.tasks) * together} tasks on {slots} slots, S = {speed:.2f}, E = {efficiency:.2f}"


def price_line(estimate: Estimate | None, price_per_hour: float | None) -> str:
    """How long it takes and what it costs, or what has to be known for that."""
    if estimate is None:
        return "hours: not known before the dense run; give --images-per-second, of one executor, for an estimate"
    line = f"estimate: {_hours(estimate.hours)}, {estimate.executor_hours:,.1f} executor-hours"
    if price_per_hour is not None:
        line += f", {estimate.executor_hours * price_per_hour:,.2f} at {price_per_hour:g} an hour of an executor"
    return line


def numbers(values: Sequence[int]) -> str:
    """`1, 2, 3`."""
    return ", ".join(map(str, values))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"
