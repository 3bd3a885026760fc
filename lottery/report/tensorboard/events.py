"""The event files of a sweep: one for each training, and one above them for the grid."""

from __future__ import annotations

from collections.abc import Mapping

from lottery.report.record.sweep_record import ReplicateRecord, SweepRecord
from lottery.report.tensorboard.event_file import TrainingEvents, Value, experiment_file, training_file
from lottery.run.run_directory import DENSE
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL, from_name

# One file a training, always of the same name: a later report replaces it, so that nothing is there twice.
_NAME = "events.out.tfevents.0.lottery-trellis"


def event_files(record: SweepRecord, points: Mapping[int, str]) -> dict[str, bytes]:
    """The files by their path below the run directory.

    Args:
        points: the reset points' names by step.
    """
    found = {}
    grid: dict[str, list[Value]] = {}
    for each in record.replicates:
        folder = f"seed-{each.seed}/" if len(record.replicates) > 1 else ""
        ended = {result.ticket.name: result.status for result in each.results}
        if each.dense is not None:
            ended[DENSE] = each.dense.status
        for name in sorted({*each.metrics, *ended}):
            hparams, group = _place_in_grid(record, each, name, points)
            for key, value in hparams.items():
                if value not in grid.setdefault(key, []):
                    grid[key].append(value)
            begin, end = _times(each, name)
            training = TrainingEvents(each.metrics.get(name, ()), hparams, group, ended.get(name, ""), begin, end)
            found[f"events/{folder}{name}/{_NAME}"] = training_file(training)
    description = f"{record.name}, identity {record.origin.identity}"
    found[f"events/{_NAME}"] = experiment_file(grid, description)
    return found


def _place_in_grid(
    record: SweepRecord, each: ReplicateRecord, name: str, points: Mapping[int, str]
) -> tuple[dict[str, Value], str]:
    """A training's hyperparameters, and the group of those that differ from it in seeds alone."""
    if name == DENSE:
        return {"density": 1.0, "reset": "-", "control": "dense run", "order": 0, "seed": each.seed}, DENSE
    ticket = from_name(name)
    assert ticket is not None  # reading leaves other folders out
    control = "ticket" if ticket.control == NO_CONTROL else ticket.control
    density = 1.0 if is_for_all_levels(ticket.control) else record.origin.experiment.masks.levels[ticket.level]
    reset = points.get(ticket.step, str(ticket.step))
    hparams: dict[str, Value] = {"density": density, "reset": reset, "control": control}
    group = f"{ticket.level:02d} {reset} {control}"
    return {**hparams, "order": ticket.seed, "seed": each.seed}, group


def _times(each: ReplicateRecord, name: str) -> tuple[float, float]:
    """When a training began and ended, seconds since 1970, as far as telemetry tells; zeros if it does not."""
    spans = [span for span in each.spans if span.bundle == name] or [
        span for span in each.spans if span.is_dense == (name == DENSE)
    ]
    return (min(span.begin for span in spans), max(span.end for span in spans)) if spans else (0.0, 0.0)
