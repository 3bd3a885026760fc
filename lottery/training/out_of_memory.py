"""Errors that mean that a GPU's memory is full."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

# CUDA's libraries ask for memory too, and TensorFlow passes their failures on as others than its own.
_FULL = re.compile(r"failed to allocate the scratch space|STATUS_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY")


@contextmanager
def recognised() -> Iterator[None]:
    """Raises ResourceExhaustedError for whatever error of TensorFlow means that a GPU's memory is full."""
    try:
        yield
    except (tf.errors.UnknownError, tf.errors.InternalError) as error:
        line = next((line.strip() for line in str(error).splitlines() if _FULL.search(line)), None)
        if line is None:
            raise
        raise tf.errors.ResourceExhaustedError(error.node_def, error.op, f"OOM: {line}") from error
