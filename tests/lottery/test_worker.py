"""What makes a ticket a ticket: from which state it starts, what it is trained on, and that nothing else matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lottery.protocol import Instructions, Progress, Saved, TaskPlacement
from lottery.run.run_directory import DENSE
from lottery.seeds import derived_seed
from lottery.tickets import masks
from lottery.tickets.tickets import Ticket
from lottery.worker.position import WorkerPosition
from tests.lottery.worker_runs import Killed, equal, files, final


def test_dense_run_keeps_its_states_along_the_trellis(after_dense, worker):
    sweep = after_dense()
    states = [sweep.run.trellis_state(step) for step in (0, 5, 10)]
    assert [state.step for state in states] == [0, 5, 10]
    assert equal(states[0].variables, worker(sweep).session.trainer.first_state(0))
    assert not equal(states[0].variables, states[1].variables)
    assert [row["step"] for row in sweep.run.metrics(DENSE)] == [10, 20, 30]
    result = sweep.run.dense_result()
    assert (result.status, result.steps, result.evaluated) == ("done", 30, 160)
    assert result.top1 == sweep.run.metrics(DENSE)[-1]["top1"] > 0.3  # chance is 0.1


def test_masks_are_of_the_dense_runs_final_weights(after_dense, worker):
    sweep = after_dense()
    last = final(sweep, DENSE)
    kernels = {path: last[path] for path in worker(sweep).session.trainer.kernels}
    expected = masks.global_magnitude_masks(kernels, sweep.experiment.masks.densities)
    for level, mask in enumerate(expected):
        assert equal(sweep.run.mask(level), mask)
    first = sweep.run.trellis_state(0).variables
    assert not equal(masks.global_magnitude_masks({path: first[path] for path in kernels}, [0.5])[0], expected[0])


@pytest.fixture
def started(worker, monkeypatch):
    """Begins a ticket's training; the state that it starts from."""
    from lottery.training.trainer import Trainer

    def start(sweep, ticket):
        found = []

        def load(self, state, mask):
            found.append({path: np.asarray(value) for path, value in state.items()})
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "load", load)
            with pytest.raises(Killed):
                worker(sweep, ticket).train_tickets()
        return found[0]

    return start


@pytest.mark.parametrize("step", [0, 5, 10])
@pytest.mark.parametrize("optimizer", ["fresh", "rewind"])
def test_a_ticket_starts_from_mask_times_trellis_state(after_dense, small, started, step, optimizer):
    done = after_dense()
    sweep = small(f"tickets.optimizer_state={optimizer}", runs="other")
    mask, saved = done.run.mask(1), done.run.trellis_state(step)
    sweep.run.write_mask(1, mask)
    sweep.run.write_trellis_state(saved)
    start = started(sweep, Ticket(1, step))
    assert start.keys() == saved.variables.keys()
    slots = {f"optimizer/{kernel}/momentum": kernel for kernel in mask}
    assert len(slots) == 4
    assert slots.keys() < start.keys()
    for path, value in start.items():
        expected = saved.variables[path]
        if path.startswith("optimizer/") and optimizer == "fresh":
            expected = np.zeros_like(expected)
        kept = mask.get(path, mask.get(slots.get(path, "")))
        assert np.array_equal(value, expected if kept is None else expected * kept), path


def test_reinit_has_the_mask_but_new_weights_and_all_steps(after_dense, worker, started):
    sweep = after_dense()
    ticket = Ticket(1, 0, "reinit")
    start = started(sweep, ticket)
    fresh = worker(sweep).session.trainer.first_state(derived_seed("reinit", 0, 1))
    for kernel, kept in sweep.run.mask(1).items():
        assert np.array_equal(start[kernel], fresh[kernel] * kept)
        assert not np.array_equal(start[kernel], sweep.run.trellis_state(0).variables[kernel] * kept)
    worker(sweep, ticket).train_tickets()
    assert sweep.run.results()[0].steps == 30


