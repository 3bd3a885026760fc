"""The run directory: where an experiment's state lives, and what of it is done."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lottery import blobs, checkpoint, experiment, masks
from lottery.checkpoint import Checkpoint
from lottery.experiment import Experiment
from lottery.provenance import Provenance
from lottery.steps import Timeline, timeline
from lottery.tickets import Ticket, from_name
from preprocessing.errors import InputError
from preprocessing.retries import PATIENT_PAUSES, retrying
from preprocessing.storage import Store

DENSE = "dense"

T = TypeVar("T")


class DenseResult(msgspec.Struct, frozen=True):
    """How the dense run ended, and what its model has."""

    status: str  # done or diverged
    note: str  # why it diverged or failed, or what else to know
    top1: float | None
    top5: float | None
    loss: float | None
    evaluated: int  # images of the evaluation split
    steps: int
    seconds: float
    parameters: int
    prunable: int
    executors: int = 1  # that trained it together


class TicketResult(msgspec.Struct, frozen=True):
    """How one ticket or control ended: a row of results.parquet."""

    level: int
    density: float
    kept: int  # weights that the mask keeps
    prunable: int  # of how many
    step: int  # reset step
    epoch: float  # the same in epochs
    control: str
    seed: int
    status: str  # done, diverged or failed
    note: str  # why it diverged or failed, or what else to know
    top1: float | None
    top5: float | None
    loss: float | None
    steps: int  # trained
    seconds: float
    executor: str
    task: int

    @property
    def ticket(self) -> Ticket:
        """Whose result it is."""
        return Ticket(self.level, self.step, self.control, self.seed)


class _Record(msgspec.Struct, frozen=True):
    """experiment.yaml of a run directory."""

    identity: str
    dataset_hash: str
    train_images: int
    experiment: dict[str, Any]


def ticket_result(
    ticket: Ticket,
    config: Experiment,
    line: Timeline,
    mask: masks.Mask,
    *,
    status: str,
    note: str,
    executor: str,
    task: int,
    top1: float | None = None,
    top5: float | None = None,
    loss: float | None = None,
    steps: int = 0,
    seconds: float = 0.0,
) -> TicketResult:
    """The result of a ticket: what was measured, and what follows from the ticket and its mask."""
    empty = masks.empty_kernels(mask)
    return TicketResult(
        level=ticket.level,
        density=config.masks.densities[ticket.level],
        kept=masks.kept(mask),
        prunable=sum(kernel.size for kernel in mask.values()),
        step=ticket.step,
        epoch=line.epoch(ticket.step),
        control=ticket.control,
        seed=ticket.seed,
        status=status,
        note="; ".join(filter(None, [note, f"no weights left in {', '.join(empty)}" if empty else ""])),
        top1=top1,
        top5=top5,
        loss=loss,
        steps=steps,
        seconds=round(seconds, 3),
        executor=executor,
        task=task,
    )


class RunDirectory:
    """`<runs>/<name>-<identity>/` on any filesystem. A training is done exactly when its result.json exists.

    Where it is far away, what fails is tried again for a minute or so; to leave a sign of life is not worth it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.store.uri

    def claim_identity(self, config: Experiment, dataset_hash: str, train_images: int) -> None:
        """Writes experiment.yaml, or checks that the one there is of the same experiment and dataset.

        Raises InputError where it is of another, so that results never mix.
        """
        wanted = experiment.identity(config, dataset_hash)
        record = _Record(wanted, dataset_hash, train_images, experiment.to_tree(config))
        try:
            found = self.identity()
        except FileNotFoundError:
            self._write("experiment.yaml", _yaml(msgspec.to_builtins(record)))
            return
        if found != wanted:
            raise InputError(
                f"run directory {self.uri} is of another experiment ({found}, not {wanted}); "
                "choose another --runs, or move the directory away"
            )

    def identity(self) -> str:
        """The identity of the experiment whose results lie here, from what experiment.yaml says of it.

        Raises FileNotFoundError where there is no experiment.yaml, InputError where it does not fit together.
        """
        config, record = self._record()
        if experiment.identity(config, record.dataset_hash) != record.identity:
            raise InputError(
                f"{self.uri}/experiment.yaml was changed by hand: its experiment is not the {record.identity} that it "
                "names; restore the file, or move the directory away"
            )
        return record.identity

    def experiment(self) -> Experiment:
        """The experiment whose results lie here. Raises as `identity` does."""
        return self._record()[0]

    def timeline(self) -> Timeline:
        """The steps of the experiment whose results lie here. Raises as `identity` does."""
        config, record = self._record()
        return timeline(config, record.train_images)

    def trellis_state(self, step: int) -> Checkpoint:
        """The dense run's state after `step` steps."""
        return checkpoint.unpack(self._read(_trellis(step)))

    def write_trellis_state(self, state: Checkpoint) -> None:
        """Keeps the dense run's state at a point of the trellis."""
        self._write(_trellis(state.step), checkpoint.pack(state))

    def mask(self, level: int) -> masks.Mask:
        """The mask of a level."""
        return blobs.unpack_mask(self._read(_mask(level)))

    def write_mask(self, level: int, mask: masks.Mask) -> None:
        """Keeps the mask of a level."""
        self._write(_mask(level), blobs.pack_mask(mask))

    def missing_masks(self, levels: int) -> list[int]:
        """The levels of which there is no mask yet."""
        present = set(self._list("masks"))
        return [level for level in range(levels) if _mask(level) not in present]

    def checkpoint(self, training: str) -> Checkpoint | None:
        """Where a training (a ticket's name, or DENSE) stands, or None where it has not saved anything."""
        try:
            return checkpoint.unpack(self._read(f"{_folder(training)}/state.safetensors"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(f"{self.uri}/{_folder(training)}/state.safetensors: {error}; delete the file") from None

    def write_checkpoint(self, training: str, state: Checkpoint) -> None:
        """Keeps where a training stands; the last one is its final state."""
        self._write(f"{_folder(training)}/state.safetensors", checkpoint.pack(state))

    def metrics(self, training: str) -> list[dict[str, Any]]:
        """A training's rows of metrics.jsonl, one an evaluation."""
        return self._rows(f"{_folder(training)}/metrics.jsonl")

    def write_metrics(self, training: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces a training's metrics.jsonl: object stores have no appending."""
        self._write_rows(f"{_folder(training)}/metrics.jsonl", rows)

    def telemetry(self, training: str) -> list[dict[str, Any]]:
        """Rows on how well the process of the bundle that this training leads used its machine, one a checkpoint."""
        return self._rows(f"telemetry/{training}.jsonl")

    def write_telemetry(self, training: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces the rows of the bundle that this training leads."""
        self._write_rows(f"telemetry/{training}.jsonl", rows)

    def dense_result(self) -> DenseResult | None:
        """How the dense run ended, or None where it has not."""
        try:
            return msgspec.json.decode(self._read("dense/result.json"), type=DenseResult)
        except FileNotFoundError:
            return None

    def write_dense_result(self, result: DenseResult) -> None:
        """Ends the dense run. Written last, after masks and state."""
        self._write("dense/result.json", _json(result))

    def done(self) -> set[Ticket]:
        """The tickets that have a result."""
        names = (name.split("/") for name in self._list("tickets"))
        return {ticket for parts in names if parts[2:] == ["result.json"] and (ticket := from_name(parts[1]))}

    def has_result(self, training: str) -> bool:
        """Whether a training (a ticket's name, or DENSE) has ended."""
        return self.store.exists(f"{_folder(training)}/result.json")

    def failed(self) -> list[Ticket]:
        """The tickets whose result is a failure: of a machine, say, so that another try may succeed."""
        return [result.ticket for result in self.results() if result.status == "failed"]

    def reopen(self, ticket: Ticket) -> None:
        """Takes a ticket's result back; its checkpoint stays."""
        self._delete(f"tickets/{ticket.name}/result.json")

    def provenance(self) -> Provenance | None:
        """What trained the dense run; None where nothing has, or something that left no record."""
        try:
            return msgspec.json.decode(self._read("dense/provenance.json"), type=Provenance)
        except FileNotFoundError:
            return None

    def write_provenance(self, provenance: Provenance) -> None:
        """Records what trains the dense run, before its first checkpoint."""
        self._write("dense/provenance.json", _json(provenance))

    def results(self) -> list[TicketResult]:
        """All results there are, by ticket."""
        blobs = (self._read(f"tickets/{ticket.name}/result.json") for ticket in sorted(self.done()))
        return [msgspec.json.decode(blob, type=TicketResult) for blob in blobs]

    def write_result(self, result: TicketResult) -> None:
        """Ends a ticket. Written last, after its state and metrics."""
        self._write(f"tickets/{result.ticket.name}/result.json", _json(result))

    def write_report(self, name: str, blob: bytes) -> None:
        """Writes a part of the report, such as results.parquet, in the place of an earlier one."""
        self._write(name, blob)

    def beats(self) -> list[dict[str, Any]]:
        """The last sign of life of each task that is at work."""
        found = []
        for name in self._list("heartbeats"):
            try:
                found.append(json.loads(self._read(name)))
            except FileNotFoundError:
                continue  # replaced or cleared between the listing and the reading
        return found

    def write_beat(self, task: int, beat: dict[str, Any]) -> None:
        """Leaves a task's sign of life."""
        self.store.write(f"heartbeats/{task:03d}.json", json.dumps(beat).encode())

    def clear_beats(self) -> None:
        """Forgets the signs of life of an earlier gang."""
        self._patiently(lambda: self.store.delete_tree("heartbeats"))

    def write_word(self, group: str, number: int, worker: int, word: bytes) -> None:
        """Leaves what a task has to tell the others of its group, as its word `number`."""
        self._write(f"groups/{group}/{number:06d}-{worker:03d}.json", word)

    def words(self, group: str, number: int) -> list[bytes]:
        """What a group's tasks have told as their word `number`, by worker, as far as they have."""
        prefix = f"groups/{group}/{number:06d}-"
        return [self._read(name) for name in self._list(f"groups/{group}") if name.startswith(prefix)]

    def tidy(self) -> None:
        """Removes the run directory where there is nothing in it but empty folders."""
        if not self._list(""):
            self._patiently(self.store.delete_tree)

    def clear_words(self) -> None:
        """Forgets what earlier groups told each other."""
        self._patiently(lambda: self.store.delete_tree("groups"))

    def _read(self, path: str) -> bytes:
        return self._patiently(lambda: self.store.read(path))

    def _write(self, path: str, blob: bytes) -> None:
        self._patiently(lambda: self.store.write(path, blob))

    def _delete(self, path: str) -> None:
        self._patiently(lambda: self.store.delete(path))

    def _list(self, prefix: str) -> list[str]:
        return self._patiently(lambda: self.store.list(prefix))

    def _patiently(self, action: Callable[[], T]) -> T:
        if self.store.local_path is not None:  # a local disk that fails does not come back by itself
            return action()
        return retrying(action, PATIENT_PAUSES, _say_again)

    def _rows(self, path: str) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in self._read(path).decode().splitlines()]
        except FileNotFoundError:
            return []

    def _write_rows(self, path: str, rows: Iterable[dict[str, Any]]) -> None:
        self._write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def _record(self) -> tuple[Experiment, _Record]:
        origin = f"{self.uri}/experiment.yaml"
        try:
            tree = YAML(typ="safe", pure=True).load(self._read("experiment.yaml").decode())
            record = msgspec.convert(tree, _Record)
        except (msgspec.ValidationError, YAMLError, UnicodeDecodeError):
            raise InputError(f"{origin} is not of this suite; choose another --runs, or move it away") from None
        return experiment.from_tree(record.experiment, origin), record


def run_directory(runs: str, config: Experiment, dataset_hash: str) -> RunDirectory:
    """The run directory of an experiment on a dataset, below `runs`; nothing is read or made yet."""
    return RunDirectory(Store(runs).child(f"{config.name}-{experiment.identity(config, dataset_hash)}"))


def _say_again(error: Exception) -> None:
    print(f"{error}; trying again", file=sys.stderr, flush=True)


def _folder(training: str) -> str:
    return DENSE if training == DENSE else f"tickets/{training}"


def _trellis(step: int) -> str:
    return f"trellis/{step:06d}.safetensors"


def _mask(level: int) -> str:
    return f"masks/{level:02d}.safetensors"


def _json(result: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(result), indent=2)


def _yaml(record: dict[str, Any]) -> bytes:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(record, stream)
    return stream.getvalue().encode()
