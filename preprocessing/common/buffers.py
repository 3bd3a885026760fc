"""Memory for batches and row groups that is reused once nothing refers to it."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

# TensorFlow uses an array in place if its address is a multiple of this, and copies it if not.
_ALIGNMENT = 64
# Free blocks that are kept: about as many as a stream has in use.
_FREE = 4


class Buffers:
    """Arrays of uint8 that TensorFlow uses without a copy.

    A block is handed out again only when no array, view or tensor refers to it: in numpy every view refers to the array
    that owns the memory, and TensorFlow refers to the view it was given for as long as a tensor lives. Without reuse
    each batch would take new pages from the kernel, and to fill those takes longer than the copy.
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An uninitialised uint8 array of that shape."""
        size = int(np.prod(shape))
        with self._lock:
            block = self._free_block(size + _ALIGNMENT)
        start = -block.ctypes.data % _ALIGNMENT
        array: NDArray[np.uint8] = block[start : start + size].reshape(shape)
        return array

    def _free_block(self, size: int) -> Any:
        found, free = None, 0
        for index in reversed(range(len(self._blocks))):
            if sys.getrefcount(self._blocks[index]) > 2:  # one is the list's, one the argument's
                continue
            if self._blocks[index].nbytes >= size and found is None:
                found = self._blocks[index]
            elif self._blocks[index].nbytes < size or free == _FREE:
                del self._blocks[index]
            else:
                free += 1
        if found is None:
            found = np.empty(size, np.uint8)
            self._blocks.append(found)
        return found
