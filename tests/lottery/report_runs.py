"""Run directories for tests of the report, without a training: results, evaluations, telemetry and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lottery.experiment import config
from lottery.run.provenance import Provenance
from lottery.run.results import DenseResult, ticket_result
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.run.submission import Submission
from lottery.tickets.tickets import Ticket, all_tickets, first_step
from preprocessing.common.storage import open_store
from tests.lottery.paths import DIGITS

START = 1_700_000_000.0
EXPERIMENT = (
    "trellis=[0ep, 0.5ep, 1ep]",
    "masks.densities=[0.5, 0.1, 0.02]",
    "tickets.controls=[reinit, shuffle, continue]",
    "training.length=10ep",
    "training.evaluate_every=2ep",
)
LAYERS = {"conv/kernel": (3, 3, 3, 8), "classifier/kernel": (8, 10)}
DENSE_TOP1 = 0.9


def write_run(
    folder: Path, *overrides: str, dense: bool = True, tickets: int | None = None, notes: str = "", status: str = "done"
) -> RunDirectory:
    """A run directory whose sweep has got so far.

    Args:
        dense: whether the dense runs are done.
        tickets: how many of each replicate's tickets and controls are done, the first ones; None is all.
        notes: of every result that is not `done`, and the submission's dataset.
        status: of the last of those tickets.
    """
    run = RunDirectory(open_store(folder))
    experiment = config.load(DIGITS, [*EXPERIMENT, *overrides])
    for seed in experiment.seeds:
        _bind(run.replicate(seed), next(each for each in experiment.replicates if each.seed == seed))
    _bind(run, experiment)
    run.write_submission(
        Submission(
            arguments=("jobs/lottery_sweep.py", "--experiment", "my experiment.yaml"),
            data=f"data {notes}".strip(),
            code="0.1.0",
            spark="3.5.9",
            python="3.11.2",
        )
    )
    for number, each in enumerate(run.replicates()):
        _write_replicate(each, number, dense, tickets, notes, status)
    return run


def _bind(run: RunDirectory, experiment: config.Experiment) -> None:
    run.bind_experiment(experiment, "0123" * 16, 1438)


def _write_replicate(run: RunDirectory, number: int, dense: bool, tickets: int | None, notes: str, status: str) -> None:
    origin = run.origin()
    line, experiment = origin.timeline, origin.experiment
    run.write_provenance(Provenance("0123456789abcdef", "2.21.0", "3.15.1", "3.11", "1 x H100; 16 cores of Xeon"))
    run.write_metrics(DENSE, evaluations(0, line.total if dense else line.total // 2, DENSE_TOP1, line))
    run.write_telemetry(DENSE, [_row(30.0 + number, 30.0)])
    if not dense:
        return
    top1 = DENSE_TOP1 + 0.002 * number
    run.write_dense_result(DenseResult("done", "", top1, 0.99, 0.3, 359, line.total, 25.0, 1000, 296))
    masks = [_mask(density) for density in experiment.masks.levels]
    for level, mask in enumerate(masks):
        run.write_mask(level, mask)
    chosen = all_tickets(experiment, line)[:tickets]
    for index, ticket in enumerate(chosen):
        ended = status if index == len(chosen) - 1 else "done"
        done = ended == "done"
        score = accuracy(ticket, line.epoch(ticket.step)) + 0.002 * number
        run.write_metrics(ticket.name, evaluations(first_step(ticket, experiment), line.total, score, line))
        run.write_result(
            ticket_result(
                ticket,
                experiment,
                line,
                masks[ticket.level],
                status=ended,
                note="" if done else notes,
                executor=f"10.0.0.{1 + index % 2}:4040",
                task=index % 2,
                top1=score if done else None,
                top5=0.99 if done else None,
                loss=1 - score if done else None,
                steps=line.total,
                seconds=20.0,
            )
        )
    for task, bundle in enumerate(chosen[:2]):
        place = {"task": task, "executor": f"10.0.0.{1 + task}:4040", "trainings": len(chosen) // 2}
        rows = [_row(100.0 + 60 * minute, 60.0, **place, gpu_percent=90.0 - 10 * task) for minute in range(3)]
        run.write_telemetry(bundle.name, [*rows, _row(500.0, 60.0, **place)])


def accuracy(ticket: Ticket, epoch: float) -> float:
    """Of tickets late resets are best, and controls lose."""
    loss = 0.01 * 3**ticket.level * (1.0 if ticket.control == "none" else 2.0)
    return DENSE_TOP1 + 0.005 - loss + 0.01 * epoch * ticket.level


def evaluations(first: int, last: int, top1: float, line) -> list[dict[str, float]]:
    steps = [step for step in sorted(line.evaluations) if first < step <= last]
    return [
        {
            "step": step,
            "epoch": line.epoch(step),
            "training_loss": 2.0 * (1 - top1 * step / line.total),
            "top1": top1 * step / line.total,
            "top5": 0.99 * step / line.total,
            "loss": 1.5 * (1 - top1 * step / line.total),
        }
        for step in steps
    ]


def _row(end: float, seconds: float, **more: object) -> dict[str, object]:
    return {"time": START + end, "seconds": seconds, "images_per_s": 1000.0, "input_wait": 0.05, **more}


def _mask(density: float) -> dict[str, np.ndarray]:
    return {
        name: (np.arange(np.prod(shape)) < round(density * np.prod(shape))).reshape(shape)
        for name, shape in LAYERS.items()
    }
