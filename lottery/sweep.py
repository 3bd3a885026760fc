"""An experiment from beginning to end: dense run, masks, tickets, report; each step only where it is not done yet."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark import SparkContext

from lottery import experiment, gang_task, registry, report, schedules
from lottery.assignment import Assignment
from lottery.claim import claimed
from lottery.experiment import Experiment
from lottery.gang import GangError, run_gang, wait_for_slots
from lottery.gang_task import Place
from lottery.ledger import DenseResult, RunDirectory, run_directory
from lottery.plan import Plan, gang_size, plan, speed_up
from lottery.smoke import shrink
from lottery.steps import Timeline, timeline
from lottery.tickets import NO_CONTROL, Ticket, all_tickets, first_step
from preprocessing.dataset import Dataset
from preprocessing.errors import InputError
from preprocessing.progress import Progress

EXIT_FAILED_TICKETS = 1
_FRUITLESS_STAGES = 3  # in a row, before the sweep gives up
_POLL = 1.0  # seconds between looks at the heartbeats


class SweepError(InputError):
    """The sweep cannot go on. What is done stays done."""

    exit_status = 1


@dataclass(frozen=True)
class Sweep:
    """An experiment on a dataset, checked: all that is known before Spark starts."""

    experiment: Experiment
    dataset: Dataset
    timeline: Timeline
    run: RunDirectory
    tickets: tuple[Ticket, ...]

    @property
    def train_images(self) -> int:
        """How many images an epoch is drawn from."""
        return self.dataset.splits[self.experiment.data.train].count

    def claim_run_directory(self) -> None:
        """Makes the run directory this experiment's. Raises InputError where it is another's."""
        self.run.claim_identity(self.experiment, self.dataset.hash, self.train_images)

    def cost(self, ticket: Ticket) -> int:
        """How many steps a ticket trains."""
        return self.timeline.total - first_step(ticket, self.experiment)

    def left(self) -> list[Ticket]:
        """The tickets that have no result yet."""
        done = self.run.done()
        return [ticket for ticket in self.tickets if ticket not in done]

    def assignment(self, tickets: Sequence[Ticket]) -> Assignment:
        """What a gang task is given; it adds who and where it is."""
        return Assignment(
            run=self.run.uri,
            data=self.dataset.uri,
            dataset_hash=self.dataset.hash,
            train_images=self.train_images,
            experiment=self.experiment,
            tickets=tuple(tickets),
            task=0,
            executor="",
            threads=1,
        )


def prepare(path: str, data: str, runs: str, overrides: Sequence[str] = (), smoke: bool = False) -> Sweep:
    """Reads and checks everything that the user gave. Raises InputError; starts nothing and writes nothing."""
    config = experiment.load(path, overrides)
    if smoke:
        config = shrink(config)
    registry.locate(config.model.name)
    dataset = Dataset.open(data)
    train = dataset.split(config.data.train)
    dataset.split(config.data.evaluate)
    line = timeline(config, train.count)
    schedules.check(config.training.learning_rate, line.steps_per_epoch, line.total)
    run = run_directory(runs, config, dataset.hash)
    return Sweep(config, dataset, line, run, tuple(all_tickets(config, line)))


def describe(sweep: Sweep, context: SparkContext) -> str:
    """What would run on this cluster, as lines of text."""
    slots = wait_for_slots(context)
    left = sweep.left()
    lines = [f"run directory: {sweep.run.uri}", _standing(sweep, left)]
    if sweep.run.dense_result() is None:
        lines.append(f"dense run: {sweep.timeline.total:,} steps, states kept at {_numbers(sweep.timeline.trellis)}")
    if left:
        work = plan(left, gang_size(sweep.experiment.gang.tasks, slots, _masks(left)), sweep.cost)
        speed, efficiency = speed_up(work, sweep.cost)
        lines.append(f"gang: {len(work.tasks)} tasks on {slots} slots, S = {speed:.2f}, E = {efficiency:.2f}")
        for task, tickets in enumerate(work.tasks):
            levels = _numbers(sorted({ticket.level for ticket in tickets}))
            steps = sum(map(sweep.cost, tickets))
            lines.append(f"  task {task}: {len(tickets)} trainings of levels {levels}, {steps:,} steps")
    return "\n".join(lines)


def run_sweep(sweep: Sweep, context: Callable[[], SparkContext]) -> int:
    """Does what is left of a sweep and writes its report; returns the exit status.

    Args:
        context: makes or gives the SparkContext; not called where nothing is left to do.

    Raises:
        BusyError: another sweep is at work on the run directory.
        InputError: the cluster or the experiment cannot be used as they are.
        SweepError: the gang died again and again, or the dense run diverged.
    """
    _say(f"run directory: {sweep.run.uri}")
    sweep.claim_run_directory()
    left = sweep.left()
    _say(_standing(sweep, left))
    dense = sweep.run.dense_result()
    if dense is not None and not left:
        _say("nothing to train")
        return _report(sweep, dense)
    with claimed(sweep.run.store):
        dense = _train(sweep, context())
    return _report(sweep, dense)


def _train(sweep: Sweep, context: SparkContext) -> DenseResult:
    slots = wait_for_slots(context)
    gang_size(sweep.experiment.gang.tasks, slots, len(sweep.tickets))  # refuses too many before any work
    fruitless = 0
    while True:
        dense, left = sweep.run.dense_result(), sweep.left()
        if dense is not None and dense.status != "done":
            raise SweepError(f"the dense run {dense.status}: {dense.note}; lower training.learning_rate.peak, say")
        if dense is not None and not left:
            return dense
        try:
            if dense is None:
                _say(f"dense run: {sweep.timeline.total:,} steps, states kept at {_numbers(sweep.timeline.trellis)}")
                with _progress(sweep, "dense run", 1, sweep.timeline.total):
                    run_gang(context, 1, _dense_task(sweep.assignment(())))
            else:
                work = plan(left, gang_size(sweep.experiment.gang.tasks, slots, _masks(left)), sweep.cost)
                _say(f"gang: {work.tickets} trainings on {len(work.tasks)} tasks")
                with _progress(sweep, "tickets", work.tickets, sum(map(sweep.cost, left))):
                    run_gang(context, len(work.tasks), _ticket_task(sweep, work, dense.parameters))
            fruitless = 0
        except GangError as error:
            fruitless = 0 if len(sweep.left()) < len(left) else fruitless + 1
            if fruitless == _FRUITLESS_STAGES:
                raise SweepError(f"gave up after {fruitless} stages without a result: {error}") from error
            _say(f"the gang failed: {error}")
            slots = wait_for_slots(context)
            _say(f"planning what is left anew, on {slots} slots")


def _dense_task(assignment: Assignment) -> Callable[[Place], int]:
    def work(place: Place) -> int:
        gang_task.run_dense(assignment, place)
        return 1

    return work


def _ticket_task(sweep: Sweep, work: Plan, parameters: int) -> Callable[[Place], int]:
    assignments = [sweep.assignment(tickets) for tickets in work.tasks]
    return lambda place: gang_task.run_tickets(assignments[place.task], place, parameters)


@contextmanager
def _progress(sweep: Sweep, stage: str, trainings: int, steps: int) -> Iterator[None]:
    """A progress line while the block runs, from the tasks' heartbeats: of `steps` over all trainings of the stage."""
    sweep.run.clear_beats()
    ended = threading.Event()

    def watch() -> None:
        started = time.monotonic()
        with Progress(stage, steps, "steps") as progress:
            last = False
            while not last:
                last = ended.wait(_POLL)  # and once more after the end, for the final figures
                beats = sweep.run.beats()
                images = sum(beat["images"] for beat in beats)
                done = sum(beat["done"] for beat in beats)
                progress.update(
                    min(images // sweep.experiment.data.batch, steps),
                    **{
                        "trainings done": f"{done} of {trainings}",
                        "images/s": f"{images / (time.monotonic() - started):,.0f}",
                    },
                )

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _report(sweep: Sweep, dense: DenseResult) -> int:
    failed = [result for result in report.publish(sweep.run, dense) if result.status == "failed"]
    for result in failed:
        _say(f"ticket {result.ticket.name} failed: {result.note}")
    return EXIT_FAILED_TICKETS if failed else 0


def _standing(sweep: Sweep, left: Sequence[Ticket]) -> str:
    proper = [ticket for ticket in sweep.tickets if ticket.control == NO_CONTROL]
    done = len(proper) - sum(ticket.control == NO_CONTROL for ticket in left)
    controls = len(sweep.tickets) - len(proper)
    controls_done = controls - sum(ticket.control != NO_CONTROL for ticket in left)
    also = f", {controls_done} of {controls} controls" if controls else ""
    return f"{done} of {len(proper)} tickets are done{also}"


def _masks(tickets: Sequence[Ticket]) -> int:
    return len({(ticket.seed, ticket.level) for ticket in tickets})


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
