"""What one task of the gang does: its tickets in bundles, one child process after the other. Knows no Spark."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from lottery.executor.child import raise_input_error, run_child
from lottery.executor.child_environment import child_environment
from lottery.executor.group import BundleLimit, BundleOutcome, Group
from lottery.executor.memory import task_memory
from lottery.executor.supervisor import ChildError, Ended
from lottery.experiment.steps import timeline
from lottery.protocol import Assignment, Event, Instructions, Progress, Saved, TaskPlacement
from lottery.run.heartbeats import BEAT_EVERY, Activity, Heartbeat
from lottery.run.run_directory import DENSE, RunDirectory, ticket_result, unstarted
from lottery.tickets.scheduling import bundle_size, bundles
from lottery.tickets.tickets import Ticket, first_step, has_mask_of_its_own, own_mask
from preprocessing.common.errors import Kind, StorageError
from preprocessing.common.storage import open_store

logger = logging.getLogger(__name__)

_PATIENCE = 120.0  # seconds between the ends of the children of tasks that train together
_ATTEMPTS = 2  # at the same trainings without progress, before they are split up or given up


class GpuLostError(ChildError):
    """A child does not see a GPU that its task was given."""

    kind = Kind.GPU_LOST


def run_tickets(assignments: Sequence[Assignment], placement: TaskPlacement, parameters: int, stage: str = "") -> None:
    """Trains the tickets of one assignment after the other, in bundles as large as memory allows.

    Tasks that train together all do the same, and agree after each bundle on how it went.

    A bundle that does not fit into memory is halved. If its child dies twice without a checkpoint in between, the
    bundle is taken apart. A ticket that kills its child twice when it is alone is recorded as failed: it must not keep
    the others from being trained. After a child that was given notice comes another, as long as the machine is there.

    Raises as `_train` does.
    """
    beats = _Beats(assignments, placement)
    group = _group(assignments, placement, stage)
    for assignment in assignments:
        _run_bundles(assignment, placement, parameters, beats, group)
    beats.write(ended=True)


def _run_bundles(
    assignment: Assignment, placement: TaskPlacement, parameters: int, beats: _Beats, group: Group
) -> None:
    memory = task_memory(placement, assignment.input_memory)
    limit = BundleLimit(bundle_size(assignment.experiment.gang.bundle, parameters, memory))
    waiting = bundles(assignment.tickets, group.least(limit).tickets, assignment.experiment.masks.iterative is not None)
    deaths: Counter[tuple[Ticket, ...]] = Counter()
    while waiting:
        bundle = waiting.pop(0)
        beats.begin(assignment, [ticket for later in waiting for ticket in later])
        outcome = _train(assignment, bundle, placement, beats, group)
        ended = outcome.ended
        left = tuple(ticket for ticket in bundle if ticket.name in outcome.left)
        beats.settle(len(bundle) - len(left))
        if not left:
            continue
        if ended.kind is Kind.OUT_OF_MEMORY and len(left) > 1:
            waiting[:0] = [left[: len(left) // 2], left[len(left) // 2 :]]
            continue
        if ended.on_notice:
            waiting.insert(0, left)
            continue
        deaths[left] = 1 if outcome.saved else deaths[left] + 1
        if deaths[left] < _ATTEMPTS:
            waiting.insert(0, left)
        elif len(left) > 1:
            waiting[:0] = [(ticket,) for ticket in left]
        else:
            if placement.worker == 0:
                _give_up(assignment, left[0], placement, ended)
            beats.settle(1)


def run_dense(assignments: Sequence[Assignment], placement: TaskPlacement, stage: str = "") -> None:
    """Trains the rest of one dense run after the other, and makes their masks unless several tasks train together.

    Raises ChildError if a child dies twice without a checkpoint in between, and as `_train` does.
    """
    beats, group = _Beats(assignments, placement), _group(assignments, placement, stage)
    for assignment in assignments:
        _run_dense(assignment, placement, beats, group)
    beats.write(ended=True)


def _run_dense(assignment: Assignment, placement: TaskPlacement, beats: _Beats, group: Group) -> None:
    deaths = 0
    beats.begin(assignment)
    while deaths < _ATTEMPTS:
        outcome = _train(assignment, (), placement, beats, group)
        ended = outcome.ended
        if not outcome.left:
            beats.settle(1)
            return
        if not ended.on_notice:
            deaths = 1 if outcome.saved else deaths + 1
    raise ChildError(f"the dense run's process died: {ended.reason}: {ended.message}")


class _Beats:
    """A task's heartbeats in the run directory, for the driver and for `status`."""

    def __init__(self, assignments: Sequence[Assignment], placement: TaskPlacement) -> None:
        self._run, self._placement = RunDirectory(open_store(assignments[0].home)), placement
        self._ahead = {id(assignment): _steps(assignment) for assignment in assignments}
        trainings = sum(len(assignment.tickets) or 1 for assignment in assignments)
        self._total = trainings if placement.worker == 0 else 0  # of tasks that train together one counts
        # Only the chief's child says what is saved, so the chief counts for all of them.
        self._counted = placement.workers if placement.worker == 0 else 0
        self._images = self._done = self._running = self._unsaved = self._deaths = 0
        self._last_death = ""
        self._seed: int | None = None
        self._activity: Activity | None = None
        self._training = False  # whether the child at work has trained anything yet
        self.saved = 0  # checkpoints that children have written
        self.write()

    def begin(self, assignment: Assignment, waiting: Sequence[Ticket] = ()) -> None:
        """Takes note of the assignment that is at work, and which of its tickets come after the next child."""
        self._seed = _seed(assignment)
        self._ahead[id(assignment)] = (
            _steps(msgspec.structs.replace(assignment, tickets=tuple(waiting))) if waiting else 0
        )

    def hear(self, event: Event) -> None:
        """Takes note of what a child reports, and writes it now and then, and as soon as the child trains."""
        begins = isinstance(event, Progress) and event.images > 0 and not self._training
        self._training |= begins
        if isinstance(event, Saved):
            self.saved += 1
            self._unsaved = 0
        elif isinstance(event, Progress):
            self._images += event.images
            self._unsaved += event.images * self._counted
            self._activity = event.activity or self._activity
            if self._total and event.done is not None:
                self._running = event.done
        if begins or time.monotonic() - self._written >= BEAT_EVERY:
            self.write()

    def ended(self, ended: Ended) -> None:
        """Takes note of how a child has ended, and writes it, so that the driver can report it."""
        if ended.status and not ended.on_notice:
            self._deaths += 1
            self._last_death = f"{ended.reason}: {ended.message}"
        if not ended.status:
            self._unsaved = 0  # in a result
        self._activity, self._training = None, False
        self.write()
        self._unsaved = 0  # the driver reports it as lost by the death

    def settle(self, tickets: int) -> None:
        """Counts the results that the child that has ended left behind."""
        self._done += tickets if self._total else 0
        self._running = 0

    def write(self, *, ended: bool = False) -> None:
        """Writes the heartbeat, the last one if the task has ended.

        A store that is away for a moment is no reason to stop.
        """
        self._written = time.monotonic()
        heartbeat = Heartbeat(
            task=self._placement.task,
            executor=self._placement.executor,
            trainings=self._total,
            done=self._done + self._running,
            images=self._images,
            saved=self.saved,
            time=time.time(),
            gpus=len(self._placement.gpus),
            seed=self._seed,
            waiting=sum(self._ahead.values()),
            unsaved=self._unsaved,
            deaths=self._deaths,
            last_death=self._last_death,
            activity=self._activity,
            ended=ended,
        )
        with contextlib.suppress(StorageError):
            self._run.heartbeats.write(heartbeat)


