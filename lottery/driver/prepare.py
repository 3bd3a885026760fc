"""A sweep as it is known before Spark starts: the experiment and the dataset, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lottery.experiment import config as experiment
from lottery.experiment import schedules
from lottery.experiment.config import Experiment
from lottery.experiment.smoke import shrink
from lottery.experiment.steps import Timeline, timeline
from lottery.input import augment, shuffle_window
from lottery.input.input_memory import InputMemory, input_memory
from lottery.models import registry
from lottery.protocol import Assignment, Question
from lottery.run.run_directory import DenseResult, RunDirectory, run_directory
from lottery.tickets.tickets import Ticket, all_tickets, first_step
from preprocessing.common.errors import InputError
from preprocessing.common.places import local_path
from preprocessing.dataset.opening import Dataset


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

    def bind_run_directory(self) -> None:
        """Makes the run directory this experiment's. Raises InputError if it is another's."""
        self.run.bind_experiment(self.experiment, self.dataset.content_hash, self.train_images)

    def cost(self, ticket: Ticket) -> int:
        """How many steps a ticket trains."""
        return self.timeline.total - first_step(ticket, self.experiment)

    def dense_result(self) -> DenseResult | None:
        """The result of the dense run, None if it is not done yet. Raises SweepError if it did not succeed."""
        dense = self.run.dense_result()
        if dense is not None and dense.status != "done":
            raise SweepError(
                f"the dense run {dense.status}: {dense.note}; change the experiment, such as "
                "training.learning_rate.peak or the model"
            )
        return dense

    def left(self) -> list[Ticket]:
        """The tickets that have no result yet."""
        done = self.run.done()
        return [ticket for ticket in self.tickets if ticket not in done]

    def question(self) -> Question:
        """What a preflight asks about the model."""
        side = augment.side(self.experiment.data, self.dataset.size)
        return Question(self.experiment, (side, side, 3), len(self.dataset.class_names))

    def input_memory(self) -> InputMemory:
        """What the input of a task that trains tickets takes of main memory."""
        workers = self.experiment.gang.executors_per_ticket
        return input_memory(
            self.experiment.data, self.experiment.input, self.dataset.size, self.timeline.total, workers
        )

    def assignment(self, tickets: Sequence[Ticket]) -> Assignment:
        """What a gang task is asked to do: train these tickets, or the dense run if there are none."""
        return Assignment(
            run=self.run.uri,
            data=self.dataset.uri,
            dataset_hash=self.dataset.content_hash,
            train_images=self.train_images,
            experiment=self.experiment,
            input_memory=self.input_memory(),
            tickets=tuple(tickets),
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
    return Sweep(config, dataset, line, run, tuple(all_tickets(config, line)))


def _checked_timeline(config: Experiment, dataset: Dataset) -> Timeline:
    """The experiment's steps on this dataset. Raises InputError if the two do not fit together."""
    train = dataset.split(config.data.train)
    shuffle_window.check(dataset, train, config.input)
    if not dataset.split(config.data.evaluate).count:
        raise InputError(
            f"data.evaluate: split {config.data.evaluate} of {dataset.describe()} holds no image; name another one"
        )
    line = timeline(config, train.count)
    augment.check(config.data, dataset.size)
    schedules.check(config.training.learning_rate, line.steps_per_epoch, line.total)
    return line
