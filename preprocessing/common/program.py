"""Running a program: its log, its errors in a line, its exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import NoReturn

from preprocessing.common import log
from preprocessing.common.errors import InputError
from preprocessing.common.signals import EXIT_INTERRUPTED


def run_or_explain(main: Callable[[], int]) -> NoReturn:
    """Runs a program's `main` and exits with its status; an `InputError` becomes one line on stderr, no traceback.

    So does a Ctrl-C outside of `run_until_signal`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show must not end a job
            stream.reconfigure(errors="backslashreplace")
    try:
        log.configure()
        status = main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        status = error.exit_status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        status = EXIT_INTERRUPTED
    sys.exit(status)