def _steps(assignment: Assignment) -> int:
    """Steps of its trainings from their beginning."""
    line = timeline(assignment.experiment, assignment.train_images)
    if not assignment.tickets:
        return line.total
    return sum(line.total - first_step(ticket, assignment.experiment) for ticket in assignment.tickets)


def _seed(assignment: Assignment) -> int | None:
    """The replicate that an assignment is of, if there are several."""
    return None if assignment.run == assignment.home else assignment.experiment.seed


def _group(assignments: Sequence[Assignment], placement: TaskPlacement, stage: str) -> Group:
    assignment = assignments[0]  # of one sweep
    run = RunDirectory(open_store(assignment.home))
    # A child that has lost another notices in half a minute; one that hangs is killed by whoever started it.
    patience = assignment.experiment.gang.hang_after + _PATIENCE
    return Group(run, stage, placement.group, placement.worker, placement.workers, patience)


def _train(
    assignment: Assignment, tickets: tuple[Ticket, ...], placement: TaskPlacement, beats: _Beats, group: Group
) -> BundleOutcome:
    """What came of a child that trained these tickets, or the dense run.

    Raises InputError, StorageError or GpuLostError for a failure that is not the tickets' fault.
    """
    saved = beats.saved
    ended = _run_child(msgspec.structs.replace(assignment, tickets=tickets), placement, beats, group)
    beats.ended(ended)  # with the checkpoints of a child that died: the driver tells progress by them
    if ended.status:
        _log_end(ended, placement)
    _raise_if_not_the_tickets(ended, placement)
    left = _left(msgspec.structs.replace(assignment, tickets=tickets), placement)
    return group.agree(BundleOutcome(ended, beats.saved > saved, left))


