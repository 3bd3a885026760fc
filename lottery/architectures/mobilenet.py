"""MobileNets."""

from __future__ import annotations

import keras


def mobilenet_v2(shape: tuple[int, int, int], classes: int, alpha: float = 1.0) -> keras.Model:
    """Sandler et al., 2018, with width multiplier `alpha`; 3,504,872 trainable parameters at alpha 1, 1,000 classes."""
    return keras.applications.MobileNetV2(
        input_shape=shape, alpha=alpha, weights=None, classes=classes, classifier_activation=None
    )
