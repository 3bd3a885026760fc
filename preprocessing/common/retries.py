"""Trying again after a store failed."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa

from preprocessing.common import storage_errors
from preprocessing.common.errors import StorageError
from preprocessing.common.storage import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds before the second, third ... attempt. The clients of S3 and GCS have retried a few times themselves by then.
# The last is for a NameNode that has just started, and does not know yet where the blocks are.
PAUSES = (0.1, 0.5, 2.0, 4.0)
# For work that must not be lost: bridges 20 s without the store, even if every attempt fails at once.
PATIENT_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 16.0)


def retrying(
    action: Callable[[], T],
    pauses: Sequence[float] | None = None,
    failed: Callable[[Exception], None] = lambda error: None,
) -> T:
    """The result of `action`, tried again after failures that may pass. The last failure is raised.

    Args:
        pauses: seconds before the second, third ... attempt; `PAUSES` if None.
        failed: called with each failure that is followed by another attempt.
    """
    for pause in PAUSES if pauses is None else pauses:
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
            failed(error)
        time.sleep(pause * random.uniform(0.5, 1.5))  # so that a gang's tasks do not come back all at once
    return action()


def patiently(action: Callable[[], T], *stores: Store) -> T:
    """The result of `action`, which works on these stores and can be run again after it failed half-way.

    If one of them is remote, failures that may pass are tried again for a minute or so, each with a line in the log.
    A local disk that fails does not come back by itself: there nothing is tried again.
    """
    if all(store.is_local for store in stores):
        return action()
    return retrying(action, PATIENT_PAUSES, lambda error: logger.warning("%s; trying again", error))


def may_pass(error: BaseException | None) -> bool:
    """Whether a failure may be temporary. A missing file, a refusal and a mistake in the input are not."""
    if isinstance(error, StorageError):  # as `Store` explains what the filesystem said
        error = error.__cause__
    return isinstance(error, OSError | pa.ArrowException) and storage_errors.may_pass(error)
