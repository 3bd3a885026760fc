"""One child process at a time: started in its own group, watched for progress, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 4000
_POLL = 0.5  # seconds


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status (negative: the signal that killed it), why, and the end of its log."""

    status: int
    reason: str
    tail: str


def supervise(
    module: str,
    message: Mapping[str, Any],
    environment: Mapping[str, str],
    hang_after: float,
    on_event: Callable[[dict[str, Any]], None],
) -> Ended:
    """Runs `python -m module` with `message` as JSON on its standard input, until it ends.

    The child's standard output are events, a JSON object a line. One that says nothing for `hang_after` seconds is
    killed: a hung child looks healthy to Spark, whose heartbeats come from the JVM. Whatever ends this call, the
    child's whole process group is gone afterwards; where this process itself is killed, the kernel kills the child
    (see `die_with_parent`).
    """
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment, "LOTTERY_PARENT": str(os.getpid())},
            start_new_session=True,
        )
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin as stdin:  # it may have died already
                stdin.write(json.dumps(message).encode())
            hung = _relay(child, hang_after, on_event)
            if hung:
                _kill_group(child)
            status = child.wait()
        finally:
            _kill_group(child)
            child.wait()
        reason = f"no progress for {hang_after:.0f} s" if hung else _why(status)
        return Ended(status, reason, _tail(log))


def die_with_parent() -> None:
    """Called first in a child: has the kernel kill it when its parent dies, even where it hangs.

    Python workers are killed by Spark without a chance to clean up, and a child that lives on keeps its GPU. Linux
    only; elsewhere a child of a killed parent lives on until it next writes an event.
    """
    parent = os.environ.get("LOTTERY_PARENT")
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before prctl was called
        os.kill(os.getpid(), signal.SIGKILL)


def _relay(child: subprocess.Popen[bytes], hang_after: float, on_event: Callable[[dict[str, Any]], None]) -> bool:
    """Passes events on until the child closes its output or has ended; True where it went silent first."""
    stdout = child.stdout
    assert stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    heard = time.monotonic()
    while time.monotonic() - heard < hang_after:
        try:
            line = lines.get(timeout=_POLL)
        except queue.Empty:
            if child.poll() is not None:  # what it started may hold its output open
                return False
            continue
        if line is None:
            return False
        heard = time.monotonic()
        with contextlib.suppress(json.JSONDecodeError):  # a library's print
            event = json.loads(line)
            if isinstance(event, dict):
                on_event(event)
    return True


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _why(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _TAIL_BYTES))
    return log.read().decode(errors="replace").strip()