@pytest.mark.parametrize(("step", "seed"), [(0, 0), (5, 0), (10, 0), (5, 1)])
def test_a_ticket_that_keeps_all_weights_is_the_dense_run(after_dense, small, worker, step, seed):
    """Learning rate, data order and optimizer continue from the reset step: else the bits would differ."""
    dense = after_dense()
    if seed:
        dense = small(f"seed={seed}", runs="another seed")
        worker(dense).train_dense()
    sweep = small(f"seed={seed}", "masks.densities=[1.0]", "tickets.optimizer_state=rewind", runs="other")
    for point in sweep.timeline.trellis:
        sweep.run.write_trellis_state(dense.run.trellis_state(point))
    everything = {path: np.ones_like(kept) for path, kept in dense.run.mask(0).items()}
    sweep.run.write_mask(0, everything)
    ticket = Ticket(0, step)
    worker(sweep, ticket).train_tickets()
    assert equal(final(sweep, ticket), final(dense, DENSE))
    assert sweep.run.results()[0].steps == 30 - step


def test_other_seeds_have_other_orders_of_samples(after_dense, small, worker):
    dense = after_dense()
    sweep = small("tickets.seeds=[0, 7]", runs="other")
    sweep.run.write_trellis_state(dense.run.trellis_state(5))
    sweep.run.write_mask(0, dense.run.mask(0))
    tickets = [Ticket(0, 5, seed=seed) for seed in (0, 7)]
    for ticket in tickets:
        worker(sweep, ticket).train_tickets()
    assert not equal(final(sweep, tickets[0]), final(sweep, tickets[1]))


def test_the_process_says_how_well_it_used_its_machine(after_dense, worker):
    sweep = after_dense()
    ticket = Ticket(0, 5)
    worker(sweep, ticket).train_tickets()
    (row,) = sweep.run.telemetry(ticket.name)
    assert row["images_per_s"] > 0
    assert 0 <= row["input_wait"] < 1
    assert 0 < row["device_wait"] < 1
    assert 0 < row["evaluation"] < 1
    assert row["cpu_percent"] > 0
    assert (row["step"], row["trainings"], row["task"], row["executor"]) == (30, 1, 0, "")


def test_the_process_says_what_it_is_training(after_dense, worker, monkeypatch):
    monkeypatch.setattr("lottery.worker.bundle.BEAT_EVERY", 0.0)
    monkeypatch.setattr("lottery.worker.bundle._ROW_EVERY", 0.0)
    sweep, told = after_dense(), []
    tickets = Ticket(0, 5), Ticket(0, 10)
    worker(sweep, *tickets, tell=told.append).train_tickets()
    activities = [event.activity for event in told if isinstance(event, Progress) and event.activity]
    first, last = activities[0], activities[-1]
    assert first.trainings == ("00-000005-s0", "00-000010-s0")
    assert (first.step, first.total, first.steps_left) == (10, 30, 40)
    assert first.top1 is None
    assert [each.step for each in activities] == sorted(each.step for each in activities)
    assert 0 < last.top1 <= 1
    assert last.loss > 0
    assert last.steps_per_s > 0
    assert last.images_per_s > 0
    assert len(sweep.run.telemetry(tickets[0].name)) > 1


def test_telemetrys_thread_ends_with_a_training_that_fails(after_dense, worker, monkeypatch):
    closed = []
    monkeypatch.setattr("lottery.worker.telemetry.Telemetry.close", lambda telemetry: closed.append(telemetry))

    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("lottery.worker.training_loop.train", broken)
    with pytest.raises(RuntimeError, match="broken"):
        worker(after_dense(), Ticket(0, 5)).train_tickets()
    assert len(closed) == 1


def test_evaluate_batches_limits_evaluation_to_the_first_batches(small, worker):
    sweep = small("training.evaluate_batches=2")
    worker(sweep).train_dense()
    result = sweep.run.dense_result()
    assert result.evaluated == 32
    assert round(result.top1 * 32, 6) == int(round(result.top1 * 32, 6))


def test_schedule_restart_trains_all_the_steps_from_the_first(after_dense, small, worker):
    dense = after_dense()
    sweep = small("tickets.schedule=restart", runs="other")
    sweep.run.write_trellis_state(dense.run.trellis_state(10))
    sweep.run.write_mask(0, dense.run.mask(0))
    worker(sweep, Ticket(0, 10)).train_tickets()
    assert sweep.run.results()[0].steps == 30


