"""How fast models compute on this machine, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

BATCH = 32  # images
_ROUNDS = 9
_SECONDS = 0.25  # that a round of one model takes at least


def compiled(model: keras.Model) -> Callable[[Any], Any]:
    """The model's outputs of a batch of images, as one graph."""
    found: Callable[[Any], Any] = tf.function(lambda images: model(images, training=False), autograph=False)
    return found


def images_per_second(
    models: Sequence[keras.Model], images: Any, on_progress: Callable[[], None] = lambda: None
) -> list[float]:
    """Images that each model computes in a second: the median of rounds in which they take turns."""
    calls, batch = [compiled(model) for model in models], tf.constant(images)
    counts = [_count(call, batch) for call in calls]
    rates: list[list[float]] = [[] for _ in models]
    for _ in range(_ROUNDS):
        for call, count, found in zip(calls, counts, rates, strict=True):
            found.append(count * len(images) / _seconds(call, batch, count))
            on_progress()
    return [statistics.median(found) for found in rates]


def _count(call: Callable[[Any], Any], batch: Any) -> int:
    """How many calls take a round's time."""
    _seconds(call, batch, 2)  # traces, and warms up
    return max(1, round(_SECONDS / _seconds(call, batch, 1)))


def _seconds(call: Callable[[Any], Any], batch: Any, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        outputs = call(batch)
    outputs.numpy()  # waits for the device
    return time.perf_counter() - begin
