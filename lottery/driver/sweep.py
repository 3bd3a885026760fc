"""The sweep: dense run, masks, tickets, report; each only if it is neither done yet nor to be adopted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeVar

from pyspark import SparkContext

from lottery.driver.gang import run_gang
from lottery.driver.gang_progress import gang_progress
from lottery.driver.plan_report import dense_line, gang_lines, numbers, progress_summary
from lottery.driver.prepare import Sweep, SweepError
from lottery.driver.reuse import reuse_dense, reuse_tickets
from lottery.driver.stages import StageOutcome, Stages
from lottery.executor import task
from lottery.protocol import TaskPlacement
from lottery.report import publish
from lottery.run.run_directory import DenseResult
from lottery.run.siblings import find_siblings
from lottery.tickets.scheduling import schedule
from preprocessing.common.claim import claimed
from preprocessing.common.errors import StorageError
from preprocessing.common.storage import open_store

logger = logging.getLogger(__name__)

EXIT_FAILED_TICKETS = 1
_FRUITLESS_STAGES = 3  # in a row, before the sweep gives up

Until = Literal["dense", "masks"]
T = TypeVar("T")


def run_sweep(sweep: Sweep, context: Callable[[], SparkContext], until: Until | None = None) -> int:
    """Runs the rest of a sweep and writes its report; returns the exit status.

    What other run directories have trained already is adopted. Tickets that failed in an earlier run are tried again;
    those that diverged would diverge again.

    Args:
        context: makes or gives the SparkContext; not called if nothing is left to do.
        until: the last stage to run; without it, all of them.

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
    if _is_done(sweep, until) and not (until is None and failed):
        logger.info("nothing to train")
    else:
        with claimed(open_store(sweep.claimed), "sweep"):
            if until is None:
                _reopen_failed(sweep)
            _work(sweep, context, until)
    if until is not None:
        print("\n".join(_what_is_there(sweep)), flush=True)
        return 0
    dense = sweep.dense_result()
    assert dense is not None
    return _report(sweep, dense)


def _is_done(sweep: Sweep, until: Until | None) -> bool:
    if sweep.dense_result() is None:
        return False
    if until is None:
        return not sweep.left()
    return until == "dense" or sweep.has_masks()


def _what_is_there(sweep: Sweep) -> list[str]:
    """Lines on what `--until` has left in the run directory."""
    dense = sweep.dense_result()
    assert dense is not None
    top1 = "-" if dense.top1 is None else f"{dense.top1:.4f}"
    kept = numbers(sweep.timeline.trellis)
    lines = [f"dense run: done, top-1 {top1} on {dense.evaluated:,} images, states kept at {kept}"]
    if sweep.has_masks():
        densities = ", ".join(f"{density:g}" for density in sweep.experiment.masks.densities)
        lines.append(f"masks: made, of densities {densities}")
    return lines


def _reopen_failed(sweep: Sweep) -> None:
    for ticket in sweep.run.failed():  # looked up again: another sweep may just have tried them
        logger.info("ticket %s failed before and is tried again", ticket.name)
        sweep.run.reopen(ticket)


def _work(sweep: Sweep, context: Callable[[], SparkContext], until: Until | None) -> None:
    """Each stage that is not done yet: by adopting what others have, else by training."""
    siblings = find_siblings(sweep.runs, sweep.claimed)
    reuse_dense(sweep, siblings)
    had_masks = sweep.has_masks()
    if until is None and had_masks:
        reuse_tickets(sweep, siblings)
    if _is_done(sweep, until):
        return
    stages = Stages(sweep, context())
    dense = _until_done(stages, lambda: _train_dense(sweep, stages, until != "dense"))
    if until != "dense":
        _until_done(stages, lambda: _make_masks(sweep, stages))
    if until is None:
        if not had_masks:
            reuse_tickets(sweep, siblings)
        _until_done(stages, lambda: _train_tickets(sweep, stages, dense))


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
    """A stage of the dense run; None if it is not done after that. Whoever trains it alone may go on to make masks."""
    dense = sweep.dense_result()
    if dense is not None:
        return dense
    tasks, assignment = stages.get_ready().dense, sweep.assignment((), masks)
    name = stages.name

    def work(placement: TaskPlacement) -> None:
        task.run_dense(assignment, placement, name)

    logger.info(dense_line(sweep, tasks))
    with gang_progress(sweep.run, "dense run", sweep.experiment.data.batch, 1, sweep.timeline.total):
        run_gang(stages.context, tasks, work, tasks, sweep.experiment.gang.ports)
    return sweep.dense_result()


def _make_masks(sweep: Sweep, stages: Stages) -> Literal[True] | None:
    """A stage that makes the masks of a finished dense run, on one executor; None if they are not there after that."""
    if sweep.has_masks():
        return True
    stages.get_ready()
    assignment, name = sweep.assignment(()), stages.name

    def work(placement: TaskPlacement) -> None:
        task.run_dense(assignment, placement, name)

    logger.info("masks: made from the dense run's final weights")
    run_gang(stages.context, 1, work)
    return True if sweep.has_masks() else None


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
