"""Cleaning up after work without hiding why the work failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def afterwards(clean_up: Callable[[], object]) -> Iterator[None]:
    """Calls `clean_up` after the block. If both fail, the block's error is raised and the other is logged."""
    try:
        yield
    except BaseException:
        try:
            clean_up()
        except Exception as error:
            logger.warning("the clean-up failed too: %s", error)
        raise
    clean_up()
