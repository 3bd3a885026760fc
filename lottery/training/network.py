"""Forward passes of any state of an experiment's model: scores, predictions, statistics of batch norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.models import build, custom, fingerprint
from lottery.training import scores
from lottery.training.state import SEED_GENERATOR
from preprocessing.common.errors import InputError

Variables = dict[str, Any]  # tensors by path


class Network:
    """An experiment's model, on one device and without an optimizer, to which states are given.

    Args:
        experiment: model and precision.
        shape: [height, width, channels] of an image.
        classes: number of classes.
        moments: mean and standard deviation per channel, in units of 0..255.
    """

    def __init__(
        self,
        experiment: Experiment,
        shape: tuple[int, int, int],
        classes: int,
        moments: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        self._name = experiment.model.name
        precision = experiment.training.precision
        self._model = build.build(experiment.model, shape, classes, experiment.seed, precision, again=True)
        if experiment.training.synchronized_batch_norm:  # which is a part of the fingerprint
            build.synchronize_batch_norm(self._model)
        self.provenance = fingerprint.provenance(self._model)
        build.synchronize_batch_norm(self._model, synchronized=False)  # a network is on one device
        mean, std = (np.asarray(moment, np.float32) for moment in moments)
        self._mean, self._std = mean, np.where(std == 0, np.float32(1), std)
        self._seeds = [variable.path for variable in self._model.variables if variable.name == SEED_GENERATOR]
        self._statistics = self._statistics_of_batches()
        variables = {variable.path: tf.TensorSpec(variable.shape, variable.dtype) for variable in self._model.variables}
        images, labels = tf.TensorSpec([None, *shape], tf.uint8), tf.TensorSpec([None], tf.int32)
        self._score = tf.function(self._sums, [variables, images, labels], autograph=False)
        self._predict = tf.function(self._classes, [variables, images], autograph=False)
        self._normalise = tf.function(self._batch_statistics, [variables, images], autograph=False)

    @property
    def has_statistics(self) -> bool:
        """Whether the model has statistics of batch norm, which `renormalised` takes anew."""
        return bool(self._statistics)

    def arrays(self, state: Mapping[str, Any], file: str, remedy: str) -> dict[str, NDArray[Any]]:
        """The model's variables of a state, by path.

        Raises InputError, which names the file and what to do with it, if the state does not fit the model.
        """
        for variable in self._model.variables:
            found = state.get(variable.path)
            if found is None or (found.shape, found.dtype) != (tuple(variable.shape), variable.dtype):
                raise InputError(
                    f"model {self._name}: has {variable.path} of shape {tuple(variable.shape)}, {file} has not; if the "
                    f"model was not changed, {remedy}"
                )
        return {variable.path: np.asarray(state[variable.path]) for variable in self._model.variables}

    def sums(self, variables: Variables, images: Any, labels: Any) -> tuple[NDArray[np.float64], Variables]:
        """`scores.sums` over uint8 [n, height, width, channels] and int32 [n]: float64 [4]; and the variables after.

        A user's model may draw noise in an evaluation, so that its seed generators change.
        """
        with custom.explained(self._name):
            total, seeds = self._score(variables, images, labels)
        return total.numpy(), {**variables, **seeds}

    def classes(self, variables: Variables, images: Any) -> tuple[NDArray[np.int32], Variables]:
        """The class predicted for each image, int32 [n], and the variables after; -1 if a logit is not finite."""
        with custom.explained(self._name):
            found, seeds = self._predict(variables, images)
        return found.numpy(), {**variables, **seeds}

    def renormalised(self, variables: Variables, batches: Iterable[Any]) -> Variables:
        """The variables with batch norm's statistics those of batches of images, each uint8 [n, ...].

        Each is the mean of the batches' own statistics, as in Izmailov et al., 2018.
        """
        totals: dict[str, Any] = dict.fromkeys(self._statistics, 0.0)
        count = 0
        for images in batches:
            with custom.explained(self._name):
                found = self._normalise(variables, images)
            count += len(images)
            for path, value in found.items():
                totals[path] = totals[path] + len(images) * value.numpy().astype(np.float64)
        new = {path: tf.constant(total / count, variables[path].dtype) for path, total in totals.items()}
        return {**variables, **new}

    def _statistics_of_batches(self) -> list[str]:
        """The paths of batch norm's statistics; from now on a training step sets them to those of its batch."""
        found = []
        for layer in build.layers(self._model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
                found += [layer.moving_mean.path, layer.moving_variance.path]
        return found

    def _sums(self, variables: Variables, images: Any, labels: Any) -> tuple[Any, Variables]:
        logits, others = self._call(variables, images, training=False)
        total, _ = scores.sums(logits, labels)
        return total, {path: others[path] for path in self._seeds}

    def _classes(self, variables: Variables, images: Any) -> tuple[Any, Variables]:
        logits, others = self._call(variables, images, training=False)
        logits = tf.cast(logits, tf.float32)
        likeliest = tf.argmax(logits, axis=1, output_type=tf.int32)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
        return tf.where(finite, likeliest, -1), {path: others[path] for path in self._seeds}

    def _batch_statistics(self, variables: Variables, images: Any) -> Variables:
        _, others = self._call(variables, images, training=True)
        return {path: others[path] for path in self._statistics}

    def _call(self, variables: Variables, images: Any, training: bool) -> tuple[Any, Variables]:
        """Logits, and the variables that are not trained, by path, as the call leaves them."""
        model = self._model
        trainable, others = (
            [variables[each.path] for each in group]
            for group in (model.trainable_variables, model.non_trainable_variables)
        )
        inputs = (tf.cast(images, tf.float32) - self._mean) / self._std
        logits, others = model.stateless_call(trainable, others, inputs, **custom.training_argument(model, training))
        paths = [each.path for each in model.non_trainable_variables]
        return logits, dict(zip(paths, others, strict=True))


def on_device(arrays: Mapping[str, NDArray[Any]]) -> Variables:
    """A state's arrays by path as tensors, on the device that computes."""
    return {path: tf.constant(array) for path, array in arrays.items()}
