"""The compiled training step: any number of batches in one call, for whichever ticket's state is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery import models
from lottery.experiment import SGD, Adam, AdamW, Experiment
from lottery.masks import Mask
from preprocessing.errors import InputError

# The values of all of a trainer's variables by path: weights, optimizer slots, seed generators. Tensors or arrays.
State = Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """Means over an evaluation split."""

    top1: float
    top5: float
    loss: float


class Trainer:
    """One model and one optimizer that train many tickets in turn.

    A ticket is its state and its mask: `load` puts them into the variables, `run` trains, `state` takes the state
    out. So the step is traced once for all tickets, and a ticket trained among others sees the same arithmetic as
    one trained alone.

    Args:
        experiment: model, optimizer and recipe.
        shape: [height, width, channels] of a training image after cropping.
        classes: number of classes.
        mean, std: per channel, in units of 0..255; images are normalised inside the step.
        strategy: OneDeviceStrategy or MirroredStrategy.
    """

    def __init__(
        self,
        experiment: Experiment,
        shape: tuple[int, int, int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        strategy: tf.distribute.Strategy,
    ) -> None:
        self._experiment = experiment
        self._shape, self._classes = shape, classes
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        if experiment.data.batch % self._replicas:
            raise InputError(
                f"data.batch: {experiment.data.batch} images do not divide among the {self._replicas} devices of a "
                "task; choose a multiple"
            )
        with strategy.scope():
            self._model = models.build(experiment.model, shape, classes, experiment.seed)
            self._optimizer = _optimizer(experiment)
            self._optimizer.build(self._model.trainable_variables)
            kernels = models.prunable_kernels(self._model, classifier=experiment.masks.classifier)
            self._masks = {
                kernel.path: tf.Variable(tf.ones(kernel.shape), trainable=False, name="mask") for kernel in kernels
            }
        self._kernels = {kernel.path: kernel for kernel in kernels}
        # The step sets the learning rate from the schedule, so it is no state.
        slots = [variable for variable in self._optimizer.variables if variable is not self._optimizer.learning_rate]
        self._variables = {variable.path: variable for variable in (*self._model.variables, *slots)}
        if len(self._variables) != len(self._model.variables) + len(slots):
            raise InputError(
                f"model {experiment.model.name}: two variables share a path; give its layers distinct names"
            )
        self._mean = tf.constant(mean, tf.float32)
        self._deviation = tf.constant(std, tf.float32)
        self._loaded_mask: Mask | None = None

    @property
    def kernels(self) -> list[str]:
        """Paths of the prunable kernels, in the model's order."""
        return list(self._kernels)

    @property
    def parameters(self) -> int:
        """How many weights the model has, prunable or not."""
        return int(self._model.count_params())

    def slots(self, kernel: str) -> list[str]:
        """Paths of the optimizer's slots of a kernel, which must be 0 wherever its mask is."""
        prefix = f"{self._optimizer.name}/{kernel.replace('/', '_')}_"
        shape = self._kernels[kernel].shape
        return [path for path, slot in self._variables.items() if path.startswith(prefix) and slot.shape == shape]

    def first_state(self, seed: int) -> dict[str, NDArray[Any]]:
        """Freshly initialised weights, a function of `seed` alone, with a fresh optimizer."""
        # Same model, so same variables in the same order; only the automatic names may differ.
        fresh = models.build(self._experiment.model, self._shape, self._classes, seed)
        weights = {
            variable.path: np.asarray(other)
            for variable, other in zip(self._model.variables, fresh.variables, strict=True)
        }
        return {**self.fresh_optimizer(), **weights}

    def fresh_optimizer(self) -> dict[str, NDArray[Any]]:
        """The optimizer's part of a state, before its first step: all zeros."""
        return {
            variable.path: np.zeros(variable.shape, variable.dtype)
            for variable in self._optimizer.variables
            if variable.path in self._variables
        }

    def load(self, state: State, mask: Mask | None) -> None:
        """Puts a ticket's state and mask (None: nothing is masked) into the variables."""
        self._assign([state[path] for path in self._variables])
        if mask is not self._loaded_mask or self._loaded_mask is None:
            for path, variable in self._masks.items():
                variable.assign(tf.ones(variable.shape) if mask is None else mask[path].astype(np.float32))
            self._loaded_mask = mask

    def state(self) -> dict[str, tf.Tensor]:
        """The values of all variables by path, as tensors that later steps do not change."""
        return dict(zip(self._variables, self._read(), strict=True))

    def run(self, images: Any, labels: Any, rates: NDArray[np.float32]) -> NDArray[np.float32]:
        """Trains on a run of batches and returns each step's mean loss, float32 [steps].

        Args:
            images: uint8 [steps, batch, height, width, channels].
            labels: int32 [steps, batch].
            rates: the learning rate of each step, float32 [steps].
        """
        losses: NDArray[np.float32] = self._steps(images, labels, tf.constant(rates)).numpy()
        return losses

    def evaluate(self, batches: Any) -> Scores:
        """Scores of the loaded state over (uint8 images, int32 labels) batches of any sizes."""
        sums = np.zeros(4)
        for images, labels in batches:
            sums += self._evaluate(images, labels).numpy()
        top1, top5, loss, count = (float(total) for total in sums)
        return Scores(top1 / count, top5 / count, loss / count)

    def _normalise(self, images: Any) -> Any:
        return (tf.cast(images, tf.float32) - self._mean) / self._deviation

    def _replica_step(self, images: Any, labels: Any, rate: Any) -> Any:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = self._experiment.data.batch // self._replicas
        images, labels = (tensor[replica * share : (replica + 1) * share] for tensor in (images, labels))
        trainable = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(self._normalise(images), training=True)
            targets = tf.one_hot(labels, self._classes)
            smoothing = self._experiment.training.label_smoothing
            if smoothing:
                targets = targets * (1.0 - smoothing) + smoothing / self._classes
            each = tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
            # Gradients are summed over replicas, so each replica divides by the global batch.
            loss = tf.reduce_sum(each) / self._experiment.data.batch
        gradients = tape.gradient(loss, [variable.value for variable in trainable])
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply(
            [self._shape_gradient(*pair) for pair in zip(trainable, gradients, strict=True)], trainable
        )
        return loss

    def _shape_gradient(self, variable: Any, gradient: Any) -> Any:
        """The gradient with L2 decay, and with 0 at masked weights: their slots, 0 at the start, then stay 0."""
        training = self._experiment.training
        if training.weight_decay and not isinstance(training.optimizer, AdamW) and _is_kernel(variable):
            gradient += (training.weight_decay / self._replicas) * variable
        mask = self._masks.get(variable.path)
        return gradient if mask is None else gradient * mask

    @tf.function(reduce_retracing=True)
    def _steps(self, images: Any, labels: Any, rates: Any) -> Any:
        # One trace for runs of every length: the loop is in the graph, outside of strategy.run.
        count = tf.shape(rates)[0]
        losses = tf.TensorArray(tf.float32, count)
        for step in tf.range(count):
            each = self._strategy.run(self._replica_step, args=(images[step], labels[step], rates[step]))
            for path, kernel in self._kernels.items():
                self._strategy.extended.update(kernel.value, _multiply, args=(self._masks[path],))
            losses = losses.write(step, self._strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None))
        return losses.stack()

    @tf.function(reduce_retracing=True)
    def _evaluate(self, images: Any, labels: Any) -> Any:
        # On one replica: an evaluation split is small, and its sums then have one order of addition.
        logits = tf.cast(self._model(self._normalise(images), training=False), tf.float32)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        top1 = tf.math.in_top_k(labels, logits, 1)
        top5 = tf.math.in_top_k(labels, logits, min(5, self._classes))
        sums = [tf.reduce_sum(tf.cast(value, tf.float64)) for value in (top1, top5, loss, tf.ones_like(loss))]
        return tf.stack(sums)

    @tf.function
    def _assign(self, values: list[Any]) -> None:
        for variable, value in zip(self._variables.values(), values, strict=True):
            variable.assign(value)

    @tf.function
    def _read(self) -> list[Any]:
        return [tf.identity(variable.value) for variable in self._variables.values()]


def _multiply(variable: Any, mask: Any) -> Any:
    return variable.assign(variable * mask)


def _is_kernel(variable: Any) -> bool:
    return str(variable.name).endswith("kernel")


def _optimizer(experiment: Experiment) -> keras.optimizers.Optimizer:
    training = experiment.training
    name = "optimizer"  # explicit, for the sake of the variables' paths
    rate = training.learning_rate.peak
    match training.optimizer:
        case SGD(momentum=momentum, nesterov=nesterov):
            return keras.optimizers.SGD(rate, momentum=momentum, nesterov=nesterov, name=name)
        case Adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon):
            return keras.optimizers.Adam(rate, beta_1, beta_2, epsilon, name=name)
        case AdamW(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon):
            return keras.optimizers.AdamW(rate, training.weight_decay, beta_1, beta_2, epsilon, name=name)