def test_a_ticket_in_a_bundle_equals_the_ticket_alone(after_dense, worker):
    together, alone = after_dense("together"), after_dense("alone")
    tickets = together.tickets
    assert len(tickets) == 2 * (3 + 1 + 3)  # every other of which is both levels, all steps and all controls
    worker(together, *tickets).train_tickets()
    for ticket in tickets[::2]:
        worker(alone, ticket).train_tickets()
        assert files(together, ticket) == files(alone, ticket)
    results = {result.ticket: result for result in together.run.results()}
    for theirs in alone.run.results():
        ours = results[theirs.ticket]
        assert (ours.ticket, ours.top1, ours.loss, ours.kept) == (theirs.ticket, theirs.top1, theirs.loss, theirs.kept)


def test_results_say_what_was_kept(after_dense, worker):
    sweep = after_dense()
    worker(sweep, *sweep.tickets).train_tickets()
    for result in sweep.run.results():
        assert result.status == "done"
        assert result.kept == round(result.density * result.prunable)
        state = final(sweep, result.ticket)
        mask = sweep.run.mask(result.level)
        assert sum(np.count_nonzero(state[kernel]) for kernel in mask) <= result.kept
        assert result.epoch == result.step / 10
    assert not sweep.left()


def test_dense_run_killed_and_resumed_ends_in_the_same_bits(after_dense, small, worker, monkeypatch):
    whole, torn = after_dense("whole"), small(runs="torn")
    monkeypatch.setattr("lottery.worker.checkpoint_timer.scheduling.checkpoint_interval", lambda cost, failures: 0.0)
    told = []

    def tell(event):
        told.append(event)
        if len(told) == 3:
            raise Killed

    with pytest.raises(Killed):
        worker(torn, tell=tell).train_dense()
    assert 0 < torn.run.checkpoint(DENSE).step < 30
    worker(torn).train_dense()
    assert equal(final(whole, DENSE), final(torn, DENSE))
    assert whole.run.metrics(DENSE) == torn.run.metrics(DENSE)
    for level in range(2):
        assert equal(whole.run.mask(level), torn.run.mask(level))
    assert torn.run.dense_result().top1 == whole.run.dense_result().top1


def test_killed_between_the_last_state_and_the_result(after_dense, worker):
    sweep = after_dense()
    ticket = Ticket(0, 5)
    worker(sweep, ticket).train_tickets()
    before = sweep.run.results()[0]
    Path(sweep.run.uri, "tickets", ticket.name, "result.json").unlink()
    worker(sweep, ticket).train_tickets()
    assert sweep.run.results()[0].top1 == before.top1
    assert sweep.run.results()[0].steps == before.steps


def test_layers_without_weights_are_named(small, worker):
    """At 1% of 1,436 weights some layer is left with none."""
    sweep = small("masks.densities=[0.01]", "tickets.controls=[]")
    worker(sweep).train_dense()
    worker(sweep, Ticket(0, 0)).train_tickets()
    (result,) = sweep.run.results()
    empty = masks.empty_kernels(sweep.run.mask(0))
    assert empty
    assert (result.status, result.note) == ("done", f"no weights left in {', '.join(empty)}")


def test_a_dataset_that_has_changed_is_refused(after_dense, worker):
    import msgspec

    from lottery.worker.session import Session
    from preprocessing.common.errors import InputError

    assignment = msgspec.structs.replace(after_dense().assignment(()), dataset_hash="0" * 64)
    with pytest.raises(InputError, match="has changed"):
        Session(Instructions(assignment, TaskPlacement()), lambda event: None)


def test_a_supervisor_that_is_gone_requests_a_shutdown(worker, monkeypatch):
    """A Python worker that Spark kills closes the pipe before the kernel's SIGTERM arrives; that is no error."""
    import sys

    from lottery.worker.events import event_writer
    from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested

    class Broken:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Broken())
    shutdown = ShutdownRequest()
    report = event_writer(shutdown)
    shutdown.check()
    report(Progress(1))
    with pytest.raises(ShutdownRequested):
        shutdown.check()
    report(Saved())  # what is reported while shutting down goes nowhere


def test_a_worker_that_leaves_first_does_not_fail_the_others(small, worker, monkeypatch):
    """Its connection may be closed before its last message is seen; all that was to be written is there by then."""
    import tensorflow as tf

    def agree(strategy, value):
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Socket closed")

    session = worker(small()).session
    monkeypatch.setattr(session, "position", WorkerPosition(0, 2))
    monkeypatch.setattr("lottery.worker.devices.agree", agree)
    session.wait_for_others()
