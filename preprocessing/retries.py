"""Doing again what a store failed to do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from preprocessing.errors import InputError

T = TypeVar("T")

# Seconds before the second, third ... attempt. The clients of S3 and GCS have retried a few times themselves by then.
PAUSES = (0.1, 0.5, 2.0)


def retrying(action: Callable[[], T]) -> T:
    """What `action` returns, tried again after failures that may pass; the last failure is raised as it is."""
    for pause in PAUSES:
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))  # so that a gang's tasks do not come back all at once
    return action()


def may_pass(error: BaseException | None) -> bool:
    """Whether a failure may be one of the moment. A file that is not there and a refusal are not."""
    if isinstance(error, InputError):  # as `Store` explains what the filesystem said
        error = error.__cause__
    return isinstance(error, OSError | pa.ArrowException) and not isinstance(error, FileNotFoundError | PermissionError)
