"""A thread makes the next element while the one before is in use; and so do the images of a training's next run."""

from __future__ import annotations

import threading

import pytest

from lottery.worker.one_ahead import one_ahead

PATIENCE = 10  # seconds


def test_the_next_one_is_made_while_the_one_before_is_in_use():
    begun = [threading.Event() for _ in range(3)]

    def make():
        for number, event in enumerate(begun):
            event.set()
            yield number

    found = []
    for number in one_ahead(make()):
        found.append(number)
        assert all(event.wait(PATIENCE) for event in begun[: number + 2])
        assert not any(event.is_set() for event in begun[number + 2 :])
    assert found == [0, 1, 2]


def test_empty_and_false_elements_are_elements():
    assert list(one_ahead(element for element in [None, 0, []])) == [None, 0, []]
    assert list(one_ahead(element for element in ())) == []


def test_an_error_comes_when_its_element_is_asked_for():
    def make():
        yield 1
        raise ValueError("damaged")

    elements = one_ahead(make())
    assert next(elements) == 1
    with pytest.raises(ValueError, match="^damaged$") as caught:
        next(elements)
    assert type(caught.value) is ValueError


def test_who_stops_early_closes_what_makes_the_elements():
    closed = []

    def make():
        try:
            yield from range(10)
        finally:
            closed.append(threading.active_count())

    elements = one_ahead(make())
    next(elements)
    before = threading.active_count()
    elements.close()
    assert closed == [before - 1]  # the thread has ended by then


def test_images_of_the_next_run_are_prepared_before_this_run_ends(small, worker, monkeypatch):
    """Else a GPU waits while they are copied to it."""
    from lottery.input.training_batches import TrainingInput
    from lottery.training.trainer import Trainer

    monkeypatch.setattr(TrainingInput, "longest_run", 4)
    prepared, steps, late = threading.Semaphore(0), [], []
    augment, run = TrainingInput.augment, Trainer.run

    def augments(self, images, first, last):
        prepared.release()
        return augment(self, images, first, last)

    def runs(self, images, labels, rates):
        steps.append(len(rates))
        wanted = 2 if len(steps) == 1 else 1  # this run and the next one, and then one more each time
        if sum(steps) < 30 and not all(prepared.acquire(timeout=PATIENCE) for _ in range(wanted)):
            late.append(sum(steps))
        return run(self, images, labels, rates)

    monkeypatch.setattr(TrainingInput, "augment", augments)
    monkeypatch.setattr(Trainer, "run", runs)
    worker(small()).train_dense()
    assert sum(steps) == 30
    assert not late
