"""MobileNets."""

from __future__ import annotations

import keras
from keras import layers


def mobilenet_v2(
    shape: tuple[int, int, int], classes: int, alpha: float = 1.0, batch_norm_momentum: float = 0.999
) -> keras.Model:
    """Sandler et al., 2018; 3,504,872 trainable parameters at alpha 1, 1,000 classes.

    Args:
        alpha: width multiplier.
        batch_norm_momentum: share of the moving mean and variance that a step keeps. The default is that of
            keras.applications, made for runs of 100,000 steps and more; shorter runs need a smaller one.
    """
    model = keras.applications.MobileNetV2(
        input_shape=shape, alpha=alpha, weights=None, classes=classes, classifier_activation=None
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = batch_norm_momentum
    return model
