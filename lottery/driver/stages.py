"""Stages of the gang, one after another, and what the driver knows of the executors from one to the next."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pyspark import SparkContext

from lottery.driver import preflight
from lottery.driver.gang import GangError, GangGpuError, SparkEndedError, cancel, is_local, settings, wait_for_slots
from lottery.driver.prepare import Sweep, SweepError
from lottery.tickets.gang_size import Layout, layout
from lottery.tickets.tickets import Training
from preprocessing.common.errors import InputError, StorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class StageOutcome(Generic[T]):
    """What came of a stage: its result, None if work is left; else why, and whether it got anywhere."""

    result: T | None
    error: GangError | StorageError | None = None
    progressed: bool = False


class Stages:
    """Runs the stages of a sweep, each laid out on the executors that are there."""

    def __init__(self, sweep: Sweep, context: SparkContext) -> None:
        self.context = context
        self.name = ""  # of the stage at work, unlike any other's
        self._sweep = sweep
        self.slots = 0  # for tasks, as counted before the stage at work
        self._first = True
        self._checked = 0  # tasks of the largest gang that a preflight has found right
        self._cleared = False  # whether the heartbeats are this stage's

    def attempt(self, stage: Callable[[], T | None]) -> StageOutcome[T]:
        """Runs a stage. A gang that dies and storage that fails, also on the driver, are an outcome.

        Raises SparkEndedError if Spark has ended: nothing is left to run on. Passes InputError on.
        """
        self._cleared, before = False, None
        try:
            before = self._results()
            result = stage()
            if result is not None:
                return StageOutcome(result)
            error: GangError | StorageError = GangError("the gang ended without a result")
        except SparkEndedError:
            raise
        except (GangError, StorageError) as failure:
            error = failure
            self._recover(failure)
        return StageOutcome(None, error, self._progressed(before))

    def get_ready(self, part: Sweep) -> Layout:
        """The layout of a part of the sweep on the executors there are; clears what an earlier stage left.

        As many tasks as have not been at work before are checked by a preflight.

        Raises InputError if the cluster cannot be used, SweepError if its executors are lost.
        """
        self.name = uuid.uuid4().hex
        try:
            patience = self._sweep.experiment.gang.wait_for_executors
            self.slots = wait_for_slots(self.context, patience, self.slots, settle=not self._first)
        except InputError as error:
            if self._first:
                raise
            raise SweepError("all executors are lost; run the same command again to continue") from error
        left, dense_runs = part.trainings_left(), len(part.dense_runs_left())
        laid_out = gang_layout(part, self.context, self.slots, left, dense_runs, self._first)
        self._first = False
        self._sweep.home.mailbox.clear()
        self._sweep.home.heartbeats.clear()
        self._cleared = True
        if laid_out.most > self._checked:
            preflight.inspect(part, self.context, laid_out.most).raise_if_any()
            self._checked = laid_out.most
        return laid_out

    def _results(self) -> int:
        return sum(
            len(each.run.done()) + (each.run.dense_result() is not None) + each.has_masks()
            for each in self._sweep.replicates
        )

    def _progressed(self, before: int | None) -> bool:
        """Whether a stage left a result or a checkpoint behind; a lost executor may cost days without a result."""
        try:
            saved = self._cleared and any(heartbeat.saved for heartbeat in self._sweep.home.heartbeats.read())
            return saved or (before is not None and self._results() > before)
        except StorageError:
            return False

    def _recover(self, error: GangError | StorageError) -> None:
        logger.warning("the stage failed: %s", error)
        cancel(self.context)
        logger.info("planning the remaining work again, on the executors that are left")
        self.slots = 0  # whether an executor is lost shows in a few seconds
        if isinstance(error, GangGpuError):  # its executor stays, and would get work again: the preflight names it
            self._checked = 0


def gang_layout(
    sweep: Sweep, context: SparkContext, slots: int, left: Sequence[Training], dense_runs: int, first: bool
) -> Layout:
    """How many tasks train this many dense runs, and then these tickets, on these slots; see `gang_size.layout`."""
    gang, batch = sweep.experiment.gang, sweep.experiment.data.batch
    masks = len({training.chain if sweep.by_chain else training.mask for training in left})
    devices = int(settings(context).get("spark.task.resource.gpu.amount", "0")) or 1
    separate = not is_local(context)
    return layout(gang, batch, slots, masks, devices, separate=separate, first=first, dense_runs=dense_runs)
