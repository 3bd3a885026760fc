"""A network's scores on an evaluation split: sums over batches, and their means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """Means over an evaluation split."""

    top1: float
    top5: float
    loss: float


def sums(logits: Any, labels: Any) -> tuple[Any, Any]:
    """A batch's sums, float64 [4]: right answers, right ones among the five likeliest, loss, images.

    And which answers are right, bool [batch].
    """
    logits = tf.cast(logits, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = in_top_k(logits, labels, 1)
    parts = right, in_top_k(logits, labels, 5), loss, tf.ones_like(loss)
    return tf.stack([tf.reduce_sum(tf.cast(part, tf.float64)) for part in parts]), right


def means(total: NDArray[np.float64]) -> Scores:
    """The scores of `sums` added up over all batches."""
    top1, top5, loss, count = total.tolist()
    return Scores(top1 / count, top5 / count, loss / count)


def in_top_k(logits: Any, labels: Any, top: int) -> Any:
    """Whether each label is among the `top` likeliest classes, bool [batch].

    Of equal logits the lower class is the likelier, so that a network whose output is constant is right by chance only
    (tf.math.in_top_k calls all of them right). Where a logit is not finite, nothing is.
    """
    own = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]
    lower = tf.range(tf.shape(logits)[1])[None, :] < labels[:, None]
    ahead = tf.logical_or(logits > own, tf.logical_and(tf.equal(logits, own), lower))
    rank = tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1)
    return tf.logical_and(rank < top, tf.reduce_all(tf.math.is_finite(logits), axis=1))
