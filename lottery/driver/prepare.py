"""A sweep as it is known before Spark starts: the experiment and the dataset, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lottery.experiment import config as experiment
from lottery.experiment import schedules
from lottery.experiment.config import Experiment
from lottery.experiment.smoke import shrink
from lottery.experiment.steps import Timeline, timeline
from lottery.input import augment, shuffle_window
from lottery.input.input_memory import InputMemory, input_memory
from lottery.models import registry
from lottery.protocol import Assignment, Question
from lottery.run.dataset_record import record_of
from lottery.run.run_directory import DenseResult, RunDirectory, run_directory
from lottery.tickets import iterative, mask_methods, transfer
from lottery.tickets.tickets import Ticket, Training, all_tickets, first_step
from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path
from preprocessing.dataset.opening import Dataset


class SweepError(InputError):
    """The sweep cannot go on. What is done stays done."""

    exit_status = 1


@dataclass(frozen=True)
class Sweep:
    """An experiment on a dataset, checked: all that is known before Spark starts.

    With several seeds, `replicates` has the sweep of each. The dense run, masks, tickets and assignment are those of a
    replicate; `trainings_left`, `dense_runs_left` and the like are of the whole.
    """

    experiment: Experiment
    dataset: Dataset
    timeline: Timeline
    runs: str  # the folder of all run directories
    run: RunDirectory
    home: RunDirectory  # of the whole sweep, for a replicate's: it has the claim, the heartbeats and the report
    tickets: tuple[Ticket, ...]  # of a replicate
    index: int = 0  # of a replicate, among them
    asked: frozenset[Training] | None = None  # what a round of a search asks for; None: all tickets

    @property
    def replicates(self) -> tuple[Sweep, ...]:
        """The sweep of each seed, in a run directory of its own below this one; only itself if there is one seed."""
        if not self.experiment.seeds:
            return (self,)
        return tuple(
            replace(self, experiment=experiment, run=self.run.replicate(experiment.seed), index=index)
            for index, experiment in enumerate(self.experiment.replicates)
        )

    @property
    def train_images(self) -> int:
        """How many images an epoch is drawn from."""
        return self.dataset.splits[self.experiment.data.train].count

    @property
    def rounds(self) -> bool:
        """Whether levels are rounds of iterative pruning, which follow one another."""
        return self.experiment.masks.iterative is not None

    @property
    def by_chain(self) -> bool:
        """Whether tasks get tickets by chain and not by mask: a round of a search asks for a few of each mask."""
        return self.rounds or self.experiment.search == "frontier"

    def asking(self, trainings: Iterable[Training]) -> Sweep:
        """The sweep in which of all tickets only these are left to be trained."""
        return replace(self, asked=frozenset(trainings))

    def asks(self, training: Training) -> bool:
        """Whether it is asked for, by the round of a search if this is one."""
        return self.asked is None or training in self.asked

    @property
    def label(self) -> str:
        """For messages: which replicate this is, if there are several."""
        return "" if self.run.uri == self.home.uri else f" of seed {self.experiment.seed}"

    def bind_run_directory(self, replace: bool = True) -> None:
        """Makes the run directories this experiment's. Raises InputError if one is another's.

        Args:
            replace: whether settings that are not in the identity replace those of the last run; only if no other sweep
                is at work there.
        """
        if self.experiment.seeds:
            for replicate in self.replicates:  # first, so that they are there if the whole sweep's directory is
                replicate.bind_run_directory(replace)
        self.run.bind_experiment(self.experiment, self.dataset.content_hash, self.train_images, replace)
        self.run.record_dataset(record_of(self.dataset))

    def cost(self, ticket: Ticket) -> int:
        """How many steps a ticket trains."""
        return self.timeline.total - first_step(ticket, self.experiment)

    def training_cost(self, training: Training) -> int:
        """How many steps a ticket of a replicate trains."""
        return self.cost(training.ticket)

    def trainings_left(self) -> list[Training]:
        """The tickets of all replicates that have no result yet."""
        return [
            Training(index, ticket) for index, replicate in enumerate(self.replicates) for ticket in replicate.left()
        ]

    def trainings_failed(self) -> list[Training]:
        """The tickets of all replicates whose result is a failure."""
        return [
            Training(index, ticket)
            for index, replicate in enumerate(self.replicates)
            for ticket in replicate.run.failed()
        ]

    def dense_runs_left(self) -> list[Sweep]:
        """The replicates without a dense run. Raises SweepError if one's did not succeed."""
        return [replicate for replicate in self.replicates if replicate.dense_result() is None]

    def masks_left(self) -> list[Sweep]:
        """The replicates without masks."""
        return [replicate for replicate in self.replicates if not replicate.has_masks()]

    def assignments(self, trainings: Iterable[Training]) -> list[Assignment]:
        """What a gang task is asked to do to train these, one assignment a replicate."""
        tickets: dict[int, list[Ticket]] = {}
        for training in trainings:
            tickets.setdefault(training.replicate, []).append(training.ticket)
        return [self.replicates[index].assignment(chosen) for index, chosen in tickets.items()]

    def dense_result(self) -> DenseResult | None:
        """The result of the dense run, None if it is not done yet. Raises SweepError if it did not succeed."""
        dense = self.run.dense_result()
        if dense is not None and dense.status != "done":
            raise SweepError(
                f"the dense run{self.label} {dense.status}: {dense.note}; change the experiment, such as "
                "training.learning_rate.peak or the model"
            )
        return dense

    def has_masks(self) -> bool:
        """Whether all masks are made."""
        return self.run.has_masks(self.experiment.masks.of_dense_run)

    def left(self) -> list[Ticket]:
        """The tickets that are asked for and have no result yet."""
        done = self.run.done()
        wanted = [ticket for ticket in self.tickets if self.asks(Training(self.index, ticket))]
        return [ticket for ticket in wanted if ticket not in done]

    def question(self) -> Question:
        """What a preflight asks about the model."""
        side = augment.side(self.experiment.data, self.dataset.size)
        return Question(self.experiment, (side, side, 3), len(self.dataset.class_names), self.run.uri)

    def input_memory(self) -> InputMemory:
        """What the input of a task that trains tickets takes of main memory."""
        workers = self.experiment.gang.executors_per_ticket
        return input_memory(
            self.experiment.data, self.experiment.input, self.dataset.size, self.timeline.total, workers
        )

    def assignment(self, tickets: Sequence[Ticket], masks: bool = True) -> Assignment:
        """What a gang task is asked to do: train these tickets; or if there are none, the dense run, and make masks."""
        return Assignment(
            run=self.run.uri,
            home=self.home.uri,
            data=self.dataset.uri,
            dataset_hash=self.dataset.content_hash,
            train_images=self.train_images,
            experiment=self.experiment,
            input_memory=self.input_memory(),
            tickets=tuple(tickets),
            masks=masks,
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
    line = _checked_timeline(config, dataset)
    run = run_directory(runs, config, dataset.content_hash)
    return Sweep(config, dataset, line, runs, run, run, tuple(all_tickets(config, line)))


def _checked_timeline(config: Experiment, dataset: Dataset) -> Timeline:
    """The experiment's steps on this dataset. Raises InputError if the two do not fit together."""
    train = dataset.split(config.data.train)
    shuffle_window.check(dataset, train, config.input)
    if not dataset.split(config.data.evaluate).count:
        raise InputError(
            f"data.evaluate: split {config.data.evaluate} of {dataset.describe()} holds no image; name another one"
        )
    _check_selection(config.data.select, dataset)
    line = timeline(config, train.count)
    augment.check(config.data, dataset.size)
    schedules.check(config.training.learning_rate, line.steps_per_epoch, line.total)
    mask_methods.check(config, line, train.count)
    iterative.check(config)
    transfer.check(config)
    return line


def _check_selection(split: str | None, dataset: Dataset) -> None:
    if split is None:
        return
    if split not in dataset.splits:
        problem = f"{dataset.describe()} has no such split, only {', '.join(sorted(dataset.splits))}"
    elif not dataset.split(split).count:
        problem = f"in {dataset.describe()} it holds no image"
    else:
        return
    raise InputError(
        f"data.select: {split}: {problem}; preprocess with --holdout, which makes minival; name another split; or "
        "choose on data.evaluate, with --set data.select=null"
    )
