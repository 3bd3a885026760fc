"""How many tasks a gang has, and how many of them train together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery.experiment.sections import Gang
from lottery.tickets import gang_size
from lottery.tickets.gang_size import Layout
from preprocessing.common.errors import InputError


def test_gang_size():
    assert gang_size.gang_size("auto", 2, 20) == 2
    assert gang_size.gang_size("auto", 64, 20) == 20
    assert gang_size.gang_size(5, 8, 3) == 3
    with pytest.raises(InputError, match="gang.tasks: 9 tasks asked for, but the cluster has 8 slots"):
        gang_size.gang_size(9, 8, 20)
    with pytest.raises(InputError, match="no free slot"):
        gang_size.gang_size("auto", 0, 20)


@given(st.integers(1, 64), st.integers(1, 512), st.integers(1, 8))
def test_executors_that_train_together_divide_the_batch(slots, batch, devices):
    count = gang_size.workers("auto", slots, batch, devices)
    assert 1 <= count <= slots
    assert count == 1 or batch % (count * devices) == 0
    assert all(batch % (more * devices) for more in range(count + 1, slots + 1))
    assert gang_size.workers(3, slots, batch, devices) <= 3


def test_a_batch_that_does_not_divide_among_a_tasks_devices_is_refused_before_it_starts():
    with pytest.raises(InputError, match="data.batch: 20 images do not divide among the 8 devices of a task"):
        gang_size.layout(Gang(), 20, slots=2, masks=3, devices=8)


def test_what_cannot_train_together_is_refused():
    gang_size.check_divides("gang.dense_executors", "auto", 7, 1, 4)
    gang_size.check_divides("gang.dense_executors", 4, 32, 2, 4)
    with pytest.raises(
        InputError, match="data.batch 32 does not divide among 3 executors of 2 devices each; --set .*=2"
    ):
        gang_size.check_divides("gang.dense_executors", 3, 32, 2, 4)
    with pytest.raises(InputError, match="gang.executors_per_ticket: 5 executors, but the cluster has 4"):
        gang_size.check_divides("gang.executors_per_ticket", 5, 40, 1, 4)


def test_a_gang_of_groups():
    assert gang_size.gang_size("auto", 20, 20, 4) == 20
    assert gang_size.gang_size("auto", 21, 20, 4) == 20
    assert gang_size.gang_size("auto", 20, 2, 4) == 8
    assert gang_size.gang_size(10, 20, 20, 4) == 8
    with pytest.raises(InputError, match="gang.executors_per_ticket: 4 executors, but the gang has 3 tasks"):
        gang_size.gang_size(3, 20, 20, 4)


def test_the_layout_by_default():
    assert gang_size.layout(Gang(), 256, slots=20, masks=20) == Layout(dense=16, tasks=20, together=1)
    assert gang_size.layout(Gang(), 256, slots=20, masks=3, devices=8) == Layout(dense=16, tasks=3, together=1)
    assert gang_size.layout(Gang(), 256, slots=2, masks=20, separate=False) == Layout(dense=1, tasks=2, together=1)


def test_a_layout_has_to_fit_the_first_time_and_shrinks_later():
    gang = Gang(tasks=4, dense_executors=4, executors_per_ticket=2)
    assert gang_size.layout(gang, 32, slots=4, masks=20) == Layout(dense=4, tasks=4, together=2)
    with pytest.raises(InputError, match=r"gang.dense_executors: 4 executors, but the cluster has 3"):
        gang_size.layout(gang, 32, slots=3, masks=20)
    assert gang_size.layout(gang, 32, slots=3, masks=20, first=False) == Layout(dense=2, tasks=2, together=2)
    assert gang_size.layout(gang, 32, slots=1, masks=20, first=False) == Layout(dense=1, tasks=1, together=1)
