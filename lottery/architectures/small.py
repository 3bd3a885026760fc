"""Networks of a few layers, for digits."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

Shape = tuple[int, int, int]


class _Gray(layers.Layer):  # type: ignore[misc]
    """The mean of the channels."""

    def call(self, images: Any) -> Any:
        return keras.ops.mean(images, axis=-1, keepdims=True)


def conv_small(shape: Shape, classes: int, filters: int = 16, units: int = 128) -> keras.Model:
    """Two 3x3 convolutions, max-pooling, one hidden layer; 36,784 kernel weights on 8x8 digits."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(classes, name="classifier"),
        ],
        name="conv_small",
    )


def lenet_300_100(shape: Shape, classes: int, gray: bool = True, dropout: float = 0.0) -> keras.Model:
    """LeCun et al., 1998, as in Frankle and Carbin, 2019; 266,610 parameters on 28x28 digits.

    Args:
        gray: averages the channels first, so that digits stored as RGB fit the published network.
        dropout: share of each hidden layer's units that a training step leaves out.
    """
    return keras.Sequential(
        [
            keras.Input(shape),
            *([_Gray(name="gray")] if gray else []),
            layers.Flatten(name="flatten"),
            layers.Dense(300, activation="relu", name="hidden1"),
            *([layers.Dropout(dropout, name="dropout1")] if dropout else []),
            layers.Dense(100, activation="relu", name="hidden2"),
            *([layers.Dropout(dropout, name="dropout2")] if dropout else []),
            layers.Dense(classes, name="classifier"),
        ],
        name="lenet_300_100",
    )
