"""Runs of batches, each assembled by several processes at once into shared memory.

Threads would wait for each other: a fifth of the work on an image holds Python's lock.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType

import msgspec
import numpy as np
from numpy.typing import NDArray

from lottery.input.assembler_process import ORDER, Request
from lottery.input.batch_assembler import Images, Labels
from preprocessing.common.errors import Failure, InputError, Kind, StorageError

# Pixels of a stream from which on processes assemble it. They take a second to start, and then a core each.
LONG_BYTES = 4 * 2**30
_HELD = 4  # runs in use at a time: the one that is trained on, the next one, and what TensorFlow lets go of late
_AHEAD = 2, 4  # fewest and most runs that are being assembled: with more, processes wait less for each other
_AHEAD_BYTES = 32 * 2**20

_ERRORS = {Kind.BAD_INPUT: InputError, Kind.STORAGE: StorageError}


def slot_count(run_bytes: int) -> int:
    """How many runs of at most `run_bytes` the shared memory holds: 6 to 8. A worker's part of a batch may be empty."""
    return _HELD + max(_AHEAD[0], min(_AHEAD[1], _AHEAD_BYTES // max(1, run_bytes)))


class AssemblerError(Exception):
    """Batches cannot be assembled, by no known fault of the data: a process has died, or by an unforeseen error."""


class AssemblerProcesses:
    """Processes that assemble runs together, a part each, in the order in which the runs are asked for.

    The shared memory has no name in any filesystem, and the processes end with their standard input: nothing is left
    when this process is killed.

    Args:
        request: what they work on; `memory`, `part` and `parts` are filled in here.
        count: how many processes.

    Raises OSError if there is no shared memory, or no process can be started.
    """

    def __init__(self, request: Request, count: int) -> None:
        self._slots = request.slots
        self._ahead = request.slots.count - _HELD
        descriptor = os.memfd_create("batches")
        try:
            os.posix_fallocate(descriptor, 0, self._slots.bytes)  # now, instead of a SIGBUS when it is written
            self._memory = mmap.mmap(descriptor, self._slots.bytes)
            self._users: list[weakref.ref[NDArray[np.uint8]] | None] = [None] * self._slots.count
            self._processes: list[subprocess.Popen[bytes]] = []
            try:
                for part in range(count):
                    own = msgspec.structs.replace(request, memory=descriptor, part=part, parts=count)
                    self._processes.append(_start(own))
            except BaseException:
                self.close()
                raise
        finally:
            os.close(descriptor)

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [process.pid for process in self._processes]

    def runs(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[Images, Labels]]:
        """For each [first, last) of `runs` its batches: uint8 [steps, batch, side, side, 3], int32 [steps, batch].

        Memory is used again only when no array, view or tensor uses it. If what is left is needed for runs that are
        being assembled, a run is copied.

        Raises InputError or StorageError if the data cannot be read, AssemblerError if a process has died.
        """
        self._wait_for_all()  # until they are ready
        under_way: deque[tuple[int, int]] = deque()
        free = list(range(self._slots.count))
        held: list[int] = []
        coming = iter(runs)
        while True:
            in_use = [slot for slot in held if self._is_in_use(slot)]  # once: another thread may let go of one any time
            free += [slot for slot in held if slot not in in_use]
            held = in_use
            while len(under_way) < self._ahead and (run := next(coming, None)):
                slot = free.pop()
                self._order(slot, *run)
                under_way.append((slot, run[1] - run[0]))
            if not under_way:
                return
            slot, steps = under_way.popleft()
            self._wait_for_all()
            images, labels = self._take(slot, steps)
            if len(held) >= _HELD:
                images = images.copy()
            held.append(slot)
            yield images, labels
            del images  # it would keep its slot

    def close(self) -> None:
        """Ends the processes, without waiting for what they have in hand."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            with process, suppress(OSError):
                pass

    def __enter__(self) -> AssemblerProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _order(self, slot: int, first: int, last: int) -> None:
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # its answer says why
                process.stdin.write(ORDER.pack(slot, first, last))

    def _wait_for_all(self) -> None:
        for process in self._processes:
            assert process.stdout is not None
            answer = process.stdout.readline()
            if not answer.endswith(b"\n"):
                raise _death(process)
            if answer != b"\n":
                failure = msgspec.json.decode(answer, type=Failure)
                raise _ERRORS.get(failure.kind, AssemblerError)(failure.message)

    def _take(self, slot: int, steps: int) -> tuple[Images, Labels]:
        # Made from a memoryview: numpy would let views of an array refer past it to the array that it was made from.
        user = np.frombuffer(memoryview(self._memory), np.uint8)
        self._users[slot] = weakref.ref(user)
        return self._slots.images(user, slot, steps), self._slots.labels(user, slot, steps).copy()

    def _is_in_use(self, slot: int) -> bool:
        user = self._users[slot]
        return user is not None and user() is not None


def _start(request: Request) -> subprocess.Popen[bytes]:
    # A Ctrl-C or a notice is for the process that trains: it saves first. A blocked signal stays blocked in a child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "lottery.input.assembler_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[request.memory],
            # Files that spark-submit was given with --py-files are on this path and on no other.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # whoever waits for its answer learns why
        process.stdin.write(msgspec.json.encode(request) + b"\n")
    return process


def _death(process: subprocess.Popen[bytes]) -> AssemblerError:
    status = process.wait()
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    why = "when memory runs out; give executors more memory, or --set input.threads=1"
    if status == -signal.SIGBUS:  # what mapped memory raises beyond the end of its file
        why = "when a file of the dataset is cut short while it is read; copy the dataset again"
    return AssemblerError(f"a process that assembles batches has died ({how}), as {why}")
