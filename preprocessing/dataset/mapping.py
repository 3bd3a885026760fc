"""A file's bytes as a memory-mapped array that keeps no descriptor open: there may be more files than the limit."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

import numpy as np
from numpy.typing import NDArray

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value


def map_file(descriptor: int, size: int) -> NDArray[np.uint8]:
    """The first `size` bytes of an open file, uint8 [size], read-only, mapped for as long as any view of them is alive.

    The descriptor may be closed at once; Python's own `mmap` would keep a copy of it. Raises `OSError` if the
    filesystem cannot be mapped or there is not enough address space.
    """
    address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    held = (ctypes.c_uint8 * size).from_address(address)
    weakref.finalize(held, _LIBC.munmap, address, size).atexit = False  # threads may read to the end of the process
    found: NDArray[np.uint8] = np.ctypeslib.as_array(held)
    found.flags.writeable = False
    return found


def release(mapped: NDArray[np.uint8]) -> None:
    """Takes the pages of an array that `map_file` made out of this process' resident memory.

    They stay in the system's cache and come back when they are read. Resource managers such as YARN add up the resident
    memory of all processes of a container, and would count each page once for every process that has read it.
    """
    if mapped.nbytes:
        _LIBC.madvise(mapped.ctypes.data, mapped.nbytes, mmap.MADV_DONTNEED)
