import numpy as np
import pytest

from lottery.experiment import schedules
from lottery.experiment.sections import LearningRate
from preprocessing.common.errors import InputError


def rates(rate, total=100, per_epoch=10, first=0, last=None):
    return schedules.learning_rates(rate, per_epoch, total, first, total if last is None else last)


def test_warm_up_is_linear_and_spends_no_step_at_0():
    found = rates(LearningRate(1.0, warmup="1ep"))
    assert np.allclose(found[:10], np.arange(1, 11) / 10)
    assert np.all(found[10:] == 1.0)


def test_linear_decay_over_the_second_half():
    found = rates(LearningRate(2.0, decay="linear", decay_start="5ep"))
    assert np.all(found[:50] == 2.0)
    assert np.allclose(found[50:], 2.0 * (1 - np.arange(50) / 50))


def test_cosine_meets_its_ends_and_middle():
    found = rates(LearningRate(1.0, decay="cosine"), total=101)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5 * (1 + np.cos(np.pi * 50 / 101)))
    assert np.all(np.diff(found) < 0)


def test_step_multiplies_at_each_milestone():
    found = rates(LearningRate(1.0, decay="step", milestones=("3ep", 60), factor=0.1))
    assert np.allclose(found[[0, 29, 30, 59, 60, 99]], [1, 1, 0.1, 0.1, 0.01, 0.01])


def test_exponential_falls_by_its_factor():
    found = rates(LearningRate(1.0, decay="exponential", factor=0.01), total=1000)
    assert found[500] == pytest.approx(0.1)


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine", "exponential"])
def test_a_part_is_the_same_as_in_the_whole(decay):
    rate = LearningRate(0.3, warmup=7, decay=decay, decay_start=20)
    assert np.array_equal(rates(rate)[33:48], rates(rate, first=33, last=48))


@pytest.mark.parametrize(
    "rate",
    [
        LearningRate(1.0, warmup="6ep", decay="linear", decay_start="5ep"),
        LearningRate(1.0, decay="linear", decay_start="11ep"),
        LearningRate(1.0, decay="step"),
        LearningRate(1.0, decay="linear", milestones=(3,)),
    ],
)
def test_contradictions_are_refused(rate):
    with pytest.raises(InputError, match="learning_rate"):
        schedules.check(rate, 10, 100)
