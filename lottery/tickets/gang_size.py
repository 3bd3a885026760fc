"""How many tasks a gang has, and how many of them train together. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from lottery.experiment.sections import Gang
from preprocessing.common.errors import InputError


@dataclass(frozen=True)
class Layout:
    """How many tasks train a dense run; how many train tickets, and how many of these a ticket."""

    dense: int
    tasks: int
    together: int
    dense_runs: int = 1  # that are trained at once

    @property
    def most(self) -> int:
        """How many tasks there are at once, at most."""
        return max(self.tasks, self.dense * self.dense_runs)


def layout(
    gang: Gang,
    batch: int,
    slots: int,
    masks: int,
    devices: int = 1,
    separate: bool = True,
    first: bool = True,
    dense_runs: int = 1,
) -> Layout:
    """The layout on this many slots.

    What was asked for has to fit the first time. Later, when executors are lost, the next smaller layout is taken.

    Args:
        batch: images of the global batch.
        masks: how many are left to be trained, each counted once a seed.
        dense_runs: how many are left to be trained. They share the executors.
        devices: GPUs of a task, or 1 if it has only a processor.
        separate: whether tasks run in executors of their own; in the driver's process they cannot train together.

    Raises InputError if it does not fit.
    """
    executors = slots if separate else 1
    if first and batch % devices:
        raise InputError(
            f"data.batch: {batch} images do not divide among the {devices} devices of a task; choose a multiple"
        )
    if first:
        check_divides("gang.dense_executors", gang.dense_executors, batch, devices, executors)
        check_divides("gang.executors_per_ticket", gang.executors_per_ticket, batch, devices, executors)
    together = workers(gang.executors_per_ticket, executors, batch, devices)
    asked = gang.tasks if first or gang.tasks == "auto" else min(gang.tasks, slots)
    tasks = gang_size(asked, slots, max(masks, 1), together)
    width = slots if asked == "auto" else min(slots, int(asked))
    most = min(executors, width)
    share = max(1, most // max(1, dense_runs)) if gang.dense_executors == "auto" else most
    dense = workers(gang.dense_executors, share, batch, devices)
    return Layout(dense, tasks, together, max(1, min(dense_runs, width // dense)))


def gang_size(asked: int | str, slots: int, masks: int, together: int = 1) -> int:
    """How many tasks the gang has: `together` per mask, at most one per slot.

    Raises InputError for more tasks than there are slots, or fewer than train a ticket together.
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
            f"gang.executors_per_ticket: {together} executors, but the gang has {tasks} task"
            f"{'s' if tasks > 1 else ''}; add executors or --set gang.executors_per_ticket={tasks}"
        )
    return min(tasks // together, masks) * together


def workers(asked: int | str, slots: int, batch: int, devices: int) -> int:
    """How many executors train together: as many as were asked for, or with `auto` as many as there are slots.

    If that is too many, or the batch does not divide among their devices, it is the next smaller number that fits: the
    global batch is the same for any.
    """
    most = slots if asked == "auto" else min(int(asked), slots)
    return next((count for count in range(most, 1, -1) if batch % (count * devices) == 0), 1)


def check_divides(key: str, asked: int | str, batch: int, devices: int, executors: int) -> None:
    """Raises InputError if `asked` executors with `devices` devices each cannot train a batch together."""
    if asked == "auto" or int(asked) == 1:
        return
    if int(asked) > executors:
        raise InputError(
            f"{key}: {asked} executors, but the cluster has {executors}; add executors or --set {key}={executors}"
        )
    if batch % (int(asked) * devices):
        raise InputError(
            f"{key}: data.batch {batch} does not divide among {asked} executors of {devices} devices each; "
            f"--set {key}={workers(asked, executors, batch, devices)}"
        )
