import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery.experiment import config
from lottery.experiment.steps import segments, timeline, to_steps
from preprocessing.common.errors import InputError
from tests.lottery.paths import DIGITS


def test_lengths_in_steps_and_epochs():
    assert to_steps(500, 44) == 500
    assert to_steps("2ep", 44) == 88
    assert to_steps("0.5ep", 44) == 22
    assert to_steps("0.25ep", 5) == 1


def test_digits_timeline_drops_the_partial_batch():
    line = timeline(config.load(DIGITS), 1437)
    assert line.steps_per_epoch == 44
    assert line.total == 440
    assert line.trellis == (0, 22, 44, 88, 176)
    assert line.evaluations == {440}
    assert line.epoch(22) == 0.5


def test_evaluations_at_intervals_and_at_the_end():
    line = timeline(config.load(DIGITS, ["training.evaluate_every=4ep"]), 1437)
    assert line.evaluations == {176, 352, 440}


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("data.batch=2000", "data.batch"),
        ("trellis=[1ep, 2ep]", "trellis"),
        ("trellis=[0ep, 2ep, 1ep]", "trellis"),
        ("trellis=[0ep, 0.001ep]", "trellis"),
        ("trellis=[0ep, 10ep]", "trellis"),
        ("training.evaluate_every=0", "evaluate_every"),
    ],
)
def test_impossible_timelines_are_refused(override, word):
    with pytest.raises(InputError, match=word):
        timeline(config.load(DIGITS, [override]), 1437)


@given(st.integers(0, 50), st.integers(1, 100), st.frozensets(st.integers(0, 160), max_size=10), st.integers(1, 30))
def test_segments_cover_the_range_once_and_end_at_stops(first, length, stops, longest):
    last = first + length
    runs = segments(first, last, stops, longest)
    found = list(runs)
    assert list(runs) == found  # they can be gone through again
    assert [step for begin, end in found for step in range(begin, end)] == list(range(first, last))
    assert all(0 < end - begin <= longest for begin, end in found)
    assert {stop for stop in stops if first < stop < last} <= {end for _, end in found}


def test_the_runs_of_350_epochs_of_imagenet_take_no_memory():
    runs = segments(0, 350 * 5004, frozenset(range(0, 350 * 5004, 50_040)), 1)
    assert sys.getsizeof(runs) + sys.getsizeof(runs.edges) < 1000
    assert next(iter(runs)) == (0, 1)
