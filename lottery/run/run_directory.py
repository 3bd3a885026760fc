"""The run directory: where an experiment's state lives, and what of it is done."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lottery.experiment import config as experiment
from lottery.experiment.config import Experiment
from lottery.experiment.steps import Timeline, timeline
from lottery.run import blobs, checkpoint, checksum
from lottery.run.checkpoint import Checkpoint
from lottery.run.provenance import Provenance
from lottery.run.results import DenseResult, TicketResult, ticket_result
from lottery.tickets import masks
from lottery.tickets.tickets import Ticket, from_name
from preprocessing.common.errors import InputError
from preprocessing.common.retries import PATIENT_PAUSES, retrying
from preprocessing.common.storage import Store

__all__ = ["DENSE", "DenseResult", "Heartbeat", "RunDirectory", "TicketResult", "run_directory", "ticket_result"]

DENSE = "dense"
_REWRITTEN = "restore it, or delete it, and the same command writes it again; or choose another --runs"
# What makes a damaged file again; each is tried by a test.
_AGAIN = "the same command"
_REMEDIES = {
    "result": f"delete it, and {_AGAIN} makes it again from the last state",
    "state": f"delete it, and {_AGAIN} begins this training anew",
    "metrics": f"delete it and state.safetensors beside it, and {_AGAIN} begins this training anew",
    "mask": f"delete dense/result.json, and {_AGAIN} makes the masks again",
    "trellis": (
        f"restore it, or delete the folder dense, and {_AGAIN} trains the dense run again, to the same bits where "
        "training.deterministic is true and as many executors train it"
    ),
    "provenance": "delete it; whether the model has changed since the dense run is then not looked at",
}

T = TypeVar("T")


class Heartbeat(msgspec.Struct, frozen=True):
    """A task's sign of life."""

    task: int
    executor: str
    trainings: int  # that the task has to do
    done: int
    images: int
    saved: int  # checkpoints
    time: float = 0.0  # seconds since 1970


