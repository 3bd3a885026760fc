"""The sweep: dense run, masks, tickets, report; each only if it is neither done yet nor to be adopted."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeVar

import pyspark
from pyspark import SparkContext

from lottery.driver.gang import run_gang
from lottery.driver.gang_progress import Stage, gang_progress, sweep_history
from lottery.driver.parts import is_finished, next_part, to_retry
from lottery.driver.plan_report import counted, dense_line, gang_lines, numbers, progress_summary
from lottery.driver.prepare import Sweep, SweepError
from lottery.driver.reuse import reuse_dense, reuse_tickets
from lottery.driver.stages import StageOutcome, Stages
from lottery.executor import task
from lottery.protocol import Assignment, TaskPlacement
from lottery.report import publish
from lottery.run.run_directory import DenseResult
from lottery.run.siblings import Sibling, find_siblings
from lottery.run.submission import Submission, code_version
from lottery.tickets.scheduling import schedule
from preprocessing.common.claim import claimed, live_claim
from preprocessing.common.errors import StorageError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import open_store

logger = logging.getLogger(__name__)

EXIT_FAILED_TICKETS = 1
_FRUITLESS_STAGES = 3  # in a row, before the sweep gives up

Until = Literal["dense", "masks"]
T = TypeVar("T")


def run_sweep(
    sweep: Sweep, context: Callable[[], SparkContext], until: Until | None = None, patient: bool = True
) -> int:
    """Runs the rest of a sweep and writes its report; returns the exit status.

    What other run directories have trained already is adopted. Tickets that failed in an earlier run are tried again;
    those that diverged would diverge again.

    Args:
        context: makes or gives the SparkContext; not called if nothing is left to do.
        until: the last stage to run; without it, all of them.
        patient: whether Spark can be started late, after what takes its time: adopting, and waiting for a dense run
            that another sweep is training. If not, it is started first, and nothing is waited for.

    Raises:
        BusyError: another sweep is at work on the run directory, or on the dense run if not `patient`.
        SparkEndedError: Spark was shut down, or killed.
        InputError: the cluster or the experiment cannot be used as they are.
        SweepError: the gang died again and again, or the dense run diverged.
        StorageError: the storage failed again and again.
    """
    logger.info("run directory: %s", sweep.run.describe())
    store = open_store(sweep.run.uri)
    sweep.bind_run_directory(replace=False)
    failed, left = sweep.trainings_failed(), sweep.trainings_left()
    logger.info(progress_summary(sweep, [*left, *failed]))
    if _is_done(sweep, until) and not (until is None and to_retry(sweep)):
        logger.info("nothing to train")
        if patiently(lambda: live_claim(store), store) is None:
            sweep.bind_run_directory()
    else:
        with claimed(store, "sweep"), sweep_history(sweep):
            sweep.bind_run_directory()  # not before: a sweep that is at work there keeps its settings
            sweep.run.write_submission(_submission(sweep))
            if until is None:
                _reopen_failed(sweep)
            _work(sweep, context, until, patient)
    if until is None:
        return _report(sweep)
    print("\n".join(line for replicate in sweep.replicates for line in _what_is_there(replicate)), flush=True)
    return 0


def _submission(sweep: Sweep) -> Submission:
    """How this process was started."""
    python = platform.python_version()
    data = sweep.dataset.describe()
    return Submission(
        arguments=tuple(sys.argv), data=data, code=code_version(), spark=pyspark.__version__, python=python
    )


def _is_done(sweep: Sweep, until: Until | None) -> bool:
    if until is None:
        return is_finished(sweep)
    if sweep.dense_runs_left():
        return False
    return until == "dense" or not sweep.masks_left()


def _what_is_there(sweep: Sweep) -> list[str]:
    """Lines on what `--until` has left in a replicate's run directory."""
    dense = sweep.dense_result()
    assert dense is not None
    top1 = "-" if dense.top1 is None else f"{dense.top1:.4f}"
    kept = numbers(sweep.timeline.trellis)
    lines = [f"dense run{sweep.label}: top-1 {top1} on {dense.evaluated:,} images, states kept at {kept}"]
    if sweep.has_masks():
        masks = sweep.experiment.masks
        densities = ", ".join(f"{density:g}" for density in masks.levels[: masks.of_dense_run])
        lines.append(f"masks{sweep.label}: of densities {densities}")
    return lines


def _reopen_failed(sweep: Sweep) -> None:
    for training in to_retry(sweep):  # looked up again: another sweep may just have tried them
        replicate, ticket = sweep.replicates[training.replicate], training.ticket
        logger.info("ticket %s%s failed before and is tried again", ticket.name, replicate.label)
        replicate.run.reopen(ticket)


def _work(sweep: Sweep, context: Callable[[], SparkContext], until: Until | None, patient: bool) -> None:
    """One part of the sweep after another; all of it at once, if no search goes in rounds."""
    if not patient:
        context()
    siblings = find_siblings(sweep.runs, sweep.run.uri)
    stages: Stages | None = None
    part = next_part(sweep) if until is None else sweep
    while part is not None:
        _on_driver(stages, partial(_reuse, part, siblings, until, patient))
        if not _is_done(part, until):
            stages = stages or Stages(sweep, context())
            _run_stages(part, stages, siblings, until)
        part = _on_driver(stages, lambda: next_part(sweep)) if until is None else None


