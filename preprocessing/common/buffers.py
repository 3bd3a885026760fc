"""Memory for batches and row groups that is reused once nothing refers to it."""

from __future__ import annotations

import threading
import weakref
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# TensorFlow uses an array in place if its address is a multiple of this, and copies it if not.
_ALIGNMENT = 64
# Free blocks that are kept: about as many as a stream has in use.
_FREE = 4


class _Block(NamedTuple):
    memory: NDArray[np.uint8]
    user: weakref.ref[NDArray[np.uint8]]  # the array last made of it; gone once nothing uses the memory

    @property
    def free(self) -> bool:
        return self.user() is None


class Buffers:
    """Arrays of uint8 that TensorFlow uses without a copy.

    Memory is handed out again only when no array, view or tensor uses it: every numpy view refers to the array that it
    was made from, and TensorFlow refers to the view that it was given as long as a tensor lives. Without reuse each
    batch would take new pages from the kernel, and to fill those takes longer than the copy.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An uninitialised uint8 array of that shape."""
        size = int(np.prod(shape))
        with self._lock:
            memory = self._free_memory(size + _ALIGNMENT)
            # Made from a memoryview, not from the array: else numpy would let views refer to `memory` directly, and
            # `user` could be gone while they are in use.
            user = np.frombuffer(memory.data, np.uint8)
            self._blocks.append(_Block(memory, weakref.ref(user)))
        start = -user.ctypes.data % _ALIGNMENT
        array: NDArray[np.uint8] = user[start : start + size].reshape(shape)
        return array

    def _free_memory(self, size: int) -> NDArray[np.uint8]:
        """Memory of at least `size` bytes that nothing uses, taken from the list."""
        found, free = None, 0
        for index in reversed(range(len(self._blocks))):
            block = self._blocks[index]
            if not block.free:
                continue
            if block.memory.nbytes >= size and found is None:
                found = self._blocks.pop(index).memory
            elif block.memory.nbytes < size or free == _FREE:
                del self._blocks[index]
            else:
                free += 1
        return np.empty(size, np.uint8) if found is None else found
