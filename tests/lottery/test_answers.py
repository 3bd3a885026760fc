"""Which images a network gets right is kept beside its result, and the scores on the split to choose on within it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lottery.driver.prepare import prepare
from lottery.experiment.sections import Data
from lottery.run import answers
from lottery.run.answers import Answers
from lottery.run.run_directory import DENSE
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset
from tests.lottery.datasets import write_dataset
from tests.lottery.paths import DIGITS
from tests.lottery.small_sweep import SMALL
from tests.lottery.small_training import batches, config, trainer
from tests.lottery.worker_runs import Killed, files

TICKETS = Ticket(0, 0), Ticket(0, 5), Ticket(1, 10)


@pytest.fixture
def chosen(tmp_path):
    """Makes a sweep that chooses on a split of 13 images and is judged on one of 21, after no training."""
    write_dataset(str(tmp_path / "data"), {"train": [160], "val": [21], "minival": [13]}, size=8)

    def make(*overrides, runs="runs"):
        overrides = (*SMALL, "data.select=minival", *overrides)
        sweep = prepare(DIGITS, str(tmp_path / "data"), str(tmp_path / runs), overrides)
        sweep.bind_run_directory()
        return sweep

    return make


def alone(session, state, split):
    """Which images of a split a state gets right, each evaluated by itself."""
    session.trainer.load_model(state)
    images, labels = session.dataset.split(split).gather(np.arange(session.dataset.splits[split].count))
    return [
        bool(session.trainer.score_sums(images[row : row + 1], labels[row : row + 1])[1]) for row in range(len(labels))
    ]


@pytest.mark.parametrize(
    ("right", "select"), [([True, False, True], None), ([False] * 8, [True] * 9), ([True] * 21, [False, True])]
)
def test_packed_answers_are_those_that_were_packed(right, select):
    packed = answers.pack(Answers(np.array(right), None if select is None else np.array(select)))
    found = answers.unpack(packed)
    assert found.evaluate.tolist() == right
    assert (None if found.select is None else found.select.tolist()) == select


def test_answers_of_imagenet_take_6_kb():
    assert len(answers.pack(Answers(np.ones(50_000, bool)))) < 6_500


@pytest.mark.parametrize("devices", [1, 2])
def test_what_is_kept_is_what_the_final_network_gets_right(chosen, worker, devices):
    sweep = chosen()
    worker(sweep, devices=devices).train_dense()
    own = worker(sweep, *TICKETS, devices=devices)
    own.train_tickets()
    for name, result in [(DENSE, sweep.run.dense_result()), *((r.ticket.name, r) for r in sweep.run.results())]:
        state = sweep.run.checkpoint(name).variables
        found = sweep.run.answers(name, result.top1, result.select_top1)
        assert found.evaluate.tolist() == alone(own.session, state, "val")
        assert found.select.tolist() == alone(own.session, state, "minival")
        assert (found.evaluate.sum(), found.select.sum()) == (round(result.top1 * 21), round(result.select_top1 * 13))
        assert 0 <= result.select_top1 <= result.select_top5 <= 1
        assert result.select_loss > 0
    assert (sweep.run.dense_result().evaluated, sweep.run.dense_result().select_images) == (21, 13)


def test_a_choice_on_another_split_changes_nothing_else(chosen, worker):
    with_choice, without = chosen(), chosen("data.select=null")
    for sweep in (with_choice, without):
        worker(sweep).train_dense()
        worker(sweep, *TICKETS).train_tickets()
    for one, other in zip(with_choice.run.results(), without.run.results(), strict=True):
        assert (one.top1, one.top5, one.loss) == (other.top1, other.top5, other.loss)
        assert (other.select_top1, other.select_top5, other.select_loss) == (None, None, None)
        assert files(with_choice, one.ticket)[:2] == files(without, one.ticket)[:2]
    assert without.run.answers(TICKETS[0].name, without.run.result(TICKETS[0]).top1).select is None


def test_both_splits_are_limited(chosen, worker):
    sweep = chosen("data.batch=6", "training.evaluate_batches=2")
    worker(sweep).train_dense()
    dense = sweep.run.dense_result()
    found = sweep.run.answers(DENSE, dense.top1, dense.select_top1)
    assert (len(found.evaluate), len(found.select), dense.evaluated, dense.select_images) == (12, 12, 12, 12)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_devices_give_their_answers_in_order(tensorflow, devices, count):
    trained = trainer(tensorflow, config())
    images, labels = batches(1)
    state = trained.first_state(0)
    trained.load_model(state)
    expected = trained.score_sums(images[0], labels[0])[1][:count]
    several = trainer(tensorflow, config(), devices)
    several.load_model(state)
    sums, right = several.score_sums(images[0, :count], labels[0, :count])
    assert right.tolist() == expected.tolist()
    assert sums[0] == expected.sum()


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("limit", [None, 3])
def test_workers_answers_are_put_in_file_order(chosen, workers, limit):
    from lottery.input.evaluation_batches import EvaluationInput

    dataset, right = Dataset.open(chosen().dataset.uri), np.arange(21) % 3 == 0
    labels = dataset.split("val").gather(np.arange(21))[1]
    together = np.zeros(21 if limit is None else 12, bool)
    for worker in range(workers):
        source = EvaluationInput(dataset, Data(batch=4), limit=limit, worker=worker, workers=workers)
        rows = np.flatnonzero(source.in_file_order(np.ones(sum(len(own) for _, own in source.batches()), bool)))
        ordered = np.concatenate([own for _, own in source.batches()])
        assert ordered.tolist() == labels[rows].tolist()
        together |= source.in_file_order(right[rows])
    assert together.tolist() == right[: len(together)].tolist()


def test_answers_of_another_network_are_refused(chosen, worker):
    sweep = chosen()
    worker(sweep).train_dense()
    dense = sweep.run.dense_result()
    found = sweep.run.answers(DENSE, dense.top1, dense.select_top1)
    for other in (Answers(~found.evaluate, found.select), Answers(found.evaluate, ~found.select)):
        sweep.run.write_answers(DENSE, other)
        with pytest.raises(
            InputError, match=r"dense/answers.safetensors is damaged \(its accuracy is .*; delete"
        ) as caught:
            sweep.run.answers(DENSE, dense.top1, dense.select_top1)
        assert type(caught.value) is InputError


def test_a_training_of_an_earlier_version_is_evaluated_again_for_its_answers(chosen, worker):
    sweep = chosen()
    worker(sweep).train_dense()
    worker(sweep, *TICKETS).train_tickets()
    before = {ticket: (files(sweep, ticket), sweep.run.result(ticket)) for ticket in TICKETS}
    for ticket in TICKETS[:2]:
        folder = Path(sweep.run.uri, "tickets", ticket.name)
        (folder / "answers.safetensors").unlink()
        (folder / "result.json").unlink()
    trained = []
    worker(sweep, *TICKETS, tell=lambda event: trained.append(getattr(event, "images", 0))).train_tickets()
    assert sum(trained) == 0
    assert {ticket: (files(sweep, ticket), sweep.run.result(ticket)) for ticket in TICKETS} == before


@pytest.mark.parametrize("event", range(1, 12, 2))
def test_killed_between_its_two_evaluations_a_bundle_ends_in_the_same_bytes(chosen, worker, event):
    """The evaluation at the end reads two batches of each split: reports after the last step are of both."""
    whole, torn = chosen(runs="whole"), chosen("gang.checkpoint=1e6", runs="torn")
    for sweep in (whole, torn):
        worker(sweep).train_dense()
    worker(whole, *TICKETS).train_tickets()
    images, reports = 0, 0

    def tell(told):
        nonlocal images, reports
        images += getattr(told, "images", 0)
        reports += images == 16 * (30 + 25 + 20)
        if reports == event:
            raise Killed

    with pytest.raises(Killed):
        worker(torn, *TICKETS, tell=tell).train_tickets()
    worker(torn, *TICKETS).train_tickets()
    for ticket in TICKETS:
        assert files(torn, ticket) == files(whole, ticket)
        assert torn.run.result(ticket).select_top1 == whole.run.result(ticket).select_top1
