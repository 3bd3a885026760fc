"""What programs say about their progress: plain lines on standard error, which whoever runs them can filter."""

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
    """Has this process' programs say what they log at INFO and above, or at the level that LOTTERY_LOG_LEVEL names.

    For programs, not for libraries: an application that embeds this suite sets up its own handlers. May be called
    again. Raises InputError for an unknown level.
    """
    level = os.environ.get(LEVEL) or "INFO"
    if level not in _LEVELS:
        raise InputError(f"{LEVEL}={level}: is no level; give one of {', '.join(_LEVELS)}")
    handler = _StandardError()
    handler.setFormatter(_Line())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
    # py4j logs, with a traceback, what it also raises: with its own logger, and with the root's.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    root = logging.getLogger()
    root.addFilter(_is_not_from_py4j)
    if not root.handlers:  # else logging.exception, which py4j calls, adds one that repeats our messages
        others = _StandardError()
        others.setLevel(logging.WARNING)
        others.addFilter(_is_not_ours)
        root.addHandler(others)


def _is_not_from_py4j(record: logging.LogRecord) -> bool:
    return "/py4j/" not in record.pathname


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] not in _OURS


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
