"""The child process of a gang task: reads its assignment on standard input, trains, writes to the run directory.

Standard output carries events for the supervisor (see `lottery.protocol`); the log goes to standard error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from lottery.worker.lean_import import absent
from lottery.worker.preemption import Leaving, Notice, end_with_parent

if __name__ == "__main__":
    end_with_parent()  # before the seconds that importing TensorFlow takes

import msgspec
import numpy as np

with absent("matplotlib", "pandas", "sklearn"):
    import tensorflow as tf

from lottery.experiment.steps import timeline
from lottery.input import pipeline as data_input
from lottery.protocol import (
    EXIT_NOTICE,
    EXIT_OUT_OF_MEMORY,
    Event,
    Failed,
    Instructions,
    Progress,
    Saved,
    Tell,
    decode_instructions,
    encode_event,
)
from lottery.run import provenance
from lottery.run.checkpoint import Checkpoint
from lottery.run.read_only_store import OnlookersStore
from lottery.run.run_directory import DENSE, DenseResult, RunDirectory, ticket_result
from lottery.seeds import derived_seed
from lottery.tickets import integrity, masks
from lottery.tickets.tickets import Ticket, first_step, from_name, stream_seed
from lottery.training.trainer import Trainer
from lottery.worker import devices, training_loop
from lottery.worker.telemetry import Telemetry
from lottery.worker.training_log import Record, Saving, checkpoint
from lottery.worker.training_loop import Member, Status
from preprocessing.common.errors import Failure, InputError, Kind, StorageError, failure_of
from preprocessing.common.program import run_or_explain
from preprocessing.common.storage import Store
from preprocessing.dataset.opening import Dataset


class Worker:
    """Trains what one assignment names; all that it has to tell goes to the run directory."""

    def __init__(self, instructions: Instructions, tell: Tell, notice: Notice | None = None) -> None:
        assignment, self._placement = instructions.assignment, instructions.placement
        self._assignment, self._tell, self._notice = assignment, tell, notice or Notice()
        self._experiment = assignment.experiment
        # The task's cores, not the machine's.
        threads = self._placement.cores if self._experiment.input.threads == "auto" else self._experiment.input.threads
        self._reading = msgspec.structs.replace(self._experiment.input, threads=threads)
        self._dataset = Dataset.open(assignment.data)
        if self._dataset.hash != assignment.dataset_hash:
            raise InputError(f"dataset {assignment.data}: has changed since the sweep began; run the sweep again")
        self._timeline = timeline(self._experiment, self._dataset.split(self._experiment.data.train).count)
        self._place = devices.position(os.environ)
        self._run = RunDirectory((Store if self._place.chief else OnlookersStore)(assignment.run))
        self._strategy = devices.strategy(self._place)
        self._trainer = Trainer(
            self._experiment,
            data_input.image_shape(self._dataset, self._experiment.data),
            len(self._dataset.class_names),
            self._dataset.mean,
            self._dataset.std,
            self._strategy,
        )
        masks.check_densities(self._experiment.masks.densities, self._trainer.prunable)
        self._record = Record(self._run, self._trainer, self._timeline)
        self._software = ""  # what has changed since the dense run

    def train_dense(self) -> None:
        """The dense run with its states along the trellis, then the masks of its final weights."""
        dense = Member(DENSE, {})
        if self._record.resume(dense):
            self._software = self._software_since()
        else:
            self._run.write_provenance(self._trainer.provenance())
            dense.state = self._trainer.first_state(self._experiment.seed)
            self._keep_trellis_state(dense)
        self._check(dense)
        self._train([dense], self._experiment.seed, frozenset(self._timeline.trellis), self._keep_trellis_state)
        if dense.status == "training":
            kernels = {path: np.asarray(dense.state[path]) for path in self._trainer.kernels}
            for level, mask in enumerate(masks.global_magnitude_masks(kernels, self._experiment.masks.densities)):
                self._run.write_mask(level, mask)
            dense.status = "done"
        scores = self._record.scores(DENSE)
        self._run.write_dense_result(
            DenseResult(
                status=dense.status,
                note=self._note(dense),
                top1=scores.top1 if scores else None,
                top5=scores.top5 if scores else None,
                loss=scores.loss if scores else None,
                evaluated=self._evaluated(),
                steps=dense.step,
                seconds=round(dense.seconds, 3),
                parameters=self._trainer.parameters,
                prunable=self._trainer.prunable,
                executors=self._place.workers,
            )
        )

    def train_tickets(self) -> None:
        """A bundle of tickets of one seed, each from mask x trellis state or from where it was saved."""
        done = self._run.done()
        tickets = {ticket.name: ticket for ticket in self._assignment.tickets if ticket not in done}
        if not tickets:
            return
        self._software = self._software_since()
        shapes = self._trainer.kernel_shapes
        level_mask = lru_cache(maxsize=None)(lambda level: self._run.mask(level, shapes))
        seed = stream_seed(self._assignment.tickets[0].seed, self._experiment.seed)
        shuffled = lru_cache(maxsize=None)(lambda level: masks.shuffled(level_mask(level), seed, level))
        trellis_state = lru_cache(maxsize=None)(self._run.trellis_state)
        members = []
        for name, ticket in tickets.items():
            shuffle = ticket.control == "shuffle"
            mask = shuffled(ticket.level) if shuffle else level_mask(ticket.level)
            member = Member(name, {}, first_step(ticket, self._experiment), mask)
            if not self._record.resume(member):
                member.state = self._start(ticket, mask, trellis_state)
            self._check(member)
            members.append(member)

        def finish(member: Member) -> None:
            if member.step == self._timeline.total:
                self._finish(member, tickets[member.name])

        self._train(members, seed, frozenset(), finish)
        for member in members:
            if member.status == "training":  # it was saved at its last step, and then interrupted
                self._finish(member, tickets[member.name])
            elif member.status in ("diverged", "failed"):
                self._write_result(member, tickets[member.name])

    def part(self) -> None:
        """Waits until the chief has written the results: then all workers end as one."""
        if self._place.workers > 1:
            devices.agree(self._strategy, 0)

    def _software_since(self) -> str:
        """What has changed since the dense run; InputError where the model has."""
        recorded = self._run.provenance()
        if recorded is None:  # of a run directory that is older than the record
            return ""
        changed = provenance.changes(recorded, self._trainer.provenance(), self._experiment.model.name)
        if changed:
            print(f"warning: {changed}", file=sys.stderr, flush=True)
        return changed

    def _note(self, member: Member) -> str:
        return "; ".join(filter(None, [member.reason, self._software]))

    def _start(
        self, ticket: Ticket, mask: masks.Mask, trellis_state: Callable[[int], Checkpoint]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """A ticket's first state: weights and slots are mask x trellis state, or mask x new weights for `reinit`."""
        if ticket.control == "reinit":
            seed = stream_seed(ticket.seed, self._experiment.seed)
            state = self._trainer.first_state(derived_seed("reinit", seed, ticket.level))
        else:
            state = dict(trellis_state(ticket.step).variables)
            self._trainer.check(state, *self._run.trellis_file(ticket.step))
            if self._experiment.tickets.optimizer_state == "fresh":
                state |= self._trainer.fresh_optimizer()
        for kernel, kept in mask.items():
            for path in (kernel, *self._trainer.slots(kernel)):
                state[path] = state[path] * kept
        return state

    def _train(
        self, members: list[Member], seed: int, stops: frozenset[int], at_stop: Callable[[Member], None]
    ) -> None:
        source = data_input.TrainingInput(
            self._dataset,
            self._experiment.data,
            seed,
            self._reading,
            worker=self._place.worker,
            workers=self._place.workers,
        )
        telemetry, rows = Telemetry(os.environ.get("CUDA_VISIBLE_DEVICES")), self._run.telemetry(members[0].name)
        saved_at = [member.step for member in members]
        if self._place.workers > 1:
            stand = zlib.crc32(repr([(member.name, member.step) for member in members]).encode())
            if not devices.agree(self._strategy, stand % 2**20):  # its square is summed
                raise RuntimeError("the workers do not start from the same states; the run directory has just changed")
        # A gang stops when any of its executors fails.
        failures = self._experiment.gang.mean_time_between_failures / self._placement.tasks
        saving = Saving(self._experiment.gang.checkpoint, failures)

        def reached(member: Member) -> None:
            if member.name == DENSE:  # of several workers all look here, at the same state
                self._check(member)
            if member.status != "training":
                return
            if member.step in self._timeline.evaluations:
                self._evaluate(member)
            at_stop(member)

        def save() -> None:
            for member in members:
                if member.status != "training":
                    continue
                fault = self._fault(member)
                if fault is None:
                    # It may have outlived its task, and another process have done its work since.
                    if not self._run.has_result(member.name):
                        self._record.save(member)
                elif self._place.workers == 1:  # else it has to be ended by all, when all look
                    member.status, member.reason = fault
            steps = [member.step for member in members]
            if steps != saved_at:  # where nothing is new it is no sign of progress
                saved_at[:] = steps
                self._tell(Saved())

        def progressed(images: int) -> None:
            if self._place.chief and saving.due():
                saving.save(save)
                rows.append(telemetry.row())
                self._run.write_telemetry(members[0].name, rows)
            done = sum(member.status != "training" for member in members)
            self._tell(Progress(images, done))
            self._notice.check()

        stops |= self._timeline.evaluations
        try:
            for member in members:
                if member.loss_steps and member.step in stops:  # it had to leave before it was evaluated
                    self._trainer.load(member.state, member.mask)
                    reached(member)
            training_loop.train(
                self._trainer,
                members,
                source,
                self._timeline,
                self._experiment.training.learning_rate,
                stops,
                reached,
                progressed,
                telemetry,
            )
        except (Leaving, tf.errors.OpError):  # the latter if another worker is lost: what was trained before is good
            if self._place.chief:
                save()
            raise
        except StorageError:  # the dataset's, perhaps; or the run directory's, which may fail again
            if self._place.chief:
                with contextlib.suppress(StorageError):
                    save()
            raise
        telemetry.close()
        self._run.write_telemetry(members[0].name, [*rows, telemetry.row()])

    def _evaluate(self, member: Member) -> None:
        config = self._experiment
        place = self._place
        batches = data_input.evaluation_batches(
            self._dataset, config.data, self._reading, worker=place.worker, workers=place.workers
        )
        scores = self._trainer.evaluate(self._telling(itertools.islice(batches, config.training.evaluate_batches)))
        self._record.evaluated(member, scores)

    def _telling(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; a long evaluation is progress, and must not be taken for a hang, nor outlast a notice."""
        for batch in batches:
            self._tell(Progress(0))
            self._notice.check()
            yield batch

    def _evaluated(self) -> int:
        count = self._dataset.split(self._experiment.data.evaluate).count
        batches = self._experiment.training.evaluate_batches
        return count if batches is None else min(count, batches * self._experiment.data.batch)

    def _keep_trellis_state(self, member: Member) -> None:
        if member.step in self._timeline.trellis:
            self._run.write_trellis_state(checkpoint(member))
        if member.step == self._timeline.total:
            self._record.save(member)

    def _finish(self, member: Member, ticket: Ticket) -> None:
        self._check(member)
        if member.status == "training":
            self._record.save(member)
            assert member.mask is not None
            member.status, member.reason = "done", integrity.remark(member.mask, member.state)
        self._write_result(member, ticket)

    def _check(self, member: Member) -> None:
        """Ends the member where its state is not finite, or not that of its mask and density."""
        fault = self._fault(member)
        if fault is not None:
            member.status, member.reason = fault

    def _fault(self, member: Member) -> tuple[Status, str] | None:
        """What is wrong with a training's state, as the status that it ends with and the reason."""
        endless = integrity.not_finite(member.state, self._trainer.weights)
        if endless:
            return "diverged", f"{endless} is not finite at step {member.step}"
        ticket = from_name(member.name)
        if ticket is None or member.mask is None:
            return None
        slots = {kernel: self._trainer.slots(kernel) for kernel in self._trainer.kernels}
        fault = integrity.fault(member.mask, member.state, slots, self._experiment.masks.densities[ticket.level])
        return ("failed", f"{fault} at step {member.step}") if fault else None

    def _write_result(self, member: Member, ticket: Ticket) -> None:
        assert member.mask is not None
        scores = self._record.scores(member.name) if member.status == "done" else None
        self._run.write_result(
            ticket_result(
                ticket,
                self._experiment,
                self._timeline,
                member.mask,
                status=member.status,
                note=self._note(member),
                executor=self._placement.executor,
                task=self._placement.task,
                top1=scores.top1 if scores else None,
                top5=scores.top5 if scores else None,
                loss=scores.loss if scores else None,
                steps=member.step - first_step(ticket, self._experiment),
                seconds=member.seconds,
            )
        )


def _teller(notice: Notice) -> Tell:
    """Writes events to standard output. If nobody reads them any more, that counts as notice."""

    def tell(event: Event) -> None:
        try:
            sys.stdout.write(encode_event(event).decode())
            sys.stdout.flush()
        except BrokenPipeError:  # the supervisor is gone; SIGTERM follows, or came just now
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - the old one would fail again at the end
            notice.give()

    return tell


def main() -> int:
    """Does what the instructions on standard input say."""
    instructions = decode_instructions(sys.stdin.buffer.readline())
    notice = Notice()
    tell = _teller(notice)
    try:
        return _work(instructions, tell, notice)
    except tf.errors.ResourceExhaustedError as error:
        tell(Failed(Failure(Kind.OUT_OF_MEMORY, _allocation(str(error)))))
        raise
    except Exception as error:
        tell(Failed(failure_of(error)))
        raise


def _work(instructions: Instructions, tell: Tell, notice: Notice) -> int:
    assignment, placement = instructions.assignment, instructions.placement
    devices.configure(placement.cores, assignment.experiment.training.deterministic)
    devices.check_gpus(len(placement.gpus) if assignment.experiment.gang.check_gpus else 0)
    worker = Worker(instructions, tell, notice)
    notice.heed()
    try:
        if assignment.tickets:
            worker.train_tickets()
        else:
            worker.train_dense()
        worker.part()
    except Leaving:
        return EXIT_NOTICE
    return 0


def _allocation(message: str) -> str:
    """What could not be allocated, of the many lines that TensorFlow says."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "OOM when" in line), lines[0])


if __name__ == "__main__":
    try:
        run_or_explain(main)
    except tf.errors.ResourceExhaustedError as error:
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(EXIT_OUT_OF_MEMORY)
    except SystemExit as ended:
        # All there is to keep is in the store. TensorFlow's own way out takes another 2 s.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))
    except BaseException as error:  # TensorFlow's way out would wait for other workers
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)
