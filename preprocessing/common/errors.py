"""The one exception that a user is meant to read, and the exit statuses that go with it."""

from __future__ import annotations

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
