"""How a child process ends when its parent dies: it is told to stop, and killed when its time is over."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

from lottery.protocol import NOTICE

_PR_SET_PDEATHSIG = 1


def end_with_parent(notice: float = NOTICE) -> None:
    """Called first in a child of `supervise`: when its parent dies it gets SIGTERM, and SIGKILL after `notice` seconds.

    A child that lives on would keep its GPU. A child that is stopped, or stuck in a library, cannot end itself: a
    second, small process outlives the parent and kills it. Linux only; elsewhere a child of a killed parent lives on
    until it next writes an event.
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
    ended.register(0, 0)  # for the hang-up only: the input is the child's
    ended.poll()
    time.sleep(notice)
    os.killpg(0, signal.SIGKILL)


def _end_with(number: signal.Signals, parent: int) -> None:
    """Has the kernel send this process a signal when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before prctl was called
        os.kill(os.getpid(), number)
