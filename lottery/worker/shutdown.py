"""How a child process is told to stop: it saves its work and exits.

Spot machines announce their end by SIGTERM, to whichever process. A Python worker that Spark ends may get no signal
that it could act on. Either way the child gets SIGTERM: from outside, or from the kernel when the Python worker dies.
"""

from __future__ import annotations

import signal
from types import FrameType


class ShutdownRequested(Exception):  # noqa: N818 - not an error
    """The process was told to stop: it saves and exits."""


class ShutdownRequest:
    """Whether this process has been told to stop. Until `install` is called, SIGTERM simply ends it."""

    def __init__(self) -> None:
        self._requested = False

    def install(self) -> None:
        """From now on SIGTERM is a request, which `check` raises."""
        signal.signal(signal.SIGTERM, self._handle)

    def request(self) -> None:
        """Requests a shutdown from within."""
        self._requested = True

    def check(self) -> None:
        """Raises ShutdownRequested if a shutdown was requested."""
        if self._requested:
            raise ShutdownRequested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request()
