"""The loss scale that keeps float16 gradients from vanishing (Micikevicius et al., 2018, section 3.2)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# The usual numbers.
FIRST_SCALE = 2.0**15
_GROW_AFTER = 2000  # steps in a row with finite gradients
_FACTOR = 2.0


def next_scale(scale: Any, good: Any, finite: Any) -> tuple[Any, Any]:
    """The loss scale after a step, and how many steps in a row have been good.

    It halves after a step whose gradients were not all finite (the step is skipped), and doubles after 2,000 good ones.
    """
    good = tf.where(finite, good + 1, tf.zeros_like(good))
    grows = good >= _GROW_AFTER
    grown = tf.where(grows, scale * _FACTOR, scale)
    return tf.where(finite, grown, tf.maximum(scale / _FACTOR, 1.0)), tf.where(grows, tf.zeros_like(good), good)


def all_finite(tensors: list[Any]) -> Any:
    """Whether no element is infinite or not a number, as a scalar."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors])
