"""One replica's part of a training step and of an evaluation. It only reads variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lottery.experiment.config import Experiment
from lottery.experiment.sections import AdamW, Training
from lottery.models import custom
from lottery.training import loss_scale, scores
from lottery.training.layout import Layout
from lottery.training.state import KERNELS, REST, SCALE, SEED_GENERATOR

_SUM = tf.distribute.ReduceOp.SUM
_SEED_STRIDE = 0x9E3779B97F4A7C  # between the seeds of two replicas: odd, and far from any seed that a user gives


class Replica:
    """One of the replicas that compute a step together, each on its part of the global batch.

    Args:
        model: called statelessly.
        experiment: batch and recipe.
        layouts: the layout of each vector: the model's variables, the loss scale.
        vectors: the state, mirrored variables by name.
        mask: 0 and 1 for the vector of kernels, a mirrored variable.
        shape: [height, width, channels] of an image.
        classes: number of classes.
        mean, std: per channel, in units of 0..255; a channel that is constant, std 0, becomes 0.
        replicas, local: how many replicas there are, over all workers and in each.
    """

    def __init__(
        self,
        model: keras.Model,
        experiment: Experiment,
        layouts: Mapping[str, Layout],
        vectors: Mapping[str, Any],
        mask: Any,
        shape: tuple[int, int, int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        replicas: int,
        local: int,
    ) -> None:
        self._model, self._layouts, self._vectors, self._mask = model, layouts, vectors, mask
        paths = {variable.path for variable in model.non_trainable_variables}
        self._others = [name for name, layout in layouts.items() if paths & layout.places.keys()]
        seeds = {variable.path for variable in model.non_trainable_variables if variable.name == SEED_GENERATOR}
        self.drawing = [name for name in self._others if seeds & layouts[name].places.keys()]
        self._seeds = seeds
        self._weights = [name for name in (KERNELS, REST) if name in layouts]
        self._training_argument = custom.training_argument(model, True)
        self._training, self._batch = experiment.training, experiment.data.batch
        self._mixed = self._training.precision == "mixed_float16"
        self._shape, self._classes, self._replicas, self._local = shape, classes, replicas, local
        deviation = np.asarray(std, np.float32)
        self._mean = tf.constant(mean, tf.float32)
        self._deviation = tf.constant(np.where(deviation == 0, np.float32(1), deviation))
        self._own_part = self._forward_and_back
        if self._training.compile == "xla":
            self._own_part = tf.function(self._forward_and_back, jit_compile=True, autograph=False)

    def step(self, images: Sequence[Any], labels: Any, step: Any) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
        """(loss, gradients, new values of the model's other variables, whether to take the step).

        Gradients and values are vectors by name. All but the seed generators are the same on every replica.

        Args:
            images: for each of this worker's replicas its part of a run of batches.
            labels: this worker's part of a run of batches, from which a replica takes its own.
            step: which batch of the run.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        place, share = int(tf.get_static_value(replica)) % self._local, self._batch // self._replicas
        own = tf.ensure_shape(images[place][step], [share, *self._shape])
        labels = tf.ensure_shape(labels[step, place * share : (place + 1) * share], [share])
        offset = tf.cast(replica, tf.int64) * tf.constant([_SEED_STRIDE, 0], tf.int64)
        scale = self._vectors[SCALE][0] if self._mixed else 1.0
        loss, gradients, changed = self._reduce(*self._own_part(self._read(), own, labels, offset, scale))
        if not self._mixed:
            return loss, self._shape_gradients(gradients), changed, True
        finite = loss_scale.all_finite(list(gradients.values()))
        gradients = {name: gradient / scale for name, gradient in gradients.items()}
        return loss, self._shape_gradients(gradients), changed, finite

    def _forward_and_back(
        self, vectors: Mapping[str, Any], images: Any, labels: Any, offset: Any, scale: Any
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """This replica's part of the loss, of its gradients times `scale`, and its new values of the other variables.

        A function of tensors alone: XLA can compile it, and no replica reads another's variables.

        Args:
            vectors: the model's variables.
            offset: int64 [2], added to the seed generators, so that each replica draws noise of its own.
        """
        values = self._split(vectors)
        values |= {path: values[path] + offset for path in self._seeds}
        weights = [values[weight.path] for weight in self._model.trainable_variables]
        others = [values[other.path] for other in self._model.non_trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, others, extra = self._model.stateless_call(
                weights, others, self._normalise(images), return_losses=True, **self._training_argument
            )
            loss = self._loss(logits, labels)
            if extra:  # a user's model has regularizers, or adds losses of its own
                loss += tf.add_n([tf.cast(term, tf.float32) for term in extra]) / self._replicas
            scaled = loss * scale
        found = tape.gradient(scaled, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        new = {other.path: value for other, value in zip(self._model.non_trainable_variables, others, strict=True)}
        new |= {path: new[path] - offset for path in self._seeds}
        by_path = {weight.path: value for weight, value in zip(self._model.trainable_variables, found, strict=True)}
        return loss, self._join(by_path), self._join(new)

    def sums(self, images: Any, labels: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Both of `scores.sums` over this replica's part of this worker's part of a batch of any size.

        And the vectors in `drawing`, with the seed generators as the model has left them.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = tf.shape(labels)[0]
        share = -(-count // self._local)
        first = replica % self._local * share
        # A replica with no image left scores one that does not count: convolutions refuse empty batches.
        first, counts = tf.where(first < count, first, 0), tf.cast(first < count, tf.float64)
        images, labels = (tensor[first : first + share] for tensor in (images, labels))
        values = self._split(self._read())
        mapping = [(variable, values[variable.path]) for variable in self._model.variables]
        with keras.StatelessScope(mapping) as scope:
            logits = self._model(self._normalise(images), training=False)
        for variable in self._model.non_trainable_variables:
            if variable.path in self._seeds:
                values[variable.path] = scope.get_current_value(variable)
        drawn = {name: self._layouts[name].join(values) for name in self.drawing}
        sums, right = scores.sums(logits, labels)
        return counts * sums, right[: tf.cast(counts, tf.int32) * tf.size(right)], drawn

    def _read(self) -> dict[str, Any]:
        """The vectors of the model's variables by name."""
        return {name: tf.convert_to_tensor(self._vectors[name]) for name in (*self._weights, *self._others)}

    def _split(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        """The model's variables by path: slices of the vectors."""
        values: dict[str, Any] = {}
        for name, vector in vectors.items():
            values |= self._layouts[name].split(vector)
        return values

    def _join(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by path as vectors by name."""
        names = [name for name in (*self._weights, *self._others) if self._layouts[name].places.keys() <= values.keys()]
        return {name: self._layouts[name].join(values) for name in names}

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

    def _reduce(
        self, loss: Any, gradients: dict[str, Any], others: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Sums over replicas of loss and gradients, means of the statistics."""
        if self._replicas == 1:
            return loss, gradients, others
        means = {name: other / self._replicas for name, other in others.items() if other.dtype.is_floating}
        parts = {**gradients, **means}
        loss, *reduced = tf.distribute.get_replica_context().all_reduce(_SUM, [loss, *parts.values()])
        found = dict(zip(parts, reduced, strict=True))
        return loss, {name: found[name] for name in gradients}, {**others, **{name: found[name] for name in means}}

    def _shape_gradients(self, gradients: dict[str, Any]) -> dict[str, Any]:
        """The gradients with 0 at masked weights, so that their slots, 0 at the start, stay 0; clipped; with L2 decay.

        Clipping bounds the norm of the loss's gradient over the weights that are kept.
        """
        gradients = {**gradients, KERNELS: gradients[KERNELS] * self._mask}
        if self._training.clip_norm is not None:
            norm = tf.linalg.global_norm(self._by_weight(gradients))
            clipped, _ = tf.clip_by_global_norm(list(gradients.values()), self._training.clip_norm, norm)
            gradients = dict(zip(gradients, clipped, strict=True))
        strength = self._training.weight_decay
        if strength and not decoupled(self._training):
            gradients[KERNELS] += strength * self._vectors[KERNELS]
        return gradients

    def _by_weight(self, gradients: Mapping[str, Any]) -> list[Any]:
        """The gradient of each weight: a norm that is summed weight by weight keeps the bits of earlier versions."""
        values: dict[str, Any] = {}
        for name, gradient in gradients.items():
            values |= self._layouts[name].split(gradient)
        return [values[weight.path] for weight in self._model.trainable_variables]


def decoupled(training: Training) -> bool:
    """Whether weight decay acts on the weights themselves, apart from the gradient."""
    kind = training.weight_decay_kind
    return isinstance(training.optimizer, AdamW) if kind is None else kind == "decoupled"
