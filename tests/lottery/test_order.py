import numpy as np
import pytest

from lottery.order import derived_seed, epoch_order


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
