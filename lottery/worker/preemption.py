"""How a child process ends with those above it: it is given notice, saves what it has, and is gone when it is over.

Spot machines give notice by SIGTERM, to whichever process; a Python worker that Spark ends may get no signal that it
could act on. Either way the child gets SIGTERM: from outside, or from the kernel when the Python worker dies.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from types import FrameType

from lottery.protocol import NOTICE

_PR_SET_PDEATHSIG = 1


class Leaving(Exception):  # noqa: N818 - no error
    """The process has been given notice: it saves and leaves."""


class Notice:
    """Whether this process has been given notice. Until `heed` is called, SIGTERM simply ends it."""

    def __init__(self) -> None:
        self._given = False

    def heed(self) -> None:
        """From now on SIGTERM is an announcement."""
        signal.signal(signal.SIGTERM, self._take)

    def give(self) -> None:
        """Announces from within that it is time to leave."""
        self._given = True

    def check(self) -> None:
        """Raises Leaving where notice was given."""
        if self._given:
            raise Leaving

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.give()


def end_with_parent(notice: float = NOTICE) -> None:
    """Called first in a child of `supervise`: when its parent dies it gets SIGTERM, and SIGKILL after `notice` seconds.

    A child that lives on would keep its GPU. One that is stopped, or stuck in a library, cannot end itself: a second,
    small process outlasts the parent and kills it. Linux only; elsewhere a child of a killed parent lives on until it
    next writes an event.
    """
    parent = os.environ.get("LOTTERY_PARENT")
    if parent is None or not sys.platform.startswith("linux"):
        return
    child = os.getpid()
    if os.fork() == 0:
        _end_with(signal.SIGKILL, child)
        _guard(notice)
    _end_with(signal.SIGTERM, int(parent))


def _guard(notice: float) -> None:
    """Waits for the end of the supervisor, which holds the other end of standard input; then kills the group."""
    for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    os.closerange(1, 3)  # the supervisor reads them to their end
    ended = select.poll()
    ended.register(0, 0)  # for nothing but the hang-up: what comes in is the child's
    ended.poll()
    time.sleep(notice)
    os.killpg(0, signal.SIGKILL)


def _end_with(number: signal.Signals, parent: int) -> None:
    """Has the kernel send this process a signal when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before prctl was called
        os.kill(os.getpid(), number)
