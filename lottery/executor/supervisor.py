"""One child process at a time: started in its own group, watched for progress, never left behind."""

from __future__ import annotations

import contextlib
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
from typing import IO

import msgspec
import psutil

from lottery.protocol import EXIT_NOTICE, KINDS, NOTICE
from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import Failure, Kind

_TAIL_BYTES = 4000
_POLL = 0.5  # seconds
_ALONE = 90.0  # seconds that a child may be silent after another that trains with it has ended
_DYING = 30.0  # seconds that a killed process may take to be gone: a GPU's driver tidies up


class ChildError(Exception):
    """A child died again and again, or cannot be ended; the message says why."""

    kind = Kind.CHILD_DIED


class Ended(msgspec.Struct, frozen=True):
    """How a child ended: its exit status (negative: the signal that killed it), why, and the end of its log."""

    status: int
    reason: str
    tail: str
    failure: Failure | None = None  # as the child itself reported it
    alone: bool = False  # killed, since another that trained with it had ended, and it waited for that one

    @property
    def kind(self) -> Kind | None:
        """What sort of failure ended it; None if it did what it was told, or left on notice."""
        if self.failure is not None:
            return self.failure.kind
        return None if self.status == 0 or self.on_notice else KINDS.get(self.status, Kind.CHILD_DIED)

    @property
    def message(self) -> str:
        """Why, on one line: the child's own message, else the end of its log."""
        if self.failure is not None:
            return self.failure.message
        return " | ".join(self.tail.splitlines()[-5:])[-1000:] or "its log is empty"

    @property
    def on_notice(self) -> bool:
        """Whether it was told to leave. That is not its fault."""
        return self.status in (EXIT_NOTICE, -signal.SIGTERM)


def supervise(
    module: str,
    message: bytes,
    environment: Mapping[str, str],
    hang_after: float,
    on_line: Callable[[bytes], None],
    other_ended: Callable[[], bool] = lambda: False,
) -> Ended:
    """Runs `python -m module` with `message` on its standard input, until it ends.

    `environment` is the child's whole environment, but for LOTTERY_PARENT. `on_line` gets each line of its standard
    output. A child that writes none for `hang_after` seconds is killed: a hung child looks healthy to Spark, whose
    heartbeats come from the JVM. `other_ended` says whether a child that trains together with this one has ended:
    this one then has 90 s to notice, or until `hang_after` if that is sooner. However this call ends, the child's
    whole process group is gone afterwards. If this process itself is killed, the kernel gives the child notice (see
    `lottery.worker.parent_death`).

    Raises ChildError if the child cannot be killed.
    """
    _wait_for_orphans()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment, "LOTTERY_PARENT": str(os.getpid())},
            start_new_session=True,
        )
        with afterwards(lambda: _end(child)):
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it may have died already
                child.stdin.write(message)
                child.stdin.flush()
            silence = _relay(child, hang_after, on_line, other_ended)
        return Ended(child.returncode, silence.reason or _why(child.returncode), _tail(log), alone=silence.alone)


def _wait_for_orphans() -> None:
    """Waits a while for children of tasks that are gone: they are saving what is needed next, and hold GPUs."""
    deadline = time.monotonic() + NOTICE
    while any(map(_is_orphan, psutil.process_iter())) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _is_orphan(process: psutil.Process) -> bool:
    try:
        parent = process.environ().get("LOTTERY_PARENT")
        return parent is not None and not psutil.pid_exists(int(parent))
    except (psutil.Error, ValueError):  # ended just now, or another user's
        return False


@dataclass(frozen=True)
class _Silence:
    """Why a child has to be killed: it reported nothing for too long. Without a reason it has ended by itself."""

    reason: str = ""
    alone: bool = False


def _relay(
    child: subprocess.Popen[bytes],
    hang_after: float,
    on_line: Callable[[bytes], None],
    other_ended: Callable[[], bool],
) -> _Silence:
    """Passes lines on until the child has ended, or has been silent for too long."""
    stdout = child.stdout
    assert stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        with stdout:
            for line in stdout:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    heard = time.monotonic()
    closed = alone = False
    patience = hang_after
    while time.monotonic() - heard < patience:
        if not alone and other_ended():
            alone, heard, patience = True, time.monotonic(), min(_ALONE, hang_after)
        try:
            if closed:  # the child is about to end; or it lives on silently, and then it has hung
                child.wait(_POLL)
                return _Silence()
            line = lines.get(timeout=_POLL)
        except queue.Empty:
            if child.poll() is not None:  # what it started may hold its output open
                return _Silence()
            continue
        except subprocess.TimeoutExpired:
            continue
        if line is None:
            closed = True
            continue
        heard = time.monotonic()
        on_line(line)
    after = " after the process of another task that trains with it had ended" if alone else ""
    return _Silence(f"no progress for {patience:.0f} s{after}", alone)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the child's group. Raises ChildError if the child lives on."""
    _kill_group(child)
    try:
        child.wait(_DYING)
    except subprocess.TimeoutExpired:
        raise ChildError(
            f"process {child.pid} outlives SIGKILL: the kernel waits for a device or a file system; look at the machine"
        ) from None
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _why(status: int) -> str:
    if status == EXIT_NOTICE:
        return "told to leave by SIGTERM"
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _TAIL_BYTES))
    return log.read().decode(errors="replace").strip()
