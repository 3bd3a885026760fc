"""A child that fails keeps what it has trained, and says why it ends."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest

from lottery.input import assembler_processes, training_steps
from lottery.input.assembler_processes import AssemblerError
from lottery.protocol import Failed, Instructions, TaskPlacement, decode_event
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from tests.lottery.worker_runs import equal, final


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("cannot allocate 1 GiB"),
        StorageError("cannot read s3://b/data/train/part-00000.parquet: no connection"),
        InputError("/data/train/part-00000.parquet is damaged: it is missing; copy the file again"),
    ],
)
def test_a_dataset_that_is_away_or_changes_costs_no_step(after_dense, small, worker, monkeypatch, error):
    """What was trained is saved: the next try goes on from there."""
    from lottery.input.training_batches import TrainingInput

    whole, torn = after_dense("whole"), small("gang.checkpoint=1e6", runs="torn")
    stream = TrainingInput.stream

    def breaks(self, runs):
        for number, element in enumerate(stream(self, runs)):
            if number == 2:
                raise error
            yield element

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    monkeypatch.setattr(TrainingInput, "stream", breaks)
    with pytest.raises(type(error)) as caught:
        worker(torn).train_dense()
    monkeypatch.setattr(TrainingInput, "stream", stream)
    assert caught.value is error
    assert torn.run.checkpoint(DENSE).step > 0
    worker(torn).train_dense()
    ends = [sweep.run.checkpoint(DENSE).variables for sweep in (whole, torn)]
    assert ends[0].keys() == ends[1].keys()
    assert all(np.array_equal(value, ends[1][path]) for path, value in ends[0].items())


def test_a_child_that_saves_many_states_is_heard_after_each(after_dense, worker, monkeypatch):
    """A task whose partner's child has died does not wait long for a sign of progress."""
    from lottery.input.training_batches import TrainingInput

    sweep, heard = after_dense("runs", "gang.checkpoint=1e6"), []
    stream, write = TrainingInput.stream, RunDirectory.write_checkpoint

    def breaks(self, runs):
        for number, element in enumerate(stream(self, runs)):
            if number == 2:
                raise StorageError("cannot read x: no connection")
            yield element

    def noted(run, training, state):
        heard.append("written")
        write(run, training, state)

    monkeypatch.setattr(TrainingInput, "longest_run", 2)
    monkeypatch.setattr(TrainingInput, "stream", breaks)
    monkeypatch.setattr(RunDirectory, "write_checkpoint", noted)
    with pytest.raises(StorageError):
        worker(sweep, Ticket(0, 0), Ticket(1, 0), tell=lambda event: heard.append(type(event).__name__)).train_tickets()
    # The stream is read one run ahead: before these, the tickets go on with the runs that have been read.
    assert heard[heard.index("written") :] == ["written", "Progress", "written", "Progress", "Saved"]


@pytest.fixture
def processes(monkeypatch):
    """The processes that assemble batches, as they were started; every stream has some."""
    started, start = [], assembler_processes._start

    def noted(request):
        started.append(start(request))
        return started[-1]

    monkeypatch.setattr(assembler_processes, "_start", noted)
    monkeypatch.setattr("lottery.input.training_batches.LONG_BYTES", 1)
    return started


@pytest.fixture
def runs_of_one(monkeypatch):
    """More runs than are read ahead, so that what befalls the input befalls it in the middle of training."""
    monkeypatch.setattr(training_steps, "_RUN_STEPS", 1)


def trained_twice(sweep, worker, at_step, what):
    """Trains the dense run, has something happen at a step, and trains again; the first try's error."""
    from lottery.training.trainer import Trainer

    run, steps = Trainer.run, []

    def noted(self, images, labels, rates):
        steps.append(1)
        if len(steps) == at_step:
            what()
        return run(self, images, labels, rates)

    training = worker(sweep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", noted)
        with pytest.raises(AssemblerError) as caught:
            training.train_dense()
    assert at_step <= sweep.run.checkpoint(DENSE).step < 30
    worker(sweep).train_dense()
    return caught.value


def test_a_killed_assembler_process_costs_no_step(after_dense, small, worker, processes, runs_of_one):
    """It is one clear error; what was trained is saved, and the next try goes on from there."""
    whole, torn = after_dense("whole"), small("gang.checkpoint=1e6", "input.threads=2", runs="torn")
    error = trained_twice(torn, worker, 7, lambda: processes[1].kill())
    assert type(error) is AssemblerError
    assert str(error).startswith("a process that assembles batches has died (SIGKILL), as when memory runs out; give")
    assert len(processes) == 4
    assert all(process.poll() is not None for process in processes)
    assert equal(final(torn, DENSE), final(whole, DENSE))


def test_a_trellis_state_that_could_not_be_written_is_there_after_the_next_try(small, worker, monkeypatch):
    """The step is one of evaluation too, so that the saved state looks as if all of it had been dealt with."""
    sweep, write = small("gang.checkpoint=1e6"), RunDirectory.write_trellis_state

    def away(run, state):
        if state.step == 10:
            raise StorageError("cannot write x: no connection")
        write(run, state)

    monkeypatch.setattr(RunDirectory, "write_trellis_state", away)
    with pytest.raises(StorageError):
        worker(sweep).train_dense()
    monkeypatch.setattr(RunDirectory, "write_trellis_state", write)
    assert sweep.run.checkpoint(DENSE).step == 10
    worker(sweep).train_dense()
    assert [sweep.run.trellis_state(step).step for step in (0, 5, 10)] == [0, 5, 10]


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (lambda tf: InputError("data: gone"), Kind.BAD_INPUT, "data: gone"),
        (lambda tf: StorageError("cannot read x"), Kind.STORAGE, "cannot read x"),
        (lambda tf: ValueError("odd\nshape"), Kind.OTHER, r"ValueError: odd\nshape"),
        (
            lambda tf: tf.errors.ResourceExhaustedError(None, None, "Graph error:\n\nOOM when allocating 1 TB\n"),
            Kind.OUT_OF_MEMORY,
            "OOM when allocating 1 TB",
        ),
    ],
)
def test_a_childs_last_event_is_why_it_ends(tensorflow, raised, kind, message, small, monkeypatch, capsys):
    from lottery.worker import __main__ as module

    def fails(*_):
        raise raised(tensorflow)

    told = Instructions(small().assignment(()), TaskPlacement()).encode()
    monkeypatch.setattr(module.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(told)))
    monkeypatch.setattr(module.devices, "configure", fails)
    with pytest.raises(type(raised(tensorflow))):
        module.main()
    assert decode_event(capsys.readouterr().out.encode()) == Failed(Failure(kind, message))
