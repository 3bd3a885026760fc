"""A snapshot as plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lottery.status.schema import Dense, Fault, Problem, Snapshot, Task
from preprocessing.common.names import one_line
from preprocessing.common.progress import format_duration, format_rate

_FAULTS = 10  # the latest


class Column(NamedTuple):
    """A column of the table of tasks."""

    name: str
    cell: Callable[[Task], str]
    weight: int  # if the table is too wide, the columns of the largest weight go first; 0 never goes
    is_text: bool = False


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}%"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _training(task: Task) -> str:
    if not task.trainings:
        return "starting" if task.done < task.total else "-"
    seed = "" if task.seed is None else f"seed {task.seed}: "
    more = f" +{len(task.trainings) - 1}" if len(task.trainings) > 1 else ""
    return f"{seed}{task.trainings[0]}{more}"


def _executor(task: Task) -> str:
    """Its address without the domain."""
    host, colon, port = task.executor.rpartition(":")
    label = host if host.replace(".", "").isdigit() else host.partition(".")[0]
    return f"{label}{colon}{port}"


def _device(task: Task) -> str:
    return f"{task.gpus_lost} lost" if task.gpus_lost else _percent(task.gpu_percent)


COLUMNS = (
    Column("task", lambda task: str(task.task), 0),
    Column("executor", _executor, 5, is_text=True),
    Column("training", _training, 0, is_text=True),
    Column("done", lambda task: f"{task.done}/{task.total}", 3),
    Column("step", lambda task: "-" if task.step is None else f"{task.step}/{task.steps}", 0),
    Column("epoch", lambda task: _number(task.epoch, ".1f"), 2),
    Column("images/s", lambda task: "-" if task.images_per_s is None else format_rate(task.images_per_s), 0),
    Column("loss", lambda task: _number(task.loss, ".3f"), 0),
    Column("top-1", lambda task: _number(task.top1, ".3f"), 0),
    Column("GPU", _device, 0),
    Column("input", lambda task: _share(task.input_wait), 0),
    Column("CPU", lambda task: _percent(task.cpu_percent), 6),
    Column("MiB", lambda task: _number(task.memory_mib, ".0f"), 7),
    Column("W", lambda task: _number(task.gpu_watts, ".0f"), 8),
    Column("left", lambda task: "-" if task.seconds_left is None else format_duration(task.seconds_left), 0),
)


def columns_within(tasks: Sequence[Task], width: int | None, gap: int) -> list[Column]:
    """The columns of a table no wider than `width`, as far as that can be; `gap` is between two. None: all."""
    chosen = list(COLUMNS)
    while width is not None and any(column.weight for column in chosen):
        if sum(_width(column, tasks) + gap for column in chosen) <= width:
            break
        chosen.remove(max(chosen, key=lambda column: column.weight))
    return chosen


def _width(column: Column, tasks: Sequence[Task]) -> int:
    return max(len(column.name), *(len(column.cell(task)) for task in tasks), 0)


def lines(snapshot: Snapshot) -> list[str]:
    """The whole snapshot."""
    return [
        *head(snapshot),
        *(f"  {_at(fault.time)} {fault_line(fault)}" for fault in snapshot.faults[-_FAULTS:]),
        *(f"  {_at(warned.time)} warning: {one_line(warned.message)}" for warned in snapshot.warnings),
        *_tasks(snapshot.tasks),
    ]


def head(snapshot: Snapshot) -> list[str]:
    """All but the tasks, the faults and the warnings."""
    found = [f"{snapshot.run}: {state_line(snapshot)}", *map(_dense_line, snapshot.dense)]
    for replicate in snapshot.replicates:
        counts = replicate.trainings
        line = f"tickets and controls{_of(replicate.seed)}: {counts.done} of {counts.total} are done"
        line += ", of which the search needs a part" if snapshot.search != "grid" else ""
        ended = [f"{counts.diverged} diverged"] if counts.diverged else []
        ended += [f"{counts.failed} failed"] if counts.failed else []
        line += f" ({', '.join(ended)})" if ended else ""
        line += f", {counts.training} in training" if counts.training else ""
        found.append(line)
    found += map(_problem_line, snapshot.problems)
    if snapshot.executor_hours or snapshot.cost is not None:
        found.append(_hours_line(snapshot))
    if snapshot.faults:
        found.append(_lost_line(snapshot))
    return found


def summary(snapshot: Snapshot) -> str:
    """A line for a log."""
    counts = snapshot.trainings
    parts = [f"{counts.done} of {counts.total} trainings done", f"{counts.failed} failed"]
    if snapshot.state == "running":
        if snapshot.stage:
            parts.insert(0, snapshot.stage)
        if snapshot.images_per_s:
            parts.append(f"{format_rate(snapshot.images_per_s)} images/s")
        if snapshot.seconds_left is not None:
            parts.append(f"{format_duration(snapshot.seconds_left)} left")
    return f"{_at(snapshot.time)} {snapshot.state}: {', '.join(parts)}"


def state_line(snapshot: Snapshot) -> str:
    """Whether it runs, and since when not."""
    ago = "" if snapshot.last_sign is None else f"{format_duration(max(0.0, snapshot.time - snapshot.last_sign))} ago"
    if snapshot.state == "running":
        line = f"running, {snapshot.stage or 'between two stages'}, {snapshot.holder}"
        if snapshot.seconds_left is not None and snapshot.expected_end is not None:
            line += f"; {format_duration(snapshot.seconds_left)} left, until {_at(snapshot.expected_end)} or later"
        return line
    if snapshot.state == "dead":
        return (
            f"dead: {snapshot.holder} left its claim and does not renew it; last sign of life {ago or 'unknown'}; run "
            "the same command again to continue"
        )
    if snapshot.state == "done":
        return "done"
    why = f" ({one_line(snapshot.ended)})" if snapshot.ended else ""
    return f"not running{why}" + (f"; last sign of life {ago}" if ago else "")


def fault_line(fault: Fault) -> str:
    """What died, and why."""
    who = f"{fault.stage}: " if fault.stage else ""
    who += f"task {fault.task} on {fault.executor}: " if fault.task is not None else ""
    lost = f" ({format_duration(fault.lost_seconds)} of training lost)" if fault.lost_seconds else ""
    return f"{who}{fault.kind}: {one_line(fault.message)}{lost}"


def _of(seed: int | None) -> str:
    return "" if seed is None else f" of seed {seed}"


def _dense_line(dense: Dense) -> str:
    said = {"left": "not done", "training": "in training"}.get(dense.status, dense.status)
    top1 = "" if dense.top1 is None else f", top-1 {dense.top1:.4f}"
    note = f": {one_line(dense.note)}" if dense.note and dense.status not in ("done", "left") else ""
    return f"dense run{_of(dense.seed)}: {said}{top1}{note}"


def _problem_line(problem: Problem) -> str:
    return f"  {problem.ticket}{_of(problem.seed)} {problem.status}: {one_line(problem.note)}"


def _hours_line(snapshot: Snapshot) -> str:
    line = f"executor-hours: {snapshot.executor_hours:,.2f} so far"
    if snapshot.executors:
        line += f" on {snapshot.executors} executor{'s' if snapshot.executors != 1 else ''}"
    if snapshot.executor_hours_left:
        line += f", {snapshot.executor_hours_left:,.2f} to come"
    cost = snapshot.cost
    if cost is not None:
        to_come = "what is to come is not known yet" if cost.to_come is None else f"{cost.to_come:,.2f} to come"
        line += f"; {cost.spent:,.2f} spent, {to_come} at {cost.price_per_hour:g} an hour of an executor"
    return line


def _lost_line(snapshot: Snapshot) -> str:
    count = len(snapshot.faults)
    lost = f"lost to {count} fault{'s' if count != 1 else ''}: {snapshot.lost_images:,} trained images"
    return f"{lost}, {format_duration(snapshot.lost_seconds)} of one executor" if snapshot.lost_seconds else lost


def _tasks(tasks: Sequence[Task]) -> list[str]:
    if not tasks:
        return []
    columns = list(COLUMNS)
    widths = [_width(column, tasks) for column in columns]
    rows = [[column.name for column in columns], *([column.cell(task) for column in columns] for task in tasks)]
    return [
        "  ".join(
            cell.ljust(width) if column.is_text else cell.rjust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def _at(seconds: float) -> str:
    """A time of this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
