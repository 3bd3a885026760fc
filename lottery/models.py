"""Keras models: builders of fresh, uncompiled models that end in logits. lottery.registry has their names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras

from lottery.experiment import Model
from lottery.registry import locate
from preprocessing.errors import InputError

Builder = Callable[..., keras.Model]
Shape = tuple[int, int, int]


def conv_small(shape: Shape, classes: int, filters: int = 16, units: int = 128) -> keras.Model:
    """Two 3x3 convolutions, max-pooling, one hidden layer; 36,784 kernel weights on 8x8 digits."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv1"),
            keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv2"),
            keras.layers.MaxPooling2D(name="pool"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(classes, name="classifier"),
        ],
        name="conv_small",
    )


def mobilenet_v2(shape: Shape, classes: int, alpha: float = 1.0) -> keras.Model:
    """Sandler et al., 2018, with width multiplier `alpha`; 3,504,872 trainable parameters at alpha 1, 1,000 classes."""
    return keras.applications.MobileNetV2(
        input_shape=shape, alpha=alpha, weights=None, classes=classes, classifier_activation=None
    )


def build(model: Model, shape: Shape, classes: int, seed: int) -> keras.Model:
    """A fresh model for float images [n, *shape] whose weights depend on `seed` alone.

    Raises InputError where the name or an option is unknown, or the model does not take images of this shape.
    """
    module, function = locate(model.name)
    builder: Builder | None = getattr(importlib.import_module(module), function, None)
    if builder is None:
        raise InputError(f"model.name: {module} has no {function}; correct the name")
    keras.utils.set_random_seed(seed)
    try:
        return builder(shape, classes, **model.options)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"model {model.name} with options {model.options} on images {shape}: {reason}; correct the options"
        ) from None


def prunable_kernels(model: keras.Model, classifier: bool) -> list[Any]:
    """The kernels of convolution, depthwise and dense layers in the model's order, as variables.

    Never biases, batch-norm parameters or statistics. The classifier is the model's last dense layer.
    """
    layers = [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, PRUNABLE_LAYERS)]
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    if dense and not classifier:
        layers.remove(dense[-1])
    return [variable for layer in layers for variable in layer.trainable_variables if variable.name.endswith("kernel")]


PRUNABLE_LAYERS = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