def _on_driver(stages: Stages | None, work: Callable[[], T]) -> T:
    """Work of the driver between stages: once there are any, it is tried again if storage fails."""
    return work() if stages is None else _until_done(stages, lambda: (work(),))[0]


def _reuse(part: Sweep, siblings: Sequence[Sibling], until: Until | None, patient: bool) -> None:
    for replicate in part.replicates:
        reuse_dense(replicate, siblings, patient)
    if until is None:
        _reuse_tickets(part, siblings)


def _run_stages(part: Sweep, stages: Stages, siblings: Sequence[Sibling], until: Until | None) -> None:
    """Each stage of a part that is not done yet."""
    dense = _until_done(stages, lambda: _train_dense(part, stages, until != "dense"))
    if until == "dense":
        return
    _until_done(stages, lambda: _make_masks(part, stages))
    if until == "masks":
        return
    _until_done(stages, lambda: _reuse_tickets(part, siblings))
    _until_done(stages, lambda: _train_tickets(part, stages, dense))


def _reuse_tickets(sweep: Sweep, siblings: Sequence[Sibling]) -> Literal[True]:
    """Adopts tickets of the replicates that have masks."""
    for replicate in sweep.replicates:
        reuse_tickets(replicate, siblings)
    return True


def _until_done(stages: Stages, stage: Callable[[], T | None]) -> T:
    """The result of a stage, which is run again until it has one, or gets nowhere three times in a row."""
    fruitless = 0
    while True:
        outcome = stages.attempt(stage)
        if outcome.result is not None:
            return outcome.result
        fruitless = 0 if outcome.progressed else fruitless + 1
        if fruitless == _FRUITLESS_STAGES:
            raise _given_up(outcome)


def _given_up(outcome: StageOutcome[T]) -> SweepError | StorageError:
    kind = StorageError if isinstance(outcome.error, StorageError) else SweepError
    return kind(f"gave up after {_FRUITLESS_STAGES} stages without progress: {outcome.error}")


def _train_dense(sweep: Sweep, stages: Stages, masks: bool) -> DenseResult | None:
    """A stage of all dense runs that are left, which returns the first's result; None if some are left after that.

    An executor that trains one alone may go on to make its masks.
    """
    left = sweep.dense_runs_left()
    if not left:
        return sweep.replicates[0].dense_result()
    gang = stages.get_ready(sweep)
    logger.info(dense_line(sweep, gang, len(left)))
    steps = sweep.timeline.total * len(left)
    tasks = gang.dense_runs * gang.dense
    with gang_progress(sweep, Stage("dense run", tasks, stages.slots, len(left), steps)):
        _run_dense(sweep, stages, [each.assignment((), masks) for each in left], gang.dense_runs, gang.dense)
    return None if sweep.dense_runs_left() else sweep.replicates[0].dense_result()


def _make_masks(sweep: Sweep, stages: Stages) -> Literal[True] | None:
    """A stage that makes the masks of finished dense runs, an executor each; None if some are missing after that."""
    left = sweep.masks_left()
    if not left:
        return True
    tasks = min(stages.get_ready(sweep).tasks, len(left))
    logger.info("masks: made by the method %s", sweep.experiment.masks.method)
    with gang_progress(sweep, Stage("masks", tasks, stages.slots, len(left))):
        _run_dense(sweep, stages, [each.assignment(()) for each in left], tasks)
    return None if sweep.masks_left() else True


def _run_dense(sweep: Sweep, stages: Stages, assignments: list[Assignment], groups: int, together: int = 1) -> None:
    """Deals the assignments out over groups of tasks that train together."""
    shares = [assignments[group::groups] for group in range(groups)]
    name = stages.name

    def work(placement: TaskPlacement) -> None:
        task.run_dense(shares[placement.group], placement, name)

    run_gang(stages.context, groups * together, work, together, sweep.experiment.gang.ports)


def _train_tickets(sweep: Sweep, stages: Stages, dense: DenseResult) -> Literal[True] | None:
    """A stage of all tickets that are left; None if some are left after that."""
    left = sweep.trainings_left()
    if not left:
        return True
    gang = stages.get_ready(sweep)
    shares = schedule(left, gang.tasks // gang.together, sweep.training_cost, sweep.by_chain)
    assignments, parameters, name = [sweep.assignments(share) for share in shares.tasks], dense.parameters, stages.name

    def work(placement: TaskPlacement) -> None:
        task.run_tickets(assignments[placement.group], placement, parameters, name)

    tasks = len(shares.tasks) * gang.together
    logger.info("gang: %s on %s", counted(shares.tickets, "training"), counted(tasks, "task"))
    for line in gang_lines(shares, sweep.training_cost, gang.together, None, None):
        logger.info(line)
    steps = sum(map(sweep.training_cost, left))
    with gang_progress(sweep, Stage("tickets", tasks, stages.slots, shares.tickets, steps)):
        run_gang(stages.context, tasks, work, gang.together, sweep.experiment.gang.ports)
    return None if sweep.trainings_left() else True


def _report(sweep: Sweep) -> int:
    results = publish.publish(sweep.run)
    for replicate in sweep.replicates:
        for result in results[replicate.experiment.seed]:
            if result.status == "failed":
                logger.warning("ticket %s%s failed: %s", result.ticket.name, replicate.label, result.note)
    return EXIT_FAILED_TICKETS if to_retry(sweep) else 0
