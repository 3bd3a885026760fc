"""A bundle is evaluated in one pass: the split is read once, and each member's scores are those that it has alone."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from lottery.experiment.sections import Data, Model
from lottery.protocol import Progress, Saved
from lottery.run.run_directory import DENSE
from preprocessing.dataset.opening import Dataset, Split
from tests.lottery.datasets import local_dataset
from tests.lottery.small_training import batches, config, evaluate, rates, trainer
from tests.lottery.worker_runs import files

NOISE = "model={name: tests.lottery.own_models:noise_in_evaluation}"
IMAGE_BYTES = 8 * 8 * 3


@pytest.fixture
def reads(monkeypatch):
    """How often the evaluation split is opened, and each of its images decoded."""
    counts, opened, image = Counter(), Dataset.split, Split.image

    def split(dataset, name, reading=None):
        counts["opened"] += name == "val"
        return opened(dataset, name, reading)

    def decode(split, blob, row):
        if split.name == "val":
            counts[row] += 1
        return image(split, blob, row)

    monkeypatch.setattr(Dataset, "split", split)
    monkeypatch.setattr(Split, "image", decode)
    return counts


@pytest.fixture
def small_blocks(monkeypatch):
    """Three batches of 16 in a block: an evaluation has four, the last of them of one batch."""
    monkeypatch.setattr("lottery.worker.session._BLOCK_BYTES", 3 * 16 * IMAGE_BYTES)


@pytest.mark.parametrize("blocks", ["one", "several"])
def test_a_bundle_opens_the_evaluation_split_once_and_reads_it_once_an_evaluation(
    blocks, after_dense, worker, reads, request
):
    if blocks == "several":
        request.getfixturevalue("small_blocks")
    sweep = after_dense()
    reads.clear()
    tickets = [ticket for ticket in sweep.tickets if ticket.level == 1]
    assert len(tickets) == 7
    worker(sweep, *tickets).train_tickets()
    steps = [[row["step"] for row in sweep.run.metrics(ticket.name)] for ticket in tickets]
    assert {step for rows in steps for step in rows} == {10, 20, 30}
    assert sum(map(len, steps)) == 19  # those that start at step 10 are not evaluated there
    assert reads.pop("opened") == 1
    assert reads == dict.fromkeys(range(160), 3)


@pytest.mark.parametrize("override", ["seed=0", NOISE])
def test_scores_in_blocks_are_those_of_the_ticket_alone(override, after_dense, worker, small_blocks):
    together, alone = after_dense("together", override), after_dense("alone", override)
    tickets = [ticket for ticket in together.tickets if ticket.level == 0]
    worker(together, *tickets).train_tickets()
    for ticket in tickets[::2]:
        worker(alone, ticket).train_tickets()
        assert files(together, ticket) == files(alone, ticket)


def test_a_member_that_diverges_is_not_evaluated_and_the_others_are(after_dense, worker, small_blocks):
    sweep, whole = after_dense(), after_dense("whole")
    tickets = [ticket for ticket in sweep.tickets if ticket.level == 0 and ticket.control == "none"]
    worker(whole, *tickets).train_tickets()
    saved = sweep.run.trellis_state(5)
    for path, value in saved.variables.items():
        value *= np.array(np.nan if path.endswith("bias") else 1).astype(value.dtype)
    sweep.run.write_trellis_state(saved)
    worker(sweep, *tickets).train_tickets()
    lost = next(ticket for ticket in tickets if ticket.step == 5)
    assert sweep.run.metrics(lost.name) == []
    for ticket in set(tickets) - {lost}:
        assert files(sweep, ticket) == files(whole, ticket)


@pytest.mark.parametrize("event", [1, 12, 40, 71, 100])
def test_a_bundle_told_to_stop_in_its_evaluation_evaluates_when_it_resumes(event, after_dense, worker, small_blocks):
    from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested

    whole, torn = after_dense("whole"), after_dense("torn", "gang.checkpoint=1e6")
    tickets = [ticket for ticket in whole.tickets if ticket.level == 1]
    worker(whole, *tickets).train_tickets()
    shutdown, events = ShutdownRequest(), []

    def tell(event_told):
        events.append(event_told)
        if events.count(Progress(0)) == event:
            shutdown.request()

    with pytest.raises(ShutdownRequested):
        worker(torn, *tickets, tell=tell, shutdown=shutdown).train_tickets()
    assert events[-1] == Saved()
    assert not torn.run.results()
    worker(torn, *tickets).train_tickets()
    for ticket in tickets:
        assert files(torn, ticket) == files(whole, ticket)


def test_each_batch_that_a_bundle_reads_or_scores_is_progress(after_dense, worker, small_blocks):
    """Else a long evaluation would be taken for a hang."""
    sweep, events = after_dense(), []
    tickets = [ticket for ticket in sweep.tickets if ticket.level == 1]
    worker(sweep, *tickets, tell=events.append).train_tickets()
    assert events.count(Progress(0)) == 3 * 10 + 19 * 10
    assert events[-1] == Progress(0, done=7)


def test_the_dense_run_holds_no_block_and_loads_its_state_once_an_evaluation(small, worker, monkeypatch):
    from lottery.input.evaluation_batches import EvaluationInput
    from lottery.training.trainer import Trainer

    asked, loaded = [], []
    read, load = EvaluationInput.batches, Trainer.load_model
    monkeypatch.setattr(EvaluationInput, "batches", lambda self, ahead: asked.append(ahead) or read(self, ahead))
    monkeypatch.setattr(Trainer, "load_model", lambda self, state: loaded.append(state) or load(self, state))
    sweep = small()
    worker(sweep).train_dense()
    assert [row["step"] for row in sweep.run.metrics(DENSE)] == [10, 20, 30]
    assert asked == [1, 1, 1]
    assert len(loaded) == 3


@pytest.mark.parametrize("block", [1, 2, 5, 100])
def test_states_in_one_pass_score_what_each_scores_alone(tensorflow, block):
    from lottery.training import evaluation

    trained = trainer(tensorflow, config())
    images, labels = batches(7)
    states = []
    for seed in range(3):
        trained.load(trained.first_state(seed), None)
        trained.run(*batches(1, seed=seed), rates(1))
        states.append(trained.state())
    whole = list(zip(images, labels, strict=True))
    alone = [evaluate(trained, state, whole) for state in states]
    assert len(set(alone)) == 3
    once = iter(whole)
    found = evaluation.evaluate(trained, states, once, block)
    assert [each.scores for each in found] == alone
    for each in found:
        assert each.right.sum() / len(each.right) == each.scores.top1
    assert next(once, None) is None


def test_an_evaluation_leaves_the_noise_where_it_was_drawn_to(tensorflow):
    """The model draws noise in evaluation: one block or several, the draws are the same."""
    from lottery.training import evaluation

    trained = trainer(tensorflow, config(model=Model("tests.lottery.own_models:noise_in_evaluation")))
    images, labels = batches(6)
    states = [trained.first_state(seed) for seed in range(2)]
    whole = list(zip(images, labels, strict=True))
    found = [[each.scores for each in evaluation.evaluate(trained, states, whole, block)] for block in (1, 2, 6)]
    assert found[0] == found[1] == found[2] == [evaluate(trained, state, whole) for state in states]


def test_whoever_stops_early_does_not_wait_for_what_is_read_ahead(tensorflow, tmp_path, monkeypatch):
    from lottery.input.evaluation_batches import EvaluationInput

    uri, _ = local_dataset(tmp_path)
    decoded, image, gate = [], Split.image, threading.Event()

    def decode(split, blob, row):
        decoded.append(row)
        if row >= 3:
            gate.wait(20)
        return image(split, blob, row)

    monkeypatch.setattr(Split, "image", decode)
    source = EvaluationInput(Dataset.open(uri), Data(batch=3))
    reader = source.batches(ahead=100)
    next(reader)
    threading.Timer(0.2, gate.set).start()
    reader.close()
    assert max(decoded) < 6 < source.count  # the batch that was being assembled, and none after it


def test_a_limit_is_read_and_no_more(tensorflow, tmp_path, reads):
    from lottery.input.evaluation_batches import EvaluationInput

    uri, everything = local_dataset(tmp_path)
    source = EvaluationInput(Dataset.open(uri), Data(batch=8), limit=2)
    found = list(source.batches(ahead=5))
    assert source.count == sum(len(labels) for _, labels in found) == 16
    assert np.array_equal(np.concatenate([labels for _, labels in found]), everything["val"][1][:16])
    assert reads == {"opened": 1, **dict.fromkeys(range(16), 1)}
