import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery.input.order import epoch_order, sample_order, windowed_order, worker_slice
from lottery.seeds import derived_seed


@pytest.mark.parametrize("count", [1, 2, 1437])
def test_every_image_once_an_epoch(count):
    assert np.array_equal(np.sort(epoch_order("d", 0, 3, count)), np.arange(count))


def test_a_function_of_dataset_seed_and_epoch():
    base = epoch_order("d", 0, 0, 1000)
    assert np.array_equal(base, epoch_order("d", 0, 0, 1000))
    for other in [("e", 0, 0), ("d", 1, 0), ("d", 0, 1)]:
        assert not np.array_equal(base, epoch_order(*other, 1000))


def test_pinned_order():
    """A change here makes a resumed training see other samples than it would have."""
    assert epoch_order("dataset", 7, 3, 12).tolist() == [7, 8, 5, 3, 9, 2, 11, 0, 4, 10, 1, 6]


def test_keys_do_not_run_into_each_other():
    assert derived_seed("reinit", 1, 11) != derived_seed("reinit", 11, 1)
    assert derived_seed("a", "b") != derived_seed("ab")
    assert 0 <= derived_seed("x") < 2**31


@st.composite
def splits(draw):
    """The first row of each row group and, last, the number of rows."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=40))
    return np.cumsum([0, *sizes])


@given(starts=splits(), window=st.one_of(st.just("all"), st.integers(1, 50)), epoch=st.integers(0, 9))
def test_every_image_once_an_epoch_in_any_window(starts, window, epoch):
    order = sample_order("d", 0, epoch, starts, window)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(starts[-1]))


@given(starts=splits(), window=st.integers(1, 50))
def test_no_window_needs_more_than_its_row_groups(starts, window):
    groups = np.searchsorted(starts, windowed_order("d", 0, 0, starts, window), side="right") - 1
    _, first_places = np.unique(groups, return_index=True)
    in_order = groups[np.sort(first_places)]
    sizes = np.diff(starts)
    place = 0
    for first in range(0, len(in_order), window):
        together = in_order[first : first + window]
        end = place + sizes[together].sum()
        assert set(groups[place:end]) == set(together)
        place = end


def test_windows_shuffle_row_groups_and_images():
    starts = np.arange(0, 1001, 10)
    order = windowed_order("d", 0, 0, starts, 4)
    groups = order // 10
    assert not np.array_equal(np.unique(groups[:40]), np.arange(4))
    assert len(set(groups[:10])) > 1
    assert not np.array_equal(order, windowed_order("d", 0, 1, starts, 4))
    assert not np.array_equal(order, windowed_order("d", 0, 0, starts, 5))
    # A window of everything is no less random than `all`, but another order.
    assert not np.array_equal(windowed_order("d", 0, 0, starts, 100), epoch_order("d", 0, 0, 1000))


def test_pinned_windowed_order():
    """A change here makes a resumed training see other samples than it would have."""
    assert windowed_order("dataset", 7, 3, np.array([0, 4, 8, 11]), 2).tolist() == [7, 4, 10, 5, 9, 8, 6, 2, 3, 0, 1]
    assert (
        sample_order("dataset", 7, 3, np.array([0, 4, 8, 12]), "all").tolist()
        == epoch_order("dataset", 7, 3, 12).tolist()
    )


@given(count=st.integers(0, 300), workers=st.integers(1, 20))
def test_the_shares_of_a_batch_are_the_batch(count, workers):
    batch = np.arange(count)
    shares = [worker_slice(batch, worker, workers) for worker in range(workers)]
    assert np.array_equal(np.concatenate(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_epoch_of_imagenet_takes_no_time():
    starts = np.arange(0, 1_281_167 + 64, 64)
    starts[-1] = 1_281_167
    for window in ("all", 1, 16):
        began = time.process_time()
        assert len(sample_order("d", 0, 0, starts, window)) == 1_281_167
        assert time.process_time() - began < 1
