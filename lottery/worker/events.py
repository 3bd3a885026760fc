"""Events for the supervisor, on standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lottery.protocol import Event, Report, encode_event
from lottery.worker.shutdown import ShutdownRequest


def event_writer(shutdown: ShutdownRequest) -> Report:
    """Writes events, one per line. If the reader is gone, it requests a shutdown, and raises no error."""

    def write(event: Event) -> None:
        try:
            sys.stdout.write(encode_event(event).decode())
            sys.stdout.flush()
        except BrokenPipeError:  # the supervisor is gone; SIGTERM follows, or came just now
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - the old one would fail again at the end
            shutdown.request()

    return write
