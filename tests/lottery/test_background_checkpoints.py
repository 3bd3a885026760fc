"""Checkpoints are written while training goes on: in order, each whole, and with errors that training gets."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lottery.protocol import Progress, Saved
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.tickets.tickets import Ticket
from lottery.worker.background import Background
from lottery.worker.checkpoint_timer import CheckpointTimer
from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested
from preprocessing.common.errors import StorageError
from preprocessing.common.stores import local_files
from tests.lottery.worker_runs import equal, files, final

PATIENCE = 60  # seconds


@pytest.fixture
def often_saved(monkeypatch):
    """A checkpoint after every run, and runs of at most four steps."""
    from lottery.input.training_batches import TrainingInput

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    monkeypatch.setattr("lottery.worker.checkpoint_timer.scheduling.checkpoint_interval", lambda cost, failures: 0.0)


@pytest.fixture
def stepped(monkeypatch):
    """The steps that have been trained, run by run."""
    from lottery.training.trainer import Trainer

    run, counted = Trainer.run, []

    def counts(self, images, labels, rates):
        losses = run(self, images, labels, rates)
        counted.append(len(rates))
        return losses

    monkeypatch.setattr(Trainer, "run", counts)
    return counted


def test_training_goes_on_while_a_checkpoint_is_written(after_dense, small, worker, often_saved, stepped, monkeypatch):
    """Here the first checkpoint is not written before the next run of batches is done."""
    whole, torn = after_dense("whole"), small(runs="torn")
    stepped.clear()
    write, waited = RunDirectory.write_checkpoint, []

    def slowly(run, training, state):
        until = time.monotonic() + PATIENCE
        while not waited and sum(stepped) <= state.step and time.monotonic() < until:
            time.sleep(0.001)
        waited.append((state.step, sum(stepped)))
        write(run, training, state)

    monkeypatch.setattr(RunDirectory, "write_checkpoint", slowly)
    worker(torn).train_dense()
    saved, trained = waited[0]
    assert saved < trained
    assert equal(final(whole, DENSE), final(torn, DENSE))


def test_one_checkpoint_is_written_at_a_time_and_the_newest_last(small, worker, often_saved, monkeypatch):
    sweep, write, writing, steps = small(), RunDirectory.write_checkpoint, [], []

    def slowly(run, training, state):
        writing.append(training)
        steps.append(state.step)
        assert writing == [training]
        time.sleep(0.05)
        write(run, training, state)
        writing.remove(training)

    monkeypatch.setattr(RunDirectory, "write_checkpoint", slowly)
    worker(sweep).train_dense()
    assert steps == sorted(steps)
    assert len(set(steps)) > 3
    assert sweep.run.checkpoint(DENSE).step == 30


def test_a_checkpoint_is_of_its_moment_however_late_it_is_written(after_dense, small, worker, monkeypatch):
    """State, sums and metrics of step 10; it is written after the evaluation at 20, and then the process dies."""
    whole, torn = after_dense("whole"), small("gang.checkpoint=1e6", runs="torn")
    made = worker(torn)
    log, saves, let = made.session.log, [], threading.Event()
    evaluate = made.session.evaluate

    def evaluated(members):
        evaluate(members)
        saves.extend(member.step for member in members)
        if saves == [10] and members:
            monkeypatch.setattr(RunDirectory, "write_metrics", waiting)
            log.begin_save(members)
        if saves == [10, 20]:
            let.set()
            log.settle()
            raise KeyboardInterrupt

    write = RunDirectory.write_metrics

    def waiting(run, training, rows):
        assert let.wait(PATIENCE)
        write(run, training, rows)

    monkeypatch.setattr(made.session, "evaluate", evaluated)
    with pytest.raises(KeyboardInterrupt):
        made.train_dense()
    saved = torn.run.checkpoint(DENSE)
    assert (saved.step, saved.loss_steps) == (10, 0)
    assert equal(saved.variables, whole.run.trellis_state(10).variables)
    assert [row["step"] for row in torn.run.metrics(DENSE)] == [10]
    monkeypatch.setattr(RunDirectory, "write_metrics", write)
    worker(torn).train_dense()
    assert equal(final(whole, DENSE), final(torn, DENSE))
    assert whole.run.metrics(DENSE) == torn.run.metrics(DENSE)


def test_a_store_that_fails_once_ends_the_child_with_its_kind_and_no_step_lost(
    small, worker, often_saved, stepped, monkeypatch
):
    sweep, write, failures, told = small(), RunDirectory.write_checkpoint, [], []

    def away(run, training, state):
        if state.step > 5 and not failures:
            failures.append(state.step)
            raise StorageError("cannot write x: no connection")
        write(run, training, state)

    monkeypatch.setattr(RunDirectory, "write_checkpoint", away)
    with pytest.raises(StorageError, match="^cannot write x: no connection$") as caught:
        worker(sweep, tell=told.append).train_dense()
    assert type(caught.value) is StorageError
    assert failures
    assert sweep.run.checkpoint(DENSE).step == sum(stepped) > failures[0]
    assert told.count(Saved()) >= 2  # before it, and at the last


def test_a_store_that_stays_away_ends_the_child_with_its_kind(small, worker, often_saved, monkeypatch):
    sweep = small()

    def away(run, training, state):
        raise StorageError("cannot write x: no connection")

    monkeypatch.setattr(RunDirectory, "write_checkpoint", away)
    with pytest.raises(StorageError) as caught:
        worker(sweep).train_dense()
    assert type(caught.value) is StorageError
    assert sweep.run.checkpoint(DENSE) is None


@pytest.mark.parametrize("fails", [False, True], ids=["", "and that fails"])
def test_told_to_leave_while_a_checkpoint_is_written(fails, after_dense, small, worker, often_saved, monkeypatch):
    """What is being written is waited for, and then what has been trained since is written."""
    whole, torn = after_dense("whole"), small(runs="torn")
    shutdown, write, steps = ShutdownRequest(), RunDirectory.write_checkpoint, []

    def slowly(run, training, state):
        steps.append(state.step)
        if len(steps) == 1:
            time.sleep(0.3)
            if fails:
                raise StorageError("cannot write x: no connection")
        write(run, training, state)

    def tell(event):
        if isinstance(event, Progress):
            shutdown.request()

    monkeypatch.setattr(RunDirectory, "write_checkpoint", slowly)
    with pytest.raises(ShutdownRequested):
        worker(torn, tell=tell, shutdown=shutdown).train_dense()
    monkeypatch.setattr(RunDirectory, "write_checkpoint", write)
    assert steps == [4, 4]
    assert torn.run.checkpoint(DENSE).step == 4
    worker(torn).train_dense()
    assert equal(final(whole, DENSE), final(torn, DENSE))


def test_a_result_is_the_last_that_is_written_of_a_ticket(after_dense, worker, often_saved, monkeypatch):
    sweep = after_dense()
    tickets = Ticket(0, 0), Ticket(0, 5), Ticket(0, 10)
    written, rename = [], local_files.rename

    def renamed(temporary, name):
        rename(temporary, name)
        written.append(name)

    monkeypatch.setattr(local_files, "rename", renamed)
    worker(sweep, *tickets).train_tickets()
    for ticket in tickets:
        own = [Path(name).name for name in written if ticket.name in Path(name).parts]
        assert own[-4:] == ["metrics.jsonl", "answers.safetensors", "state.safetensors", "result.json"]
        assert own.count("result.json") == 1
        assert own.count("state.safetensors") > 2


def test_a_ticket_that_fails_has_its_result_after_its_last_checkpoint(after_dense, worker, often_saved, monkeypatch):
    """That checkpoint is still being written when the ticket is found to be wrong."""
    sweep, ticket = after_dense(), Ticket(0, 10)
    made, order, checked = worker(sweep, ticket), [], []
    write, write_result, violation = RunDirectory.write_checkpoint, RunDirectory.write_result, made.session.violation

    def slowly(run, training, state):
        time.sleep(0.3)
        write(run, training, state)
        order.append(state.step)

    def result(run, found):
        order.append(found.status)
        write_result(run, found)

    def wrong(member):
        checked.append(member.step)
        return ("failed", "wrong") if checked.count(30) == 2 else violation(member)

    monkeypatch.setattr(RunDirectory, "write_checkpoint", slowly)
    monkeypatch.setattr(RunDirectory, "write_result", result)
    monkeypatch.setattr(made.session, "violation", wrong)
    made.train_tickets()
    assert order[order.index("failed") - 1] == 30


def test_the_same_bits_with_and_without_checkpoints(after_dense, worker, often_saved):
    rare, often = after_dense("rare", "gang.checkpoint=1e6"), after_dense("often")
    tickets = Ticket(1, 0), Ticket(1, 10, "shuffle")
    for sweep in (rare, often):
        worker(sweep, *tickets).train_tickets()
    for ticket in tickets:
        assert files(rare, ticket) == files(often, ticket)


def test_a_state_leaves_the_device_once_a_checkpoint(small, worker, often_saved, monkeypatch, tensorflow):
    from lottery.training.trainer import Trainer

    made = worker(small("training.evaluate_every=3ep", "trellis=[0]"))
    trainer = made.session.trainer

    def vectors():
        return tensorflow.nest.flatten(trainer.state().vectors)

    kind = type(vectors()[0])
    numpy, run, copied = kind.numpy, Trainer.run, []

    def copies(tensor):
        if copied and id(tensor) in map(id, vectors()):
            copied[-1].append(id(tensor))
        return numpy(tensor)

    def runs(self, *arguments):
        losses = run(self, *arguments)
        copied.append([])
        return losses

    monkeypatch.setattr(kind, "numpy", copies)
    monkeypatch.setattr(Trainer, "run", runs)
    made.train_dense()
    assert len(copied) == 8
    assert all(len(ids) == len(set(ids)) == len(vectors()) for ids in copied)


def test_a_job_and_its_error_are_settled_once():
    jobs, gate = Background(), threading.Event()
    assert jobs.settle() is None
    jobs.start(lambda: gate.wait(PATIENCE))
    assert jobs.finished() is None
    gate.set()
    assert jobs.settle() >= 0
    assert jobs.finished() is None

    def fail():
        raise StorageError("cannot write x")

    jobs.start(fail)
    ran = []
    with pytest.raises(StorageError) as caught:
        jobs.start(lambda: ran.append(1))
    assert type(caught.value) is StorageError
    assert jobs.settle() is None
    assert not ran


def test_cpu_time_of_a_job_is_the_jobs_own():
    jobs = Background()
    jobs.start(lambda: time.sleep(0.3))
    assert jobs.settle() < 0.2
    ends = time.thread_time

    def work():
        started = ends()
        while ends() - started < 0.05:
            np.ones(1000).sum()

    jobs.start(work)
    assert jobs.settle() >= 0.05


def test_a_checkpoint_costs_what_training_loses(monkeypatch):
    """The time for which it stands still, and the CPU time of the rest."""
    now, asked = [0.0], []
    monkeypatch.setattr("lottery.worker.checkpoint_timer.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "lottery.worker.checkpoint_timer.scheduling.checkpoint_interval", lambda cost, between: asked.append(cost) or 10
    )
    timer = CheckpointTimer("auto", 3600.0)
    now[0] = 11.0
    assert timer.due()
    timer.run(lambda: now.__setitem__(0, now[0] + 0.5))
    assert not timer.due()
    timer.went_on_beside(2.0)
    now[0] += 10.0
    assert timer.due()
    assert asked == [1.0, 0.5, 2.5]
