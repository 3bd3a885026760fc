"""Weight rewinding, learning-rate rewinding, fine-tuning, and the controls: from which state, at which rates."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.experiment.schedules import learning_rates
from lottery.run.run_directory import DENSE
from lottery.tickets.tickets import Ticket
from tests.lottery.worker_runs import equal, final

TOTAL, STEP = 30, 10


@pytest.fixture
def begun(after_dense, small):
    """The small sweep, with overrides that leave its dense run as it is, after that."""

    def make(*overrides, runs="other"):
        done, sweep = after_dense(), small(*overrides, runs=runs)
        for step in done.timeline.trellis:
            sweep.run.write_trellis_state(done.run.trellis_state(step))
        for level in range(len(sweep.experiment.masks.densities)):
            sweep.run.write_mask(level, done.run.mask(level))
        sweep.run.write_checkpoint(DENSE, done.run.checkpoint(DENSE))
        return sweep

    return make


@pytest.fixture
def trained(worker, monkeypatch):
    """Trains a ticket; gives the state that it started from and the learning rates of its steps."""
    from lottery.training.trainer import Trainer

    load, run = Trainer.load, Trainer.run

    def train(sweep, ticket):
        states, rates = [], []

        def noted_load(self, state, mask):
            states.append({path: np.array(value) for path, value in state.items()})
            load(self, state, mask)

        def noted_run(self, images, labels, of_run):
            rates.extend(of_run.tolist())
            return run(self, images, labels, of_run)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "load", noted_load)
            patch.setattr(Trainer, "run", noted_run)
            worker(sweep, ticket).train_tickets()
        return states[0], rates

    return train


def schedule(sweep, first, last):
    line = sweep.timeline
    return learning_rates(
        sweep.experiment.training.learning_rate, line.steps_per_epoch, line.total, first, last
    ).tolist()


@pytest.mark.parametrize("optimizer", ["fresh", "rewind"])
@pytest.mark.parametrize("start", ["learning_rate_rewinding", "fine_tuning"])
def test_final_weights_with_the_rates_from_the_step_on_or_the_last_rate(begun, trained, start, optimizer):
    sweep = begun(f"tickets.start={start}", f"tickets.optimizer_state={optimizer}")
    ticket, mask, last = Ticket(1, STEP), sweep.run.mask(1), final(sweep, DENSE)
    state, rates = trained(sweep, ticket)
    for path, value in state.items():
        expected = last[path]
        if path.startswith("optimizer/"):
            expected = np.zeros_like(expected) if optimizer == "fresh" else expected
        kernel = path.removeprefix("optimizer/").removesuffix("/momentum")
        assert np.array_equal(value, expected * mask[kernel] if kernel in mask else expected), path
    assert any(value.any() for path, value in state.items() if path.startswith("optimizer/")) == (optimizer == "rewind")
    expected = schedule(sweep, STEP, TOTAL)
    assert rates == (expected if start == "learning_rate_rewinding" else schedule(sweep, TOTAL - 1, TOTAL) * 20)
    assert len(set(expected)) > 10
    (result,) = sweep.run.results()
    assert (result.status, result.steps, result.step) == ("done", TOTAL - STEP, STEP)


def test_the_order_of_images_continues_from_the_step(begun, worker, monkeypatch):
    """All of the weights rewound, and the final ones with the rates of the step, see the same batches."""
    from lottery.training.trainer import Trainer

    run, seen = Trainer.run, {}

    for start in ("weight_rewinding", "learning_rate_rewinding", "fine_tuning"):
        found = seen.setdefault(start, [])

        def noted(self, images, labels, rates, found=found):
            found.extend(np.asarray(labels).ravel().tolist())
            return run(self, images, labels, rates)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "run", noted)
            worker(begun(f"tickets.start={start}", runs=start), Ticket(1, STEP)).train_tickets()
    assert len(seen["fine_tuning"]) == (TOTAL - STEP) * 16
    assert seen["weight_rewinding"] == seen["learning_rate_rewinding"] == seen["fine_tuning"]


def test_a_killed_fine_tuning_goes_on_at_the_last_rate(begun, worker, monkeypatch):
    from lottery.input.training_batches import TrainingInput
    from tests.lottery.worker_runs import Killed

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    whole, torn = (begun("tickets.start=fine_tuning", "gang.checkpoint=1e-6", runs=runs) for runs in ("whole", "torn"))
    worker(whole, Ticket(1, STEP)).train_tickets()
    told = []

    def tell(event):
        told.append(event)
        if len(told) == 4:
            raise Killed

    with pytest.raises(Killed):
        worker(torn, Ticket(1, STEP), tell=tell).train_tickets()
    assert STEP < torn.run.checkpoint(Ticket(1, STEP).name).step < TOTAL
    worker(torn, Ticket(1, STEP)).train_tickets()
    assert equal(final(whole, Ticket(1, STEP)), final(torn, Ticket(1, STEP)))


@pytest.mark.parametrize("start", ["weight_rewinding", "learning_rate_rewinding", "fine_tuning"])
def test_continue_trains_the_whole_dense_network_from_its_end_for_as_long(begun, trained, start):
    sweep = begun(f"tickets.start={start}", "tickets.controls=[continue]")
    ticket = Ticket(0, STEP, "continue")
    assert ticket in sweep.tickets
    state, rates = trained(sweep, ticket)
    last = final(sweep, DENSE)
    assert all(np.array_equal(state[path], last[path]) for path in state if not path.startswith("optimizer/"))
    assert rates == (schedule(sweep, TOTAL - 1, TOTAL) * 20 if start == "fine_tuning" else schedule(sweep, STEP, TOTAL))
    (result,) = sweep.run.results()
    assert (result.status, result.density, result.kept, result.steps) == ("done", 1.0, result.prunable, TOTAL - STEP)


def test_random_starts_from_the_tickets_weights_with_as_many_of_them(begun, trained):
    sweep = begun("tickets.controls=[random]")
    ticket, mask = Ticket(1, STEP, "random"), sweep.run.mask(1)
    state, rates = trained(sweep, ticket)
    saved = sweep.run.trellis_state(STEP).variables
    kept = {path: state[path] != 0 for path in mask}
    assert sum(map(np.count_nonzero, kept.values())) == sum(map(np.count_nonzero, mask.values()))
    assert not equal(kept, mask)
    assert all(np.array_equal(state[path], saved[path] * kept[path]) for path in mask)
    assert rates == schedule(sweep, STEP, TOTAL)
    (result,) = sweep.run.results()
    assert (result.status, result.density, result.control) == ("done", 0.1, "random")


def test_new_weights_are_trained_by_the_whole_schedule_whatever_the_start(begun, trained):
    sweep = begun("tickets.start=fine_tuning")
    _, rates = trained(sweep, Ticket(1, 0, "reinit"))
    assert rates == schedule(sweep, 0, TOTAL)


def test_all_kinds_together_end_as_each_alone(begun, worker):
    from tests.lottery.worker_runs import files

    overrides = ("tickets.controls=[reinit, shuffle, random, continue]", "tickets.start=fine_tuning")
    together, alone = (begun(*overrides, runs=runs) for runs in ("together", "alone"))
    tickets = [ticket for ticket in together.tickets if ticket.level == 0]
    worker(together, *tickets).train_tickets()
    assert {result.status for result in together.run.results()} == {"done"}
    for ticket in tickets[::3]:
        worker(alone, ticket).train_tickets()
        assert files(together, ticket) == files(alone, ticket)
