"""The errors that a user is meant to read, their kinds, and the exit statuses that go with them."""

from __future__ import annotations

from enum import Enum

import msgspec

from preprocessing.common.names import one_line

EXIT_BAD_INPUT = 2
EXIT_STORAGE = 74  # EX_IOERR of sysexits.h


class Kind(Enum):
    """What sort of failure it is: what has to survive on the way from one process to another."""

    BAD_INPUT = "bad input"
    STORAGE = "storage"
    GPU_LOST = "GPU lost"
    OUT_OF_MEMORY = "out of memory"
    CHILD_DIED = "child died"
    WORKER_DIED = "Python worker died"
    SPARK_ENDED = "Spark ended"
    OTHER = "other"


class Failure(msgspec.Struct, frozen=True):
    """An error on its way between processes: its kind, and its message on one line."""

    kind: Kind
    message: str


class InputError(Exception):
    """Something the user gave cannot be used. The message is one line: the input, its value, the remedy."""

    exit_status = EXIT_BAD_INPUT
    kind = Kind.BAD_INPUT

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # a file's name may hold anything


class StorageError(InputError):
    """Storage failed, but may work later: full, unreachable, or not permitted. The same work can be tried again."""

    exit_status = EXIT_STORAGE
    kind = Kind.STORAGE


def failure_of(error: BaseException) -> Failure:
    """The failure that an error stands for: an exception's own `kind`, else OTHER with its class in the message."""
    kind = getattr(error, "kind", None)
    if isinstance(kind, Kind):
        return Failure(kind, one_line(str(error)))
    return Failure(Kind.OTHER, one_line(f"{type(error).__name__}: {error}"))
