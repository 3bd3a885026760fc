"""What becomes of a training that diverges, does not fit into memory, or has weights that it must not have."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import DENSE
from lottery.tickets.tickets import Ticket
from preprocessing.common.storage import open_store


@pytest.mark.parametrize(
    ("end", "note"),
    [
        ("conv1/bias", "conv_small/conv1/bias is not finite at step 5"),
        ("conv2/kernel", "conv_small/conv2/kernel is not finite at step 5"),
    ],
)
def test_a_ticket_that_diverges_is_a_result_and_the_others_go_on(after_dense, worker, end, note):
    sweep = after_dense()
    saved = sweep.run.trellis_state(5)
    poisoned = {path: value * np.float32(np.nan) for path, value in saved.variables.items() if path.endswith(end)}
    assert poisoned
    sweep.run.write_trellis_state(Checkpoint(5, {**saved.variables, **poisoned}))
    worker(sweep, *[ticket for ticket in sweep.tickets if ticket.level == 0]).train_tickets()
    results = {result.ticket: result for result in sweep.run.results()}
    lost = results[Ticket(0, 5)]
    assert lost.status == "diverged"
    assert lost.note == note
    assert lost.top1 is None
    assert {result.status for ticket, result in results.items() if ticket.step != 5} == {"done"}


def test_a_density_that_keeps_no_weight_is_refused_before_the_dense_run(small, worker):
    from preprocessing.common.errors import InputError

    sweep = small("masks.densities=[0.5, 1e-6]")
    with pytest.raises(InputError, match="keeps none of the 1,436 weights; leave it out, or give at least 0.0007"):
        worker(sweep)
    assert not open_store(sweep.run.uri).list("dense")


@pytest.mark.parametrize(
    ("overrides", "step"),
    [(["gang.checkpoint=1e6", "trellis=[0ep, 1ep]"], 10), (["gang.checkpoint=1e-6", "trellis=[0ep]"], 4)],
    ids=["at a point of the trellis", "at a checkpoint"],
)
def test_a_dense_run_whose_weights_are_not_finite_stops_early(small, worker, monkeypatch, overrides, step):
    """ReLU makes 0 of NaN: the loss stays finite."""
    from lottery.input.training_batches import TrainingInput

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    sweep = small(*overrides, "training.evaluate_every=3ep")
    made = worker(sweep)
    state = made.session.trainer.first_state(0)
    path = next(path for path in state if path.endswith("conv1/kernel"))
    state[path] = state[path] * np.float32(np.nan)
    monkeypatch.setattr(made.session.trainer, "first_state", lambda seed: state)
    check = made.session.check
    monkeypatch.setattr(made.session, "check", lambda member: member.step and check(member))  # but for the first
    made.train_dense()
    result = sweep.run.dense_result()
    assert result.status == "diverged"
    assert result.note == f"{path} is not finite at step {step}"
    assert result.steps == step
    assert open_store(sweep.run.uri).list("masks") == []
    assert sweep.run.checkpoint(DENSE) is None  # nothing to resume from


def test_a_dense_run_that_diverges_says_so(small, worker):
    sweep = small("training.learning_rate.peak=1e12")
    worker(sweep).train_dense()
    result = sweep.run.dense_result()
    assert result.status == "diverged"
    assert "step" in result.note
    assert open_store(sweep.run.uri).list("masks") == []


@pytest.fixture
def scarce(monkeypatch):
    import tensorflow as tf

    from lottery.training.trainer import Trainer

    def run(self, *arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "Graph execution error:\n\n OOM when allocating\nand more")

    monkeypatch.setattr(Trainer, "run", run)
    return tf.errors.ResourceExhaustedError


def test_a_ticket_that_runs_out_of_memory_alone_is_a_result(after_dense, worker, scarce):
    sweep = after_dense()
    worker(sweep, Ticket(0, 0)).train_tickets()
    (result,) = sweep.run.results()
    assert result.status == "failed"
    assert result.note == "out of memory at step 0: OOM when allocating"


def test_a_bundle_or_a_dense_run_that_runs_out_of_memory_can_be_tried_again(after_dense, small, worker, scarce):
    sweep = after_dense()
    with pytest.raises(scarce):
        worker(sweep, Ticket(0, 0), Ticket(0, 5)).train_tickets()
    assert not sweep.run.results()
    other = small(runs="other")
    with pytest.raises(scarce):
        worker(other).train_dense()
    assert other.run.dense_result() is None


def test_masked_weights_that_are_not_0_fail_the_ticket(after_dense, worker, monkeypatch):
    """The check that is always on: here the mask is kept from the step."""
    from lottery.training.trainer import Trainer

    sweep = after_dense()
    load = Trainer.load
    monkeypatch.setattr(Trainer, "load", lambda self, state, mask: load(self, state, None))
    worker(sweep, Ticket(1, 0)).train_tickets()
    (result,) = sweep.run.results()
    assert result.status == "failed"
    assert "masked weights" in result.note


def test_a_mask_of_another_density_fails_the_ticket(after_dense, worker):
    sweep = after_dense()
    sweep.run.write_mask(1, sweep.run.mask(0))
    worker(sweep, Ticket(1, 0)).train_tickets()
    (result,) = sweep.run.results()
    assert (result.status, result.top1) == ("failed", None)
    assert result.note == "the mask keeps 718 weights, density 0.1 is 144 at step 0"
