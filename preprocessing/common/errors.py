"""The one exception that a user is meant to read, and the exit statuses of the jobs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import NoReturn

from preprocessing.common.names import one_line

EXIT_BAD_INPUT = 2
EXIT_STORAGE = 74  # EX_IOERR of sysexits.h


class InputError(Exception):
    """Something the user gave cannot be used. The message is one line: the input, its value, the remedy."""

    exit_status = EXIT_BAD_INPUT

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # a file's name may hold anything


class StorageError(InputError):
    """Storage failed at something it may yet do: full, away, or not permitted. The same work can be tried again."""

    exit_status = EXIT_STORAGE


def run_or_explain(main: Callable[[], int]) -> NoReturn:
    """Runs a job's `main` and exits with its status; an `InputError` becomes one line on stderr, no traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name must not end a job where the terminal cannot show it
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        status = error.exit_status
    sys.exit(status)
