"""Killed anywhere and resumed, a bundle ends in the bytes of one that never was."""

from __future__ import annotations

import itertools
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

from lottery.protocol import Progress, Saved
from lottery.run import checkpoint
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.tickets.tickets import Ticket
from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested
from preprocessing.common.storage import open_store
from preprocessing.common.stores import local_files
from tests.lottery.worker_runs import Killed, files

# What a training's future depends on besides weights and momentum: statistics, noise, and how they are spread.
ON_DEVICE = "data.augment=device", "data.flip=true", "data.crop_scale=[0.3, 1.0]", "data.colour=0.2"
KINDS = {
    "plain": ((), 1),
    "dropout": (("model={name: tests.lottery.own_models:all_kinds_of_state}",), 1),
    "augmented on the device": (ON_DEVICE, 1),
    "augmented on two devices": (ON_DEVICE, 2),
    "dropout on two replicas": (("model={name: tests.lottery.own_models:all_kinds_of_state}",), 2),
}
FRESH = itertools.count()

# Each death is before the n-th report of progress, or in the middle of the n-th write.
deaths = draw.lists(draw.tuples(draw.sampled_from(["report", "write"]), draw.integers(0, 40)), min_size=1, max_size=3)


@contextmanager
def death(monkeypatch, kind, when):
    """`tell` for a worker; if the death is in a write, that write leaves its temporary file behind.

    After it nothing is written, by no thread.
    """
    reports, writes, dead = itertools.count(), itertools.count(), []

    def die():
        dead.append(True)
        raise Killed

    def tell(event):
        if kind == "report" and next(reports) == when:
            die()

    rename = local_files.rename

    def renamed(temporary, name):
        if dead or (kind == "write" and next(writes) == when):
            Path(temporary).write_bytes(Path(temporary).read_bytes()[:-7])
            die()
        rename(temporary, name)

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "rename", renamed)
        patch.setattr(local_files, "discard", lambda name: None)
        yield tell