class _Record(msgspec.Struct, frozen=True):
    """experiment.yaml of a run directory."""

    identity: str
    dataset_hash: str
    train_images: int
    experiment: dict[str, Any]


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

    def bind_experiment(self, config: Experiment, dataset_hash: str, train_images: int) -> None:
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
        if found == wanted and self._record()[1].train_images != train_images:
            raise self._damaged("experiment.yaml", "train_images is not the dataset's", _REWRITTEN)
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
                f"{self.uri}/experiment.yaml was changed by hand, or is damaged: its experiment is not the "
                f"{record.identity} that it names; {_REWRITTEN}"
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
        """The dense run's state after `step` steps. Raises InputError where it is damaged or gone."""
        state = self._needed(_trellis(step), checkpoint.unpack, "trellis")
        if state.step != step:
            raise self._damaged(_trellis(step), f"it is of step {state.step}", _REMEDIES["trellis"])
        return state

    def trellis_file(self, step: int) -> tuple[str, str]:
        """Where the state after `step` steps is kept, and what makes it again."""
        return f"{self.uri}/{_trellis(step)}", _REMEDIES["trellis"]

    def state_file(self, training: str) -> tuple[str, str]:
        """Where is kept how far a training is, and what makes it again."""
        return f"{self.uri}/{_folder(training)}/state.safetensors", _REMEDIES["state"]

    def write_trellis_state(self, state: Checkpoint) -> None:
        """Keeps the dense run's state at a point of the trellis."""
        self._write(_trellis(state.step), checkpoint.pack(state))

    def mask(self, level: int, kernels: Mapping[str, tuple[int, ...]] | None = None) -> masks.Mask:
        """The mask of a level.

        Raises InputError where it is damaged or gone, or not of kernels with these shapes by path.
        """
        mask = self._needed(_mask(level), blobs.unpack_mask, "mask")
        shapes = {path: kept.shape for path, kept in mask.items()}
        wanted = shapes if kernels is None else kernels
        for path in {**wanted, **shapes}:
            if shapes.get(path) != wanted.get(path):
                why = f"of {path} it has shape {shapes.get(path)}, the model {wanted.get(path)}"
                raise self._damaged(_mask(level), why, _REMEDIES["mask"])
        return mask

    def write_mask(self, level: int, mask: masks.Mask) -> None:
        """Keeps the mask of a level."""
        self._write(_mask(level), blobs.pack_mask(mask))

    def missing_masks(self, levels: int) -> list[int]:
        """The levels of which there is no mask yet."""
        present = set(self._list("masks"))
        return [level for level in range(levels) if _mask(level) not in present]

    def checkpoint(self, training: str) -> Checkpoint | None:
        """Where a training (a ticket's name, or DENSE) stands, or None where it has not saved anything.

        Raises InputError where that is damaged.
        """
        return self._found(f"{_folder(training)}/state.safetensors", checkpoint.unpack, "state")

    def write_checkpoint(self, training: str, state: Checkpoint) -> None:
        """Keeps where a training stands; the last one is its final state."""
        self._write(f"{_folder(training)}/state.safetensors", checkpoint.pack(state))

    def metrics(self, training: str) -> list[dict[str, Any]]:
        """A training's rows of metrics.jsonl, one an evaluation. Raises InputError where they are damaged."""
        return self._found(f"{_folder(training)}/metrics.jsonl", _rows, "metrics") or []

    def lacks_metrics(self, training: str, step: int) -> InputError:
        """The error to raise where metrics.jsonl lacks the evaluation at a step that the state has behind it."""
        path = f"{_folder(training)}/metrics.jsonl"
        return self._damaged(path, f"the evaluation at step {step} is not in it", _REMEDIES["metrics"])

    def write_metrics(self, training: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces a training's metrics.jsonl: object stores have no appending."""
        self._write_rows(f"{_folder(training)}/metrics.jsonl", rows)

    def telemetry(self, training: str) -> list[dict[str, Any]]:
        """Rows on how well the process of the bundle that this training leads used its machine, one a checkpoint.

        None where they are damaged: no result depends on them.
        """
        try:
            return _rows(self._read(f"telemetry/{training}.jsonl"))
        except (FileNotFoundError, ValueError):
            return []

    def write_telemetry(self, training: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces the rows of the bundle that this training leads."""
        self._write_rows(f"telemetry/{training}.jsonl", rows)

    def dense_result(self) -> DenseResult | None:
        """How the dense run ended, or None where it has not."""
        return self._found("dense/result.json", lambda blob: checksum.decode(blob, DenseResult), "result")

    def write_dense_result(self, result: DenseResult) -> None:
        """Ends the dense run. Written last, after masks and state."""
        self._write("dense/result.json", checksum.encode(result))

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
        return self._found("dense/provenance.json", lambda blob: checksum.decode(blob, Provenance), "provenance")

    def write_provenance(self, provenance: Provenance) -> None:
        """Records what trains the dense run, before its first checkpoint."""
        self._write("dense/provenance.json", checksum.encode(provenance))

    def results(self) -> list[TicketResult]:
        """All results there are, by ticket. Raises InputError where one is damaged."""
        return [self._result(ticket) for ticket in sorted(self.done())]

    def write_result(self, result: TicketResult) -> None:
        """Ends a ticket. Written last, after its state and metrics."""
        self._write(f"tickets/{result.ticket.name}/result.json", checksum.encode(result))

    def write_report(self, name: str, blob: bytes) -> None:
        """Writes a part of the report, such as results.parquet, in the place of an earlier one."""
        self._write(name, blob)

    def beats(self) -> list[Heartbeat]:
        """The last sign of life of each task that is at work."""
        found = []
        for name in self._list("heartbeats"):
            # It may be replaced or cleared between the listing and the reading. Where it is damaged the next will do.
            with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
                found.append(msgspec.json.decode(self._read(name), type=Heartbeat))
        return found

    def write_beat(self, beat: Heartbeat) -> None:
        """Leaves a task's sign of life."""
        self.store.write(f"heartbeats/{beat.task:03d}.json", msgspec.json.encode(beat))

    def clear_beats(self) -> None:
        """Forgets the signs of life of an earlier gang."""
        self._patiently(lambda: self.store.delete_tree("heartbeats"))

    def write_message(self, group: str, number: int, worker: int, message: bytes) -> None:
        """Leaves a task's message `number` to the others of its group."""
        self._write(f"groups/{group}/{number:06d}-{worker:03d}.json", message)

    def messages(self, group: str, number: int) -> list[bytes]:
        """The messages `number` of a group's tasks, by worker, as far as they have come."""
        prefix = f"groups/{group}/{number:06d}-"
        return [self._read(name) for name in self._list(f"groups/{group}") if name.startswith(prefix)]

    def tidy(self) -> None:
        """Removes the run directory where there is nothing in it but empty folders."""
        if not self._list(""):
            self._patiently(self.store.delete_tree)

    def clear_messages(self) -> None:
        """Deletes the messages of earlier groups."""
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

    def _result(self, ticket: Ticket) -> TicketResult:
        path = f"tickets/{ticket.name}/result.json"
        result = self._needed(path, lambda blob: checksum.decode(blob, TicketResult), "result")
        if result.ticket != ticket:
            raise self._damaged(path, f"it is of ticket {result.ticket.name}", _REMEDIES["result"])
        return result

    def _found(self, path: str, decode: Callable[[bytes], T], kind: str) -> T | None:
        """What is in a file, None where there is none; InputError where it is damaged."""
        try:
            return decode(self._read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self._damaged(path, str(error), _REMEDIES[kind]) from None

    def _needed(self, path: str, decode: Callable[[bytes], T], kind: str) -> T:
        """What is in a file; InputError where it is damaged, or gone."""
        found = self._found(path, decode, kind)
        if found is None:
            raise InputError(f"{self.uri}/{path} is missing; {_REMEDIES[kind]}")
        return found

    def _damaged(self, path: str, why: str, remedy: str) -> InputError:
        return InputError(f"{self.uri}/{path} is damaged ({' '.join(why.split())}); {remedy}")

    def _write_rows(self, path: str, rows: Iterable[dict[str, Any]]) -> None:
        self._write(path, "".join(json.dumps(checksum.seal(row)) + "\n" for row in rows).encode())

    def _record(self) -> tuple[Experiment, _Record]:
        origin = f"{self.uri}/experiment.yaml"
        try:
            tree = YAML(typ="safe", pure=True).load(self._read("experiment.yaml").decode())
            record = msgspec.convert(tree, _Record)
        except (msgspec.ValidationError, YAMLError, UnicodeDecodeError):
            raise InputError(f"{origin} is damaged, or not of this suite; {_REWRITTEN}") from None
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


def _rows(blob: bytes) -> list[dict[str, Any]]:
    return [checksum.unseal(line) for line in blob.decode().splitlines()]


def _yaml(record: dict[str, Any]) -> bytes:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(record, stream)
    return stream.getvalue().encode()
