import numpy as np

from preprocessing.common.buffers import Buffers


def test_memory_is_aligned_and_used_again_only_when_free():
    buffers = Buffers()
    first = buffers.take((3, 100))
    assert first.ctypes.data % 64 == 0
    first[:] = 1
    view = first[1, 5:]
    address = first.ctypes.data
    del first
    second = buffers.take((3, 100))
    second[:] = 2
    assert not np.shares_memory(view, second)
    assert (view == 1).all()
    del view
    third = buffers.take((30,))  # a smaller one fits, too
    assert third.ctypes.data == address


def test_what_is_free_does_not_pile_up():
    buffers = Buffers()
    held = [buffers.take((100,)) for _ in range(50)]
    assert len({array.ctypes.data for array in held}) == 50
    del held
    buffers.take((100,))
    assert len(buffers._blocks) <= 5
    buffers.take((1000,))  # what is too small is let go
    assert len(buffers._blocks) == 1
