"""Events for the supervisor, on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lottery.worker.shutdown import ShutdownRequest


def event_writer(shutdown: ShutdownRequest) -> Callable[[dict[str, Any]], None]:
    """Writes events, one JSON object per line. If nobody reads them any more, that requests a shutdown: no error."""

    def write(event: dict[str, Any]) -> None:
        try:
            print(json.dumps(event), flush=True)
        except BrokenPipeError:  # the supervisor is gone; SIGTERM follows, or came just now
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - the old one would fail again at the end
            shutdown.request()

    return write
