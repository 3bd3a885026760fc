"""What one replica computes: its part of a training step and of an evaluation. It only reads variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery.experiment.config import AdamW, Experiment, Training
from lottery.models import custom
from lottery.training import loss_scale, scores

_SUM = tf.distribute.ReduceOp.SUM
SEED_GENERATOR = "seed_generator_state"  # Keras' name of a SeedGenerator's variable: int64 [2], seed and counter
_SEED_STRIDE = 0x9E3779B97F4A7C  # between the seeds of two replicas: odd, and far from any seed that a user gives


class Replica:
    """One of the replicas that compute a step together, each on its part of the global batch.

    Args:
        model: called statelessly; its variables are mirrored.
        experiment: batch and recipe.
        masks: by kernel path, variables of 0 and 1.
        scale: the loss scale, a variable; used with mixed_float16 only.
        shape: [height, width, channels] of an image.
        classes: number of classes.
        mean, std: per channel, in units of 0..255; a channel that is constant, std 0, becomes 0.
        replicas, local: how many replicas there are, over all workers and in each.
    """

    def __init__(
        self,
        model: keras.Model,
        experiment: Experiment,
        masks: Mapping[str, Any],
        scale: Any,
        shape: tuple[int, int, int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        replicas: int,
        local: int,
    ) -> None:
        self._model, self._masks, self._scale = model, masks, scale
        self._training_argument = custom.training_argument(model, True)
        self._training, self._batch = experiment.training, experiment.data.batch
        self._shape, self._classes, self._replicas, self._local = shape, classes, replicas, local
        deviation = np.asarray(std, np.float32)
        self._mean = tf.constant(mean, tf.float32)
        self._deviation = tf.constant(np.where(deviation == 0, np.float32(1), deviation))

    def step(self, images: Any, labels: Any) -> tuple[Any, list[Any], list[Any], Any]:
        """(loss, gradients, new values of the model's other variables, whether to take the step).

        All but the seed generators are the same on every replica.

        Args:
            images, labels: this worker's part of the global batch, from which a replica takes its own.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = self._batch // self._replicas
        place = replica % self._local
        images, labels = (tensor[place * share : (place + 1) * share] for tensor in (images, labels))
        images, labels = tf.ensure_shape(images, [share, *self._shape]), tf.ensure_shape(labels, [share])
        weights = [tf.convert_to_tensor(weight.value) for weight in self._model.trainable_variables]
        others = [tf.convert_to_tensor(other.value) for other in self._model.non_trainable_variables]
        offset = tf.cast(replica, tf.int64) * tf.constant([_SEED_STRIDE, 0], tf.int64)
        offsets = [offset if other.name == SEED_GENERATOR else None for other in self._model.non_trainable_variables]
        others = [other if by is None else other + by for other, by in zip(others, offsets, strict=True)]
        scale = self._scale if self._training.precision == "mixed_float16" else 1.0
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, others, extra = self._model.stateless_call(
                weights, others, self._normalise(images), return_losses=True, **self._training_argument
            )
            loss = self._loss(logits, labels)
            if extra:  # a user's model has regularizers, or adds losses of its own
                loss += tf.add_n([tf.cast(term, tf.float32) for term in extra]) / self._replicas
            scaled = loss * scale
        gradients = tape.gradient(scaled, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        others = [other if by is None else other - by for other, by in zip(others, offsets, strict=True)]
        loss, gradients, others = self._reduce(loss, gradients, others)
        if self._training.precision != "mixed_float16":
            return loss, self._shape_gradients(gradients), others, True
        finite = loss_scale.all_finite(gradients)
        return loss, self._shape_gradients([gradient / scale for gradient in gradients]), others, finite

    def sums(self, images: Any, labels: Any) -> Any:
        """`scores.sums` over this replica's part of this worker's part of a batch, of any size."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = tf.shape(labels)[0]
        share = -(-count // self._local)
        first = replica % self._local * share
        # A replica with no image left scores one that does not count: convolutions refuse empty batches.
        first, counts = tf.where(first < count, first, 0), tf.cast(first < count, tf.float64)
        images, labels = (tensor[first : first + share] for tensor in (images, labels))
        return counts * scores.sums(self._model(self._normalise(images), training=False), labels)

    def _normalise(self, images: Any) -> Any:
        return (tf.cast(images, tf.float32) - self._mean) / self._deviation

    def _loss(self, logits: Any, labels: Any) -> Any:
        """This replica's part of the mean cross-entropy over the global batch."""
        targets = tf.one_hot(labels, self._classes)
        smoothing = self._training.label_smoothing
        if smoothing:
            targets = targets * (1.0 - smoothing) + smoothing / self._classes
        each = tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
        return tf.reduce_sum(each) / self._batch

    def _reduce(self, loss: Any, gradients: list[Any], others: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        """Sums over replicas of loss and gradients, means of the statistics."""
        if self._replicas == 1:
            return loss, gradients, others
        context = tf.distribute.get_replica_context()
        means = [index for index, other in enumerate(others) if other.dtype.is_floating]
        parts = [others[index] / self._replicas for index in means]
        loss, *reduced = context.all_reduce(_SUM, [loss, *gradients, *parts])
        others = list(others)
        for index, mean in zip(means, reduced[len(gradients) :], strict=True):
            others[index] = mean
        return loss, reduced[: len(gradients)], others

    def _shape_gradients(self, gradients: list[Any]) -> list[Any]:
        """The gradients with 0 at masked weights, so that their slots, 0 at the start, stay 0; clipped; with L2 decay.

        Clipping bounds the norm of the loss's gradient over the weights that are kept.
        """
        weights = self._model.trainable_variables
        masks = [self._masks.get(weight.path) for weight in weights]
        gradients = [
            gradient if mask is None else gradient * mask for gradient, mask in zip(gradients, masks, strict=True)
        ]
        if self._training.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._training.clip_norm)
        strength = self._training.weight_decay
        if strength and not decoupled(self._training):
            gradients = [
                gradient + strength * weight.value if is_kernel(weight) else gradient
                for gradient, weight in zip(gradients, weights, strict=True)
            ]
        return gradients


def is_kernel(variable: Any) -> bool:
    """Whether weight decay applies to this variable."""
    return str(variable.name).endswith("kernel")


def decoupled(training: Training) -> bool:
    """Whether weight decay acts on the weights themselves, apart from the gradient."""
    kind = training.weight_decay_kind
    return isinstance(training.optimizer, AdamW) if kind is None else kind == "decoupled"
