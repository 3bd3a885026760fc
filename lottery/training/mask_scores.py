"""Scores that need derivatives of the network: SNIP, GraSP, synaptic flow, and those of a user's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.models import build, custom
from lottery.tickets.masks import Kernels, Mask

Arrays = dict[str, NDArray[Any]]
Batches = Callable[[], Iterable[tuple[Any, Any]]]  # yields uint8 [n, height, width, channels] and int32 [n]

_TEMPERATURE = 200.0  # of GraSP's logits, as in the authors' code


class MaskScorer:
    """A network at one state, whose derivatives by its prunable kernels are scores.

    It is a model of its own, on one device and outside of the training's strategy: neither the number of devices or of
    executors nor the training's precision changes a score. Activations are those of training: batch norm takes the
    statistics of a batch. The loss is the mean cross-entropy over the images, without label smoothing, weight decay
    and what a user's model adds to it.

    Args:
        experiment: its model is built again.
        shape: [height, width, channels] of an image.
        classes: number of classes.
        moments: mean and standard deviation per channel, in units of 0..255.
        state: all of the model's variables by path.
        kernels: paths of the prunable kernels.
        on_progress: called after each pass over a batch.
    """

    def __init__(
        self,
        experiment: Experiment,
        shape: tuple[int, int, int],
        classes: int,
        moments: tuple[Sequence[float], Sequence[float]],
        state: Mapping[str, Any],
        kernels: Sequence[str],
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._experiment, self._shape, self._classes = experiment, shape, classes
        self._state, self._on_progress = state, on_progress
        self._kernels: Arrays = {path: np.asarray(state[path]) for path in kernels}
        mean, std = (np.asarray(moment, np.float32) for moment in moments)
        self._mean, self._std = mean, np.where(std == 0, np.float32(1), std)

    def gradients(self, batches: Batches, count: int) -> Arrays:
        """The gradient of the mean loss over all `count` images, by kernel: float64 sums of float32 batches."""
        return self._total(batches, count, self._gradient)

    def snip(self, batches: Batches, count: int) -> Kernels:
        """Connection sensitivity |weight x gradient| (Lee et al., "SNIP", 2019)."""
        found = self.gradients(batches, count)
        return {path: np.abs(kernel * found[path]) for path, kernel in self._kernels.items()}

    def grasp(self, batches: Batches, count: int) -> Kernels:
        """Gradient signal preservation (Wang et al., "Picking winning tickets before training", 2020): weight x Hg.

        g is the gradient and H the Hessian of the loss at a temperature of 200. Without a weight of high score the
        gradient would lose norm, so the highest are kept. (The paper has the sign reversed, and prunes the highest.)
        """
        model = self._twice_differentiable()
        along = self._total(batches, count, self._cool_gradient, model)
        vector = {path: tf.constant(value, tf.float32) for path, value in along.items()}

        def product(model: Any, kernels: Mapping[str, Any], images: Any, labels: Any, count: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                tape.watch(kernels)
                first = self._cool_gradient(model, kernels, images, labels, count)
                dot = tf.add_n([tf.reduce_sum(first[path] * vector[path]) for path in first])
            return _zeros_if_none(tape.gradient(dot, kernels), kernels)

        found = self._total(batches, count, product, model)
        return {path: kernel * found[path] for path, kernel in self._kernels.items()}

    def synaptic_flow(self) -> Callable[[Mask], Kernels]:
        """A function of a mask: |weight x gradient of R|, where R is the sum of the masked network's outputs.

        As in Tanaka et al., 2020, the network has the absolute value of every variable, batch norm its moving
        statistics, and all inputs are 1. It computes in float64, which holds what 150 layers multiply.
        """
        model = self._build("float64")
        values = {each.path: np.abs(np.asarray(self._state[each.path])) for each in model.variables}
        ones = tf.ones((1, *self._shape), tf.float64)

        # The ones are an argument: TensorFlow 2.21 folds constant inputs into convolutions of another shape, and fails.
        def flow(kernels: Mapping[str, Any], ones: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                tape.watch(kernels)
                total = tf.reduce_sum(self._logits(model, {**values, **kernels}, ones, training=False))
            found = _zeros_if_none(tape.gradient(total, kernels), kernels)
            return {path: tf.abs(kernels[path] * found[path]) for path in kernels}

        compiled = tf.function(flow, autograph=False)

        def of_mask(mask: Mask) -> Kernels:
            self._on_progress()
            kernels = {path: tf.constant(values[path] * kept, tf.float64) for path, kept in mask.items()}
            with custom.explained(self._experiment.model.name):
                found = compiled(kernels, ones)
            return {path: found[path].numpy() for path in mask}  # in the mask's order, which decides ties

        return of_mask

    def _total(self, batches: Batches, count: int, function: Any, model: Any = None) -> Arrays:
        """The sum over batches of a function of (model, kernels, images, labels, number of all images)."""
        model = model or self._model  # built here, not while the function is traced

        def of_batch(kernels: Mapping[str, Any], images: Any, labels: Any, count: Any) -> dict[str, Any]:
            found: dict[str, Any] = function(model, kernels, images, labels, count)
            return found

        compiled = tf.function(of_batch, autograph=False, reduce_retracing=True)
        total = {path: np.zeros(kernel.shape) for path, kernel in self._kernels.items()}
        kernels = {path: tf.constant(kernel) for path, kernel in self._kernels.items()}
        for images, labels in batches():
            with custom.explained(self._experiment.model.name):
                found = compiled(kernels, tf.constant(images), tf.constant(labels), tf.constant(count, tf.float32))
            for path, value in found.items():
                total[path] += value.numpy()
            self._on_progress()
        return total

    @cached_property
    def _model(self) -> Any:
        return self._build("float32")

    def _twice_differentiable(self) -> Any:
        """A model whose second derivatives are right.

        Batch norm takes its statistics by tf.nn.moments, which hides a term from all but the first derivative. Those
        over several devices, of which there is one here, it takes in another way.
        """
        model = self._build("float32")
        for layer in build.layers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        return model

    def _gradient(
        self, model: Any, kernels: Mapping[str, Any], images: Any, labels: Any, count: Any, temperature: float = 1.0
    ) -> dict[str, Any]:
        """The gradient of a batch's part of the mean loss over `count` images."""
        with tf.GradientTape() as tape:
            tape.watch(kernels)
            inputs = (tf.cast(images, tf.float32) - self._mean) / self._std
            logits = self._logits(model, {**self._state, **kernels}, inputs, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits / temperature)
            loss = tf.reduce_sum(losses) / count
        return _zeros_if_none(tape.gradient(loss, kernels), kernels)

    def _cool_gradient(
        self, model: Any, kernels: Mapping[str, Any], images: Any, labels: Any, count: Any
    ) -> dict[str, Any]:
        return self._gradient(model, kernels, images, labels, count, _TEMPERATURE)

    def _logits(self, model: Any, values: Mapping[str, Any], inputs: Any, training: bool) -> Any:
        trainable, others = (
            [tf.cast(values[each.path], each.dtype) for each in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        )
        outputs, _ = model.stateless_call(trainable, others, inputs, **custom.training_argument(model, training))
        return outputs

    def _build(self, precision: str) -> Any:
        config, seed = self._experiment.model, self._experiment.seed
        return build.build(config, self._shape, self._classes, seed, precision, again=True)


def _zeros_if_none(gradients: Mapping[str, Any], kernels: Mapping[str, Any]) -> dict[str, Any]:
    """Gradients by path; of a kernel that plays no part, 0."""
    return {path: tf.zeros_like(kernels[path]) if found is None else found for path, found in gradients.items()}
