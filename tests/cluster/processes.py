"""The processes of a sweep under test: finding them, waiting for them, ending them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import psutil

T = TypeVar("T")
MARK = "LOTTERY_TEST_RUNS"  # in the environment of a sweep's executors, and so of their children: its --runs
ROUND_UP = 10.0  # seconds for processes to end, once told to or once their notice is over
NOTICE = 30.0  # seconds that a spot machine has


def descendants(pid: int, word: str = "") -> list[psutil.Process]:
    """The processes below `pid` whose command line has `word`."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if word in " ".join(command_line(process))]


def children(runs: object, guards: bool = False) -> list[psutil.Process]:
    """The child processes of a sweep on a cluster, wherever they run, even if their parents have ended.

    With `guards`, also the small guard process beside each.
    """
    found = [each for each in psutil.process_iter() if _is_child(each, str(runs))]
    started = {each.pid for each in found}
    return [each for each in found if guards or _parent(each) not in started]


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], T], seconds: float = 120.0) -> T:
    """Polls until the condition returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def send(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended with another
            process.send_signal(number)


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_child(process: psutil.Process, runs: str) -> bool:
    if "lottery.worker" not in command_line(process):  # a zombie's is empty
        return False
    try:
        return process.environ().get(MARK) == runs
    except psutil.Error:
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None
