"""A child that fails keeps what it has trained, and says why it ends."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest

from lottery.protocol import Failed, Instructions, TaskPlacement, decode_event
from lottery.run.run_directory import DENSE, RunDirectory
from preprocessing.common.errors import Failure, InputError, Kind, StorageError


def test_a_dataset_that_is_away_costs_no_step(after_dense, small, worker, monkeypatch):
    """What was trained is saved: the next stage goes on from there."""
    from lottery.input.training_batches import TrainingInput

    whole, torn = after_dense("whole"), small("gang.checkpoint=1e6", runs="torn")
    stream = TrainingInput.stream

    def breaks(self, runs):
        for number, element in enumerate(stream(self, runs)):
            if number == 2:
                raise StorageError("cannot read s3://b/data/train/part-00000.parquet: no connection")
            yield element

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    monkeypatch.setattr(TrainingInput, "stream", breaks)
    with pytest.raises(StorageError) as caught:
        worker(torn).train_dense()
    monkeypatch.setattr(TrainingInput, "stream", stream)
    assert type(caught.value) is StorageError
    assert torn.run.checkpoint(DENSE).step > 0
    worker(torn).train_dense()
    ends = [sweep.run.checkpoint(DENSE).variables for sweep in (whole, torn)]
    assert ends[0].keys() == ends[1].keys()
    assert all(np.array_equal(value, ends[1][path]) for path, value in ends[0].items())


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