def _run_child(assignment: Assignment, placement: TaskPlacement, beats: _Beats, group: Group) -> Ended:
    """Runs one child to its end, and counts what it reports."""
    return run_child(
        Instructions(assignment, placement),
        child_environment(placement.gpus, placement.cores, placement.endpoints, placement.worker),
        assignment.experiment.gang.hang_after,
        beats.hear,
        group.other_ended,
    )


def _log_end(ended: Ended, placement: TaskPlacement) -> None:
    logger.warning("task %d: child ended: %s; the end of its log:", placement.task, ended.reason)
    for line in ended.tail.splitlines():
        logger.warning("  %s", line)


def _raise_if_not_the_tickets(ended: Ended, placement: TaskPlacement) -> None:
    raise_input_error(ended)
    if ended.kind is Kind.GPU_LOST:
        raise GpuLostError(f"executor {placement.executor}: {ended.message}")


def _left(assignment: Assignment, placement: TaskPlacement) -> tuple[str, ...]:
    """The names of the trainings that have no result yet; also `masks` if they are to be made and are not there."""
    run = RunDirectory(open_store(assignment.run))
    if assignment.tickets:
        done = run.done()
        return tuple(ticket.name for ticket in assignment.tickets if ticket not in done)
    dense = run.dense_result()
    if dense is None:
        return (DENSE,)
    expected = assignment.masks and placement.workers == 1 and dense.status == "done"
    return () if not expected or run.has_masks(assignment.experiment.masks.of_dense_run) else ("masks",)


def _give_up(assignment: Assignment, ticket: Ticket, placement: TaskPlacement, ended: Ended) -> None:
    run, experiment, note = RunDirectory(open_store(assignment.run)), assignment.experiment, _reason_to_give_up(ended)
    chain = ticket.chain if has_mask_of_its_own(ticket, experiment) else ()
    if chain and not run.has_mask(ticket.level, chain):
        run.write_result(unstarted(ticket, run.result(ticket.predecessor), experiment, status="failed", note=note))
        return
    run.write_result(
        ticket_result(
            ticket,
            experiment,
            timeline(experiment, assignment.train_images),
            own_mask(ticket, run.mask(ticket.level, chain=chain), experiment),
            status="failed",
            note=note,
            executor=placement.executor,
            task=placement.task,
        )
    )


def _reason_to_give_up(ended: Ended) -> str:
    if ended.kind is Kind.OUT_OF_MEMORY:
        return f"out of memory: {ended.message}"
    return f"its process died again and again: {ended.reason}: {ended.message}"
