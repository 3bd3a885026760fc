"""An experiment from beginning to end: dense run, masks, tickets, report; each step only where it is not done yet."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark import SparkContext

from lottery.driver import forecast, preflight
from lottery.driver.gang import (
    GangError,
    GangGpuError,
    GangStorageError,
    SparkEndedError,
    cancel,
    is_local,
    run_gang,
    setting,
    wait_for_slots,
)
from lottery.executor import model_check, task
from lottery.executor.model_check import Question
from lottery.executor.task import Place
from lottery.experiment import config as experiment
from lottery.experiment import schedules
from lottery.experiment.config import Experiment
from lottery.experiment.smoke import shrink
from lottery.experiment.steps import Timeline, timeline
from lottery.input import augment, shuffle_window
from lottery.models import registry
from lottery.protocol import Assignment
from lottery.report import publish
from lottery.run.run_directory import DenseResult, RunDirectory, run_directory
from lottery.tickets.gang_size import Layout, layout
from lottery.tickets.scheduling import Plan, bundle_size, estimate, plan
from lottery.tickets.tickets import NO_CONTROL, Ticket, all_tickets, first_step
from preprocessing.common.claim import claimed
from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.places import local_path
from preprocessing.common.progress import Pace, Progress
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset

EXIT_FAILED_TICKETS = 1
_FRUITLESS_STAGES = 3  # in a row, before the sweep gives up
_POLL = 2.0  # seconds between looks at the heartbeats


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
        self.run.claim_identity(self.experiment, self.dataset.content_hash, self.train_images)

    def cost(self, ticket: Ticket) -> int:
        """How many steps a ticket trains."""
        return self.timeline.total - first_step(ticket, self.experiment)

    def left(self) -> list[Ticket]:
        """The tickets that have no result yet."""
        done = self.run.done()
        return [ticket for ticket in self.tickets if ticket not in done]

    def question(self) -> Question:
        """What a preflight asks about the model."""
        side = augment.side(self.experiment.data, self.dataset.size)
        return Question(self.experiment, (side, side, 3), len(self.dataset.class_names))

    def assignment(self, tickets: Sequence[Ticket]) -> Assignment:
        """What a gang task is given; it adds who and where it is."""
        return Assignment(
            run=self.run.uri,
            data=self.dataset.uri,
            dataset_hash=self.dataset.content_hash,
            train_images=self.train_images,
            experiment=self.experiment,
            tickets=tuple(tickets),
            task=0,
            tasks=1,
            executor="",
            threads=1,
        )


def prepare(path: str, data: str, runs: str, overrides: Sequence[str] = (), smoke: bool = False) -> Sweep:
    """Reads and checks everything that the user gave. Raises InputError; starts nothing and writes nothing."""
    config = experiment.load(path, overrides)
    if smoke:
        config = shrink(config)
    registry.locate(config.model.name)
    if config.input.cache_dir is not None:
        local_path(config.input.cache_dir, "input.cache_dir")
    dataset = Dataset.open(data)
    train = dataset.split(config.data.train)
    shuffle_window.check(dataset, train, config.input)
    if not dataset.split(config.data.evaluate).count:
        raise InputError(f"data.evaluate: split {config.data.evaluate} of {data} holds no image; name another one")
    line = timeline(config, train.count)
    augment.check(config.data, dataset.size)
    schedules.check(config.training.learning_rate, line.steps_per_epoch, line.total)
    run = run_directory(runs, config, dataset.content_hash)
    return Sweep(config, dataset, line, run, tuple(all_tickets(config, line)))


@dataclass(frozen=True)
class Outlook:
    """What would run on a cluster, and what has to be mended first, as lines of text."""

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def describe(
    sweep: Sweep, context: SparkContext, price_per_hour: float | None = None, images_per_second: float | None = None
) -> Outlook:
    """Checks the cluster as a run would, and says what would run on it; the run directory stays as it was.

    Args:
        price_per_hour: of one executor, in whatever currency.
        images_per_second: that one executor trains on; by default what the dense run took tells, once it is done.

    Raises InputError as `run_sweep` does.
    """
    dense, left = _usable(sweep.run.dense_result()), [*sweep.left(), *sweep.run.failed()]
    lines = [f"run directory: {sweep.run.describe()}", _standing(sweep, left)]
    try:
        slots = wait_for_slots(context)
        laid = _layout(sweep, context, slots, left, first=True)
        probes, problems = _probe(sweep, context, max(laid.tasks, laid.dense), sweep.question())
    except GangError as error:
        raise SweepError(f"the cluster cannot run a gang: {error}; look at the logs of its executors") from error
    finally:
        sweep.run.tidy()
    facts = next((probe.model for probe in probes if probe.model is not None), None)
    if facts is not None:
        lines += model_check.lines(facts, sweep.experiment)
    seconds = forecast.seconds_per_step(dense, sweep.experiment.data.batch, images_per_second)
    if dense is None:
        lines.append(_dense_line(sweep, laid))
    work = plan(left, laid.tasks // laid.together, sweep.cost)
    if left:
        asked, memory = sweep.experiment.gang.bundle, min(probe.memory for probe in probes)
        known = facts or dense
        parameters = known.parameters if known else 0
        bundle = bundle_size(asked, parameters, memory) if parameters or asked != "auto" else None
        lines.append(forecast.speed_line(work, sweep.cost, laid.together, slots))
        lines += forecast.gang_lines(work, sweep.cost, laid.together, bundle, seconds)
    if left or dense is None:
        before = sweep.timeline.total / laid.dense if dense is None else 0.0
        takes = None if seconds is None else estimate(work, sweep.cost, seconds, slots, laid.together, before)
        lines.append(forecast.price_line(takes, price_per_hour))
    return Outlook(tuple(lines), tuple(problems))


def run_sweep(sweep: Sweep, context: Callable[[], SparkContext]) -> int:
    """Does what is left of a sweep and writes its report; returns the exit status.

    Tickets that failed in an earlier run are tried again; those that diverged would diverge again.

    Args:
        context: makes or gives the SparkContext; not called where nothing is left to do.

    Raises:
        BusyError: another sweep is at work on the run directory.
        SparkEndedError: Spark was shut down, or killed.
        InputError: the cluster or the experiment cannot be used as they are.
        SweepError: the gang died again and again, or the dense run diverged.
        StorageError: the storage failed again and again.
    """
    _say(f"run directory: {sweep.run.describe()}")
    sweep.claim_run_directory()
    failed = sweep.run.failed()
    left = sweep.left()
    _say(_standing(sweep, [*left, *failed]))
    dense = _usable(sweep.run.dense_result())
    if dense is not None and not left and not failed:
        _say("nothing to train")
        return _report(sweep, dense)
    with claimed(open_store(sweep.run.uri), "sweep"):
        for ticket in sweep.run.failed():  # another may just have tried them
            _say(f"ticket {ticket.name} failed before and is tried again")
            sweep.run.reopen(ticket)
        dense = _train(sweep, context())
    return _report(sweep, dense)


def _layout(sweep: Sweep, context: SparkContext, slots: int, left: Sequence[Ticket], first: bool) -> Layout:
    gang, batch = sweep.experiment.gang, sweep.experiment.data.batch
    devices = int(setting(context, "spark.task.resource.gpu.amount")) or 1
    return layout(gang, batch, slots, _masks(left), devices, separate=not is_local(context), first=first)


def _train(sweep: Sweep, context: SparkContext) -> DenseResult:
    """Stage after stage until nothing is left. Raises SparkEndedError where Spark has ended, else as `run_sweep`."""
    kind: type[InputError]  # of error, if the next stage is the last of several that failed
    fruitless = 0
    first, probed = True, False
    slots = 0
    ports = sweep.experiment.gang.ports
    while True:
        dense, left = _usable(sweep.run.dense_result()), sweep.left()
        if dense is not None and not left:
            return dense
        try:
            slots = wait_for_slots(context, slots, settle=not first)
        except InputError as error:
            if first:
                raise
            raise SweepError("all executors are lost; run the same command again to continue") from error
        laid = _layout(sweep, context, slots, left, first)
        first = False
        stage = uuid.uuid4().hex
        sweep.run.mailbox.clear()
        sweep.run.heartbeats.clear()  # of an earlier stage: what it saved is no progress of this one
        try:
            if not probed:
                preflight.refuse(_probe(sweep, context, max(laid.tasks, laid.dense))[1])
                probed = True
            if dense is None:
                _say(_dense_line(sweep, laid))
                with _progress(sweep, "dense run", 1, sweep.timeline.total):
                    run_gang(context, laid.dense, _dense_task(sweep.assignment(()), stage), laid.dense, ports)
            else:
                work = plan(left, laid.tasks // laid.together, sweep.cost)
                tasks = len(work.tasks) * laid.together
                _say(f"gang: {work.tickets} trainings on {tasks} tasks")
                for line in forecast.gang_lines(work, sweep.cost, laid.together, None, None):
                    _say(line)
                with _progress(sweep, "tickets", work.tickets, sum(map(sweep.cost, left))):
                    ticket_task = _ticket_task(sweep, work, dense.parameters, stage)
                    run_gang(context, tasks, ticket_task, laid.together, ports)
            progressed, how, kind = _progressed(sweep, dense, left), "the gang ended without a result", SweepError
        except SparkEndedError:  # as where the whole job is told to end: nothing is left to plan on
            raise
        except GangError as error:
            progressed, how = _progressed(sweep, dense, left), str(error)
            kind = StorageError if isinstance(error, GangStorageError) else SweepError
            _say(f"the gang failed: {how}")
            cancel(context)
            _say("planning what is left anew, on the executors that are left")
            slots = 0  # whether an executor is lost shows in a few seconds
            # Its executor stays, and would be given work again: the preflight names it.
            probed = probed and not isinstance(error, GangGpuError)
        fruitless = 0 if progressed else fruitless + 1
        if fruitless == _FRUITLESS_STAGES:
            raise kind(f"gave up after {fruitless} stages without progress: {how}")


def _progressed(sweep: Sweep, dense: DenseResult | None, left: Sequence[Ticket]) -> bool:
    """Whether a stage left a result or a checkpoint behind; a lost executor may cost days without the first."""
    results = len(sweep.left()) < len(left) or (dense is None and sweep.run.dense_result() is not None)
    return results or any(heartbeat.saved for heartbeat in sweep.run.heartbeats.read())


def _usable(dense: DenseResult | None) -> DenseResult | None:
    if dense is not None and dense.status != "done":
        raise SweepError(
            f"the dense run {dense.status}: {dense.note}; change the experiment, such as "
            "training.learning_rate.peak or the model"
        )
    return dense


def _probe(
    sweep: Sweep, context: SparkContext, tasks: int, question: Question | None = None
) -> tuple[list[preflight.Probe], list[str]]:
    """What the tasks of a gang find where they run, and the problems among that.

    A run does without the question: its first child builds the model before it trains anything.
    """
    folder = preflight.probe_folder()
    what = (
        folder,
        sweep.run.uri,
        sweep.dataset.uri,
        sweep.dataset.content_hash,
        sweep.experiment.gang.check_gpus,
        question,
    )
    store = open_store(sweep.run.uri)
    with afterwards(lambda: store.delete_tree(folder)):
        probes = run_gang(context, tasks, lambda place: preflight.probe(place, *what))
        unseen = preflight.unseen_probes(store, folder, probes)
        at_driver = preflight.driver_problems(store, folder)
    found = {problem: None for probe in probes for problem in probe.problems}  # distinct, in order
    return probes, [*preflight.duplicate_gpus([probe.place for probe in probes]), *at_driver, *found, *unseen]


def _dense_task(assignment: Assignment, stage: str) -> Callable[[Place], None]:
    return lambda place: task.run_dense(assignment, place, stage)


def _ticket_task(sweep: Sweep, work: Plan, parameters: int, stage: str) -> Callable[[Place], None]:
    assignments = [sweep.assignment(tickets) for tickets in work.tasks]
    return lambda place: task.run_tickets(assignments[place.group], place, parameters, stage)


@contextmanager
def _progress(sweep: Sweep, stage: str, trainings: int, steps: int) -> Iterator[None]:
    """A progress line while the block runs, from the tasks' heartbeats: of `steps` over all trainings of the stage."""
    ended = threading.Event()

    def watch() -> None:
        pace = Pace(0, time.monotonic())
        with Progress(stage, steps, "steps") as progress:
            last = False
            while not last:
                last = ended.wait(_POLL)  # and once more after the end, for the final figures
                try:
                    heartbeats = sweep.run.heartbeats.read()
                except StorageError:
                    continue  # away for a moment
                images = sum(heartbeat.images for heartbeat in heartbeats)
                done = sum(heartbeat.done for heartbeat in heartbeats)
                pace.update(images, time.monotonic())
                worked, seconds = pace.since(time.monotonic(), ended=last)
                progress.update(
                    min(images // sweep.experiment.data.batch, steps),
                    **{
                        "trainings done": f"{done} of {trainings}",
                        "images/s": f"{worked / seconds:,.0f}" if seconds else "-",
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
    failed = [result for result in publish.publish(sweep.run, dense) if result.status == "failed"]
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


def _dense_line(sweep: Sweep, laid: Layout) -> str:
    on = f" on {laid.dense} executors" if laid.dense > 1 else ""
    kept = forecast.numbers(sweep.timeline.trellis)
    return f"dense run: {sweep.timeline.total:,} steps{on}, states kept at {kept}"


def _masks(tickets: Sequence[Ticket]) -> int:
    return len({(ticket.seed, ticket.level) for ticket in tickets})


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
