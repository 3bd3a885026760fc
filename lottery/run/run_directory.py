"""The run directory: an experiment's state, and which parts are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lottery.experiment import config as experiment
from lottery.experiment.config import Experiment
from lottery.run import answers, blobs, checkpoint, checksum, file_names, origin
from lottery.run.answers import Answers
from lottery.run.checkpoint import Checkpoint
from lottery.run.dataset_record import DatasetRecord
from lottery.run.file_names import DENSE
from lottery.run.heartbeats import Heartbeats
from lottery.run.history import History
from lottery.run.mailbox import Mailbox
from lottery.run.origin import Origin
from lottery.run.patient_store import PatientStore, ReadOnlyStore
from lottery.run.provenance import Provenance
from lottery.run.results import DenseResult, TicketResult, ticket_result, unstarted
from lottery.run.submission import Submission
from lottery.tickets import masks
from lottery.tickets.tickets import Ticket, from_name
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store

__all__ = ["DENSE", "DenseResult", "RunDirectory", "TicketResult", "run_directory", "ticket_result", "unstarted"]

T = TypeVar("T")


class RunDirectory:
    """`<runs>/<name>-<identity>/` in any store. A training is done exactly when its result.json exists.

    If the store is remote, each access is tried again for a minute or so before it raises StorageError.

    Args:
        read_only: ignores writes. In a group every worker has the same results, and only the chief saves them.
    """

    def __init__(self, store: Store, read_only: bool = False) -> None:
        self._files = ReadOnlyStore(store) if read_only else PatientStore(store)
        self.heartbeats = Heartbeats(self._files)
        self.history = History(self._files)
        self.mailbox = Mailbox(self._files)

    @property
    def uri(self) -> str:
        """A string from which `open_store` makes its store. For messages there is `describe`."""
        return self._files.uri

    def describe(self, path: str = "") -> str:
        """The run directory, or a file in it, for people."""
        return self._files.describe(path)

    def bind_experiment(self, config: Experiment, dataset_hash: str, train_images: int, replace: bool = True) -> None:
        """Writes experiment.yaml, or checks that the existing one belongs to the same experiment and dataset.

        With `replace`, settings that are not in the identity, such as the verdict's margin, replace those of the last
        run.

        Raises InputError if it belongs to another, so that results never mix.
        """
        wanted = Origin(config, dataset_hash, train_images)
        try:
            found = self.origin()
        except FileNotFoundError:
            self._files.write(file_names.EXPERIMENT, origin.encode(wanted))
            return
        if found.identity != wanted.identity:
            raise InputError(
                f"run directory {self.describe()} belongs to another experiment ({found.identity}, not "
                f"{wanted.identity}); choose another --runs, or move the directory away"
            )
        if found.train_images != train_images:
            raise self._damaged(file_names.EXPERIMENT, "train_images is not the dataset's", origin.REMEDY)
        if replace and found.experiment != config:
            self._files.write(file_names.EXPERIMENT, origin.encode(wanted))

    def origin(self) -> Origin:
        """Whose results lie here, as experiment.yaml has it.

        Raises FileNotFoundError if there is no experiment.yaml, InputError if it is damaged or contradicts itself.
        """
        return origin.decode(self._files.read(file_names.EXPERIMENT), self.describe(file_names.EXPERIMENT))

    def exists(self) -> bool:
        """Whether this is a run directory."""
        return self._files.exists(file_names.EXPERIMENT)

    def record_dataset(self, record: DatasetRecord) -> None:
        """Writes dataset.json unless it is there."""
        if not self._files.exists(file_names.DATASET):
            self._files.write(file_names.DATASET, checksum.encode(record))

    def dataset(self) -> DatasetRecord | None:
        """What was recorded of the dataset; None if nothing was, by an earlier version. InputError if damaged."""
        return self._found(file_names.DATASET, lambda blob: checksum.decode(blob, DatasetRecord), "dataset")

    def replicates(self) -> list[RunDirectory]:
        """The run directory of each of the experiment's seeds; only itself if there is one. Raises as `origin` does."""
        return [self.replicate(seed) for seed in self.origin().experiment.seeds] or [self]

    def replicate(self, seed: int) -> RunDirectory:
        """The run directory of one of several seeds. Nothing is read or made."""
        return RunDirectory(open_store(self.uri).child(f"seed-{seed}"))

    def kept_steps(self) -> frozenset[int]:
        """The points of the trellis whose states are here."""
        found = (file_names.TRELLIS_NAME.fullmatch(name) for name in self._files.list("trellis"))
        return frozenset(int(match[1]) for match in found if match)

    def trellis_state(self, step: int) -> Checkpoint:
        """The dense run's state after `step` steps. Raises InputError if it is damaged or missing."""
        state = self._needed(file_names.trellis(step), checkpoint.unpack, "trellis")
        if state.step != step:
            raise self._damaged(file_names.trellis(step), f"it is of step {state.step}", file_names.REMEDIES["trellis"])
        return state

    def trellis_file(self, step: int) -> tuple[str, str]:
        """For error messages: the file of the state after `step` steps, and how to recreate it."""
        return self.describe(file_names.trellis(step)), file_names.REMEDIES["trellis"]

    def transferred_state(self) -> Checkpoint:
        """What tickets start from if it comes from another run directory. InputError if it is damaged or missing."""
        return self._needed(file_names.TRANSFERRED, checkpoint.unpack, "transfer")

    def has_transferred(self) -> bool:
        """Whether the mask and first weights of another run directory's ticket are here."""
        return self._files.exists(file_names.TRANSFERRED) and self.has_mask(0)

    def write_transferred_state(self, state: Checkpoint) -> None:
        """Saves what tickets start from, before their mask."""
        self._files.write(file_names.TRANSFERRED, checkpoint.pack(state))

    def transferred_file(self) -> tuple[str, str]:
        """For error messages: the file of `transferred_state`, and how to recreate it."""
        return self.describe(file_names.TRANSFERRED), file_names.REMEDIES["transfer"]

    def state_file(self, training: str) -> tuple[str, str]:
        """For error messages: the file of a training's last checkpoint, and how to recreate it."""
        return self.describe(file_names.state(training)), file_names.REMEDIES["state"]

    def write_trellis_state(self, state: Checkpoint) -> None:
        """Saves the dense run's state at a point of the trellis."""
        self._files.write(file_names.trellis(state.step), checkpoint.pack(state))

    def mask(
        self, level: int, kernels: Mapping[str, tuple[int, ...]] | None = None, chain: tuple[int, ...] = ()
    ) -> masks.Mask:
        """The mask of a level, or with a chain (seed, step) that of this round of an iterative pruning.

        Raises InputError if it is damaged or missing, or not of kernels with these shapes by path.
        """
        path = file_names.mask(level, chain)
        mask = self._needed(path, blobs.unpack_mask, "mask")
        shapes = {path: kept.shape for path, kept in mask.items()}
        wanted = shapes if kernels is None else kernels
        for kernel in {**wanted, **shapes}:
            if shapes.get(kernel) != wanted.get(kernel):
                why = f"of {kernel} it has shape {shapes.get(kernel)}, the model {wanted.get(kernel)}"
                raise self._damaged(path, why, file_names.REMEDIES["mask"])
        return mask

    def write_mask(self, level: int, mask: masks.Mask, chain: tuple[int, ...] = ()) -> None:
        """Saves the mask of a level, or of a round."""
        self._files.write(file_names.mask(level, chain), blobs.pack_mask(mask))

    def has_mask(self, level: int, chain: tuple[int, ...] = ()) -> bool:
        """Whether the mask of a level, or of a round, is here."""
        return self._files.exists(file_names.mask(level, chain))

    def has_masks(self, levels: int) -> bool:
        """Whether the masks of all these levels are here."""
        names = set(self._files.list("masks"))
        return all(file_names.mask(level) in names for level in range(levels))

    def discard_masks(self) -> None:
        """Deletes all masks: those of another dense run must not be taken for this one's."""
        self._files.delete_tree("masks")

    def discard_dense(self) -> None:
        """Deletes the masks, and all of the dense run except for the trellis."""
        self.discard_masks()
        self._files.delete_tree(DENSE)

    def final_dense_state(self) -> Checkpoint:
        """The dense run's state after its last step. Raises InputError if it is damaged or missing."""
        return self._needed(file_names.state(DENSE), checkpoint.unpack, "trellis")

    def final_dense_file(self) -> tuple[str, str]:
        """For error messages: the file of `final_dense_state`, and how to recreate it."""
        return self.describe(file_names.state(DENSE)), file_names.REMEDIES["trellis"]

    def checkpoint(self, training: str) -> Checkpoint | None:
        """The last checkpoint of a training (a ticket's name, or DENSE); None if it has not saved one.

        Raises InputError if it is damaged.
        """
        return self._found(file_names.state(training), checkpoint.unpack, "state")

    def needed_checkpoint(self, training: str) -> Checkpoint:
        """As `checkpoint`, but raises InputError too if there is none."""
        return self._needed(file_names.state(training), checkpoint.unpack, "state")

    def write_checkpoint(self, training: str, state: Checkpoint) -> None:
        """Saves a training's checkpoint; the last one is its final state."""
        self._files.write(file_names.state(training), checkpoint.pack(state))

    def metrics(self, training: str) -> list[dict[str, Any]]:
        """A training's rows of metrics.jsonl, one an evaluation. Raises InputError if they are damaged."""
        return self._found(file_names.metrics(training), _rows, "metrics") or []

    def lacks_metrics(self, training: str, step: int) -> InputError:
        """The error to raise if metrics.jsonl lacks the evaluation at a step that the checkpoint is past."""
        why = f"the evaluation at step {step} is not in it"
        return self._damaged(file_names.metrics(training), why, file_names.REMEDIES["metrics"])

    def write_metrics(self, training: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces a training's metrics.jsonl: object stores cannot append."""
        self._write_rows(file_names.metrics(training), rows)

    def answers(self, training: str, top1: float | None, select_top1: float | None = None) -> Answers | None:
        """Which images a trained network (a ticket's name, or DENSE) got right; None if an earlier version trained it.

        Raises InputError if they are damaged, or not those behind these accuracies.
        """
        found = self._found(file_names.answers(training), answers.unpack, "answers")
        misfit = found.misfit(top1, select_top1) if found is not None else ""
        if misfit:
            raise self._damaged(file_names.answers(training), misfit, file_names.REMEDIES["answers"])
        return found

    def write_answers(self, training: str, found: Answers) -> None:
        """Saves which images a trained network gets right, before its final state and its result."""
        self._files.write(file_names.answers(training), answers.pack(found))

    def discard_answers(self, training: str) -> None:
        """Deletes the answers of a training (a ticket's name, or DENSE) if there are any."""
        self._files.delete(file_names.answers(training))

    def telemetry(self, training: str) -> list[dict[str, Any]]:
        """Rows on how well a bundle's process used its machine, one a minute. Named by the bundle's first training.

        Empty if they are missing or damaged: no result depends on them.
        """
        try:
            return _rows(self._files.read(file_names.telemetry(training)))
        except (FileNotFoundError, ValueError):
            return []

    def write_telemetry(self, training: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces the telemetry of the bundle whose first training this is."""
        self._write_rows(file_names.telemetry(training), rows)

    def dense_result(self) -> DenseResult | None:
        """How the dense run ended; None if it has not ended."""
        return self._found(file_names.result(DENSE), lambda blob: checksum.decode(blob, DenseResult), "result")

    def write_dense_result(self, result: DenseResult) -> None:
        """Ends the dense run. Written last, after the trellis and the final state."""
        self._files.write(file_names.result(DENSE), checksum.encode(result))

    def begun(self) -> list[str]:
        """The trainings (tickets' names, and DENSE) that have evaluations."""
        names = (name.split("/") for name in self._files.list("tickets"))
        tickets = [parts[1] for parts in names if parts[2:] == ["metrics.jsonl"] and from_name(parts[1])]
        return [DENSE, *tickets] if self._files.exists(file_names.metrics(DENSE)) else tickets

    def bundles(self) -> list[str]:
        """The names of the bundles that have telemetry."""
        files = self._files.list("telemetry")
        return [name.removeprefix("telemetry/").removesuffix(".jsonl") for name in files if name.endswith(".jsonl")]

    def done(self) -> set[Ticket]:
        """The tickets that have a result."""
        names = (name.split("/") for name in self._files.list("tickets"))
        return {ticket for parts in names if parts[2:] == ["result.json"] and (ticket := from_name(parts[1]))}

    def has_checkpoint(self, training: str) -> bool:
        """Whether a training (a ticket's name, or DENSE) has begun, and saved how far it is."""
        return self._files.exists(file_names.state(training))

    def has_result(self, training: str) -> bool:
        """Whether a training (a ticket's name, or DENSE) has ended."""
        return self._files.exists(file_names.result(training))

    def failed(self) -> list[Ticket]:
        """The tickets whose result is a failure, such as a machine's: another try may succeed."""
        return [result.ticket for result in self.results() if result.status == "failed"]

    def reopen(self, ticket: Ticket) -> None:
        """Deletes a ticket's result; its checkpoint stays."""
        self._files.delete(file_names.result(ticket.name))

    def provenance(self) -> Provenance | None:
        """What trained the dense run; None if nothing has, or a version of this suite that left no record."""
        return self._found(file_names.PROVENANCE, lambda blob: checksum.decode(blob, Provenance), "provenance")

    def write_provenance(self, provenance: Provenance) -> None:
        """Records what trains the dense run, before its first checkpoint."""
        self._files.write(file_names.PROVENANCE, checksum.encode(provenance))

    def submission(self) -> Submission | None:
        """How the sweep was started last; None if it cannot be told: nothing depends on it."""
        try:
            return checksum.decode(self._files.read(file_names.SUBMISSION), Submission)
        except (FileNotFoundError, ValueError):
            return None

    def write_submission(self, submission: Submission) -> None:
        """Records how the sweep is started, over an earlier record."""
        self._files.write(file_names.SUBMISSION, checksum.encode(submission))

    def results(self) -> list[TicketResult]:
        """All results there are, by ticket. Raises InputError if one is damaged."""
        return [self.result(ticket) for ticket in sorted(self.done())]

    def result(self, ticket: Ticket) -> TicketResult:
        """How a ticket ended. Raises InputError if its result is damaged or missing."""
        path = file_names.result(ticket.name)
        result = self._needed(path, lambda blob: checksum.decode(blob, TicketResult), "result")
        if result.ticket != ticket:
            raise self._damaged(path, f"it is of ticket {result.ticket.name}", file_names.REMEDIES["result"])
        return result

    def write_result(self, result: TicketResult) -> None:
        """Ends a ticket. Written last, after its state and metrics."""
        self._files.write(file_names.result(result.ticket.name), checksum.encode(result))

    def write_report(self, name: str, blob: bytes) -> None:
        """Writes a part of the report, such as results.parquet, over an earlier one."""
        self._files.write(name, blob)

    def tidy(self) -> None:
        """Removes the run directory if there is nothing in it but empty folders."""
        if not self._files.list():
            self._files.delete_tree()

    def _found(self, path: str, decode: Callable[[bytes], T], kind: str) -> T | None:
        """A file's decoded content; None if there is no such file, InputError if it is damaged."""
        try:
            return decode(self._files.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._damaged(path, str(error), file_names.REMEDIES[kind]) from None

    def _needed(self, path: str, decode: Callable[[bytes], T], kind: str) -> T:
        """A file's decoded content; InputError if it is damaged or missing."""
        found = self._found(path, decode, kind)
        if found is None:
            raise InputError(f"{self.describe(path)} is missing; {file_names.REMEDIES[kind]}")
        return found

    def _damaged(self, path: str, why: str, remedy: str) -> InputError:
        return InputError(f"{self.describe(path)} is damaged ({' '.join(why.split())}); {remedy}")

    def _write_rows(self, path: str, rows: Iterable[dict[str, Any]]) -> None:
        self._files.write(path, "".join(json.dumps(checksum.seal(row)) + "\n" for row in rows).encode())


def run_directory(runs: str, config: Experiment, dataset_hash: str) -> RunDirectory:
    """The run directory of an experiment on a dataset, below `runs`; nothing is read or made yet."""
    return RunDirectory(open_store(runs).child(f"{config.name}-{experiment.identity(config, dataset_hash)}"))


def _rows(blob: bytes) -> list[dict[str, Any]]:
    return [checksum.unseal(line) for line in blob.decode().splitlines()]
