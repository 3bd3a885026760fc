"""What a child process works with: its dataset, model and run directory."""

from __future__ import annotations

import copy
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

import msgspec
import tensorflow as tf

from lottery.experiment.config import Experiment
from lottery.experiment.sections import Model
from lottery.experiment.steps import timeline
from lottery.input.augment import image_shape
from lottery.input.batch_assembler import threads
from lottery.input.evaluation_batches import EvaluationInput
from lottery.input.training_batches import TrainingInput
from lottery.protocol import Instructions, Progress, Report
from lottery.run import provenance
from lottery.run.answers import Answers
from lottery.run.run_directory import RunDirectory
from lottery.tickets import integrity, masks
from lottery.tickets.tickets import mask_density
from lottery.training.evaluation import Evaluation, evaluate
from lottery.training.trainer import Trainer
from lottery.worker import devices
from lottery.worker.member import Member, Status
from lottery.worker.position import worker_position
from lottery.worker.shutdown import ShutdownRequest
from lottery.worker.training_log import TrainingLog
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 256 * 2**20  # of evaluation images that a bundle's members score in turn; as many more are read ahead


class Session:
    """One child process at work on its instructions: what the dense run and tickets have in common.

    Args:
        instructions: what to do, and where.
        report: takes an event for the supervisor.
        shutdown: whether the process has been told to stop.

    Raises:
        InputError: the dataset has changed since the sweep began, or does not fit the experiment; or a density keeps
            no weight.
    """

    def __init__(self, instructions: Instructions, report: Report, shutdown: ShutdownRequest | None = None) -> None:
        assignment, self.placement = instructions.assignment, instructions.placement
        self.experiment = assignment.experiment
        self.report, self.shutdown = report, shutdown or ShutdownRequest()
        dataset = Dataset.open(assignment.data)
        if dataset.content_hash != assignment.dataset_hash:
            raise InputError(f"dataset {assignment.data}: has changed since the sweep began; run the sweep again")
        self.dataset = dataset
        self.timeline = timeline(self.experiment, dataset.split(self.experiment.data.train).count)
        self.position = worker_position(os.environ)
        self.run = RunDirectory(open_store(assignment.run), read_only=not self.position.chief)
        self._strategy = devices.strategy(self.position)
        self.trainer = self._trainer(self.experiment)
        masks.check_levels(self.experiment.masks, self.trainer.prunable)
        self.log = TrainingLog(self.run, self.trainer, self.timeline)
        # The task's cores, not the machine's.
        count = threads(self.experiment.input, self.placement.cores)
        self._input = msgspec.structs.replace(self.experiment.input, threads=count)
        data = self.experiment.data
        self._evaluation = self._evaluation_input(data.evaluate)
        self._selection = None if data.select is None else self._evaluation_input(data.select)

    @property
    def evaluated_images(self) -> int:
        """How many images an evaluation has."""
        return self._evaluation.count

    @property
    def selection_images(self) -> int:
        """How many images the evaluation has on which the best reset point is chosen; 0 if there is none."""
        return 0 if self._selection is None else self._selection.count

    @property
    def slots(self) -> dict[str, list[str]]:
        """For each prunable kernel's path the paths of its optimizer slots."""
        return {kernel: self.trainer.slots(kernel) for kernel in self.trainer.kernels}

    def evaluate(self, members: Sequence[Member]) -> None:
        """Evaluates members in one pass over the evaluation split; those at the end also on the selection split."""
        ended = [member for member in members if member.step == self.timeline.total]
        found = dict(zip((member.name for member in members), self._pass(self._evaluation, members), strict=True))
        chosen: dict[str, Evaluation] = {}
        if self._selection is not None:
            chosen = dict(zip((member.name for member in ended), self._pass(self._selection, ended), strict=True))
        for member in members:  # nothing is added before all is there: a request to leave may come in between
            self.log.add(member, found[member.name].scores)
        for member in ended:
            select = chosen.get(member.name)
            answers = Answers(found[member.name].right, None if select is None else select.right)
            self.log.add_final(member, answers, None if select is None else select.scores)

    def _pass(self, source: EvaluationInput, members: Sequence[Member]) -> list[Evaluation]:
        """Each member's scores on a split, and which of all its images are right, in file order."""
        if not members:
            return []
        block = max(1, _BLOCK_BYTES // source.batch_bytes)
        states = [member.state for member in members]
        with closing(source.batches(ahead=block if len(members) > 1 else 1)) as batches:
            found = evaluate(self.trainer, states, batches, block, self.show_progress)
        return [each._replace(right=self.trainer.union(source.in_file_order(each.right))) for each in found]

    def begin_save(self, members: Sequence[Member], then: Callable[[], None] = lambda: None) -> None:
        """Begins to save the members that are still in training, except for states that cannot be right.

        `then` is called in the background when they are written. Raises as `TrainingLog.begin_save` does.
        """
        right = []
        for member in members:
            if not member.training:
                continue
            violation = self.violation(member)
            if violation is None:
                right.append(member)
            elif self.position.workers == 1:  # several workers end it together, when all of them check it
                member.end(*violation)
        self.log.begin_save(right, then)

    def save(self, members: Sequence[Member]) -> None:
        """As `begin_save`, and waits until all is written."""
        self.begin_save(members)
        self.log.settle()

    def check(self, member: Member) -> None:
        """Ends a member whose state is not finite, or not that of its mask and density."""
        violation = self.violation(member)
        if violation is not None:
            member.end(*violation)

    def violation(self, member: Member) -> tuple[Status, str] | None:
        """The status that a training with a wrong state ends with, and the reason; None if the state is right."""
        not_finite = integrity.not_finite(member.state, self.trainer.weights)
        if not_finite:
            return "diverged", f"{not_finite} is not finite at step {member.step}"
        if member.ticket is None or member.mask is None:
            return None
        wanted = mask_density(member.ticket, self.experiment)
        violation = integrity.violation(member.mask, member.state, self.slots, wanted)
        return ("failed", f"{violation} at step {member.step}") if violation else None

    def software_changes(self) -> str:
        """What has changed in the software since the dense run began. Raises InputError if the model has."""
        recorded = self.run.provenance()
        if recorded is None:  # the run directory is older than the record
            return ""
        changes = provenance.changes(recorded, self.trainer.provenance(), self.experiment.model.name)
        if changes:
            logger.warning(changes)
        return changes

    def training_input(self, seed: int) -> TrainingInput:
        """The training split's batches in the order of a seed."""
        return TrainingInput(
            self.dataset,
            self.experiment.data,
            seed,
            self._input,
            worker=self.position.worker,
            workers=self.position.workers,
        )

    def agree_on(self, members: Sequence[Member]) -> None:
        """Raises RuntimeError if another worker starts from other states. Every worker has to call it."""
        if self.position.workers == 1:
            return
        start = zlib.crc32(repr([(member.name, member.step) for member in members]).encode())
        if not devices.agree(self._strategy, start % 2**20):  # its square is summed
            raise RuntimeError("the workers do not start from the same states; the run directory has just changed")

    def wait_for_others(self) -> None:
        """Waits until the chief has written the results, so that all workers end together."""
        if self.position.workers > 1:
            # Whoever gets through first leaves, and its closed connection may be seen before its last message. Whether
            # the results are there is for the tasks to find out.
            with suppress(tf.errors.OpError):
                devices.agree(self._strategy, 0)

    def with_model(self, model: Model) -> Session:
        """The same session with another model: for trainings that are compared with the experiment's own."""
        other = copy.copy(self)
        other.experiment = msgspec.structs.replace(self.experiment, model=model)
        other.trainer = self._trainer(other.experiment)
        other.log = TrainingLog(self.run, other.trainer, self.timeline)
        return other

    def _evaluation_input(self, split: str) -> EvaluationInput:
        return EvaluationInput(
            self.dataset,
            self.experiment.data,
            self._input,
            split=split,
            limit=self.experiment.training.evaluate_batches,
            worker=self.position.worker,
            workers=self.position.workers,
        )

    def _trainer(self, experiment: Experiment) -> Trainer:
        dataset = self.dataset
        shape, classes = image_shape(experiment.data, dataset.size), len(dataset.class_names)
        return Trainer(experiment, shape, classes, dataset.mean, dataset.std, self._strategy)

    def show_progress(self) -> None:
        """Reports that the process is at work without training, such as evaluating, and ends it if it was told to stop.

        Raises ShutdownRequested.
        """
        self.report(Progress(0))
        self.shutdown.check()
