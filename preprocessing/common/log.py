"""The programs' log: plain lines on standard error, which the user can filter."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line

LEVEL = "LOTTERY_LOG_LEVEL"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_OURS = ("lottery", "preprocessing")


def configure() -> None:
    """Logs to standard error from INFO up, or from the level that LOTTERY_LOG_LEVEL names.

    For programs, not for libraries: an application that embeds this suite sets up its own handlers. May be called
    again. Raises InputError for an unknown level.
    """
    level = os.environ.get(LEVEL) or "INFO"
    if level not in _LEVELS:
        raise InputError(f"{LEVEL}={level} is not a level; give one of {', '.join(_LEVELS)}")
    handler = _StandardError()
    handler.setFormatter(_Line())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
    # py4j logs, with a traceback, what it also raises; some of it on the root logger.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    root = logging.getLogger()
    root.addFilter(_is_not_py4j)
    if not root.handlers:  # else such a call would add one, which repeats our lines
        root.addHandler(_others())


def _is_not_py4j(record: logging.LogRecord) -> bool:
    return "/py4j/" not in record.pathname


def _others() -> logging.Handler:
    """Shows other libraries' warnings and errors, as Python does if no handler is set up."""
    handler = _StandardError()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.name.split(".")[0] not in _OURS)
    return handler


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Line(logging.Formatter):
    """The message on one line; a warning or an error begins with that word."""

    def format(self, record: logging.LogRecord) -> str:
        kind = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return kind + one_line(record.getMessage())
