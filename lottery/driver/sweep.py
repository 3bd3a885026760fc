"""The sweep: the dense run and its masks, then the tickets, then the report; each only if it is not done yet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeVar

from pyspark import SparkContext

from lottery.driver.gang import run_gang
from lottery.driver.gang_progress import gang_progress
from lottery.driver.plan_report import dense_line, gang_lines, progress_summary
from lottery.driver.prepare import Sweep, SweepError
from lottery.driver.stages import StageOutcome, Stages
from lottery.executor import task
from lottery.protocol import TaskPlacement
from lottery.report import publish
from lottery.run.run_directory import DenseResult
from lottery.tickets.scheduling import schedule
from preprocessing.common.claim import claimed
from preprocessing.common.errors import StorageError
from preprocessing.common.storage import open_store

logger = logging.getLogger(__name__)

EXIT_FAILED_TICKETS = 1
_FRUITLESS_STAGES = 3  # in a row, before the sweep gives up

T = TypeVar("T")


def run_sweep(sweep: Sweep, context: Callable[[], SparkContext]) -> int:
    """Runs the rest of a sweep and writes its report; returns the exit status.

    Tickets that failed in an earlier run are tried again; those that diverged would diverge again.

    Args:
        context: makes or gives the SparkContext; not called if nothing is left to do.

    Raises:
        BusyError: another sweep is at work on the run directory.
        SparkEndedError: Spark was shut down, or killed.
        InputError: the cluster or the experiment cannot be used as they are.
        SweepError: the gang died again and again, or the dense run diverged.
        StorageError: the storage failed again and again.
    """
    logger.info("run directory: %s", sweep.run.describe())
    sweep.bind_run_directory()
    failed, left = sweep.run.failed(), sweep.left()
    logger.info(progress_summary(sweep, [*left, *failed]))
    dense = sweep.dense_result()
    if dense is None or left or failed:
        with claimed(open_store(sweep.run.uri), "sweep"):
            _reopen_failed(sweep)
            dense = _train(sweep, Stages(sweep, context()))
    else:
        logger.info("nothing to train")
    return _report(sweep, dense)


def _reopen_failed(sweep: Sweep) -> None:
    for ticket in sweep.run.failed():  # looked up again: another sweep may just have tried them
        logger.info("ticket %s failed before and is tried again", ticket.name)
        sweep.run.reopen(ticket)


def _train(sweep: Sweep, stages: Stages) -> DenseResult:
    """The dense run, which ends by making the masks; then the tickets."""
    dense = _until_done(stages, lambda: _train_dense(sweep, stages))
    _until_done(stages, lambda: _train_tickets(sweep, stages, dense))
    return dense


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


def _train_dense(sweep: Sweep, stages: Stages) -> DenseResult | None:
    """A stage of the dense run; None if it is not done after that."""
    dense = sweep.dense_result()
    if dense is not None:
        return dense
    tasks, assignment = stages.get_ready().dense, sweep.assignment(())
    name = stages.name

    def work(placement: TaskPlacement) -> None:
        task.run_dense(assignment, placement, name)

    logger.info(dense_line(sweep, tasks))
    with gang_progress(sweep.run, "dense run", sweep.experiment.data.batch, 1, sweep.timeline.total):
        run_gang(stages.context, tasks, work, tasks, sweep.experiment.gang.ports)
    return sweep.dense_result()


def _train_tickets(sweep: Sweep, stages: Stages, dense: DenseResult) -> Literal[True] | None:
    """A stage of all tickets that are left; None if some are left after that."""
    left = sweep.left()
    if not left:
        return True
    gang = stages.get_ready()
    shares = schedule(left, gang.tasks // gang.together, sweep.cost)
    assignments, parameters, name = [sweep.assignment(share) for share in shares.tasks], dense.parameters, stages.name

    def work(placement: TaskPlacement) -> None:
        task.run_tickets(assignments[placement.group], placement, parameters, name)

    tasks = len(shares.tasks) * gang.together
    logger.info("gang: %d trainings on %d tasks", shares.tickets, tasks)
    for line in gang_lines(shares, sweep.cost, gang.together, None, None):
        logger.info(line)
    steps = sum(map(sweep.cost, left))
    with gang_progress(sweep.run, "tickets", sweep.experiment.data.batch, shares.tickets, steps):
        run_gang(stages.context, tasks, work, gang.together, sweep.experiment.gang.ports)
    return None if sweep.left() else True


def _report(sweep: Sweep, dense: DenseResult) -> int:
    failed = [result for result in publish.publish(sweep.run, dense) if result.status == "failed"]
    for result in failed:
        logger.warning("ticket %s failed: %s", result.ticket.name, result.note)
    return EXIT_FAILED_TICKETS if failed else 0