@pytest.fixture
def often_saved(monkeypatch):
    """A checkpoint after every run, and runs of at most four steps."""
    from lottery.input.training_batches import TrainingInput

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    monkeypatch.setattr("lottery.worker.checkpoint_timer.scheduling.checkpoint_interval", lambda cost, failures: 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_five_killed_at_any_moment(kind, after_dense, worker, often_saved, monkeypatch):
    overrides, devices = KINDS[kind]
    whole = after_dense("whole", *overrides, devices=devices)
    tickets = [ticket for ticket in whole.tickets if ticket.level == 1][:5]
    assert len({ticket.step for ticket in tickets}) == 3
    worker(whole, *tickets, devices=devices).train_tickets()
    expected = {ticket: files(whole, ticket) for ticket in tickets}
    died = []

    @settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(deaths)
    def killed(times):
        torn = after_dense(f"torn{next(FRESH)}", *overrides, devices=devices)
        for how, when in times:
            with death(monkeypatch, how, when) as tell:
                try:
                    worker(torn, *tickets, tell=tell, devices=devices).train_tickets()
                except Killed:
                    died.append(how)
        worker(torn, *tickets, devices=devices).train_tickets()
        assert {ticket: files(torn, ticket) for ticket in tickets} == expected

    killed()
    assert died


@pytest.mark.parametrize("write", range(0, 12, 3))
def test_the_dense_run_killed_in_the_middle_of_a_write(write, after_dense, small, worker, often_saved, monkeypatch):
    whole, torn = after_dense("whole"), small(runs="torn")
    with death(monkeypatch, "write", write) as tell, pytest.raises(Killed):
        worker(torn, tell=tell).train_dense()
    assert list(Path(torn.run.uri).rglob("*.tmp"))
    worker(torn).train_dense()
    same_dense_run(whole, torn)


@pytest.mark.parametrize("when", [0, 2, 7, 14, 26, 35, 39])
def test_the_dense_run_told_to_leave_at_any_moment(when, after_dense, small, worker, often_saved):
    whole, torn = after_dense("whole"), small("gang.checkpoint=1e6", runs="torn")
    shutdown, reports = ShutdownRequest(), itertools.count()

    def tell(event):
        if next(reports) == when:  # also in the middle of an evaluation
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    shutdown.install()
    try:
        with pytest.raises(ShutdownRequested):
            worker(torn, tell=tell, shutdown=shutdown).train_dense()
    finally:
        signal.signal(signal.SIGTERM, before)
    left_at = torn.run.checkpoint(DENSE).step
    assert left_at > 0
    steps = []
    worker(
        torn, tell=lambda event: steps.append(event.images // 16 if isinstance(event, Progress) else 0)
    ).train_dense()
    assert sum(steps) == 30 - left_at  # no step twice
    same_dense_run(whole, torn)


def test_an_evaluation_begun_twice_is_in_the_metrics_once(after_dense, small, worker, often_saved, monkeypatch):
    """It leaves in the middle of one; the next process evaluates, and dies between writing metrics and state."""
    whole, torn = after_dense("whole"), small(runs="torn")
    shutdown = ShutdownRequest()

    def tell(event):
        if event == Progress(0):  # of an evaluation
            shutdown.request()

    with pytest.raises(ShutdownRequested):
        worker(torn, tell=tell, shutdown=shutdown).train_dense()
    saved = torn.run.checkpoint(DENSE)
    assert (saved.step, saved.loss_steps) == (10, 10)

    def die(self, training, state):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_checkpoint", die)
        with pytest.raises(Killed):
            worker(torn).train_dense()
    assert [row["step"] for row in torn.run.metrics(DENSE)] == [10]
    worker(torn).train_dense()
    same_dense_run(whole, torn)


def test_what_another_process_has_finished_is_not_touched(after_dense, small, worker, often_saved):
    """A process that outlives its task has to save within its notice; the next one may have been quicker."""
    torn = after_dense("torn", "gang.checkpoint=1e6")
    shutdown = ShutdownRequest()

    def tell(event):
        if not torn.run.has_result("00-000005-s0"):
            open_store(torn.run.uri).write("tickets/00-000005-s0/result.json", b"{}")
            shutdown.request()

    with pytest.raises(ShutdownRequested):
        worker(torn, Ticket(0, 5), Ticket(0, 10), tell=tell, shutdown=shutdown).train_tickets()
    assert torn.run.checkpoint("00-000005-s0") is None
    assert torn.run.checkpoint("00-000010-s0") is not None


def same_dense_run(whole, torn):
    for name in ("dense/state.safetensors", *(f"trellis/{step:06d}.safetensors" for step in (0, 5, 10))):
        one, other = (checkpoint.unpack(open_store(sweep.run.uri).read(name)) for sweep in (whole, torn))
        assert {path: value.tobytes() for path, value in one.variables.items()} == {
            path: value.tobytes() for path, value in other.variables.items()
        }
    for name in ("masks/00.safetensors", "masks/01.safetensors", "dense/metrics.jsonl"):
        assert open_store(whole.run.uri).read(name) == open_store(torn.run.uri).read(name)


@pytest.mark.parametrize("runs", [0, 2])
def test_progress_before_a_tensorflow_error_counts_and_the_error_does_not(
    runs, small, worker, often_saved, monkeypatch, tensorflow
):
    """Else a network that does not fit into memory would be tried for ever."""
    from lottery.training.trainer import Trainer

    sweep, told = small("gang.checkpoint=1e6"), []
    run, done = Trainer.run, itertools.count()

    def fails(self, images, labels, rates):
        if next(done) == runs:
            raise tensorflow.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return run(self, images, labels, rates)

    monkeypatch.setattr(Trainer, "run", fails)
    with pytest.raises(tensorflow.errors.ResourceExhaustedError):
        worker(sweep, tell=told.append).train_dense()
    assert told.count(Saved()) == (1 if runs else 0)
    assert (sweep.run.checkpoint(DENSE).step > 0) == (runs > 0)
