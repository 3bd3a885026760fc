"""Conv-2, Conv-4 and Conv-6, small VGG-like networks for CIFAR-10 (Frankle and Carbin, 2019, figure 2)."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

Shape = tuple[int, int, int]


def conv2(shape: Shape, classes: int, width: int = 64) -> keras.Model:
    """4,300,992 kernel weights on CIFAR-10; the paper says 4.3M. `width`: filters of the first convolution."""
    return _network(shape, classes, width, 1)


def conv4(shape: Shape, classes: int, width: int = 64) -> keras.Model:
    """2,425,024 kernel weights on CIFAR-10; the paper says 2.4M. `width`: filters of the first convolution."""
    return _network(shape, classes, width, 2)


def conv6(shape: Shape, classes: int, width: int = 64) -> keras.Model:
    """2,261,184 kernel weights on CIFAR-10, 1,144,512 of them convolutional. `width`: filters of the first convolution.

    The paper says 1.7M and 1.1M. The layers that it describes do not add up to 1.7M; its other counts are theirs.
    """
    return _network(shape, classes, width, 3)


def _network(shape: Shape, classes: int, width: int, stages: int) -> keras.Model:
    """Stages of two 3x3 convolutions and a max-pooling, then two hidden layers as wide as the third stage."""
    parts: list[Any] = [keras.Input(shape)]
    for stage in range(1, stages + 1):
        filters = width * 2 ** (stage - 1)
        parts += [_convolution(filters, f"stage{stage}_{place}") for place in (1, 2)]
        parts.append(layers.MaxPooling2D(name=f"stage{stage}_pool"))
    parts.append(layers.Flatten(name="flatten"))
    parts += [_dense(4 * width, name, activation="relu") for name in ("hidden1", "hidden2")]
    parts.append(_dense(classes, "classifier"))
    return keras.Sequential(parts, name=f"conv{2 * stages}")


def _convolution(filters: int, name: str) -> Any:
    return layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="glorot_normal", name=name)


def _dense(units: int, name: str, activation: str | None = None) -> Any:
    return layers.Dense(units, activation=activation, kernel_initializer="glorot_normal", name=name)
