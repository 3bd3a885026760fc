"""VGG networks (Simonyan and Zisserman, 2015)."""

from __future__ import annotations

import keras
from keras import layers

_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))  # widths of the convolutions before each pooling, in 64ths


def vgg16(shape: tuple[int, int, int], classes: int, width: int = 64) -> keras.Model:
    """For CIFAR-sized images: 13 convolutions with batch norm, the hidden dense layers left out (Li et al., 2017).

    14,724,042 trainable parameters with 10 classes.
    """
    inputs = features = keras.Input(shape)
    for stage, factors in enumerate(_STAGES, start=1):
        for place, factor in enumerate(factors, start=1):
            name = f"stage{stage}_{place}"
            features = layers.Conv2D(
                factor * width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
            )(features)
            features = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(features)
            features = layers.Activation("relu", name=f"{name}_relu")(features)
        if stage < len(_STAGES):
            features = layers.MaxPooling2D(name=f"stage{stage}_pool")(features)
    features = layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(inputs, layers.Dense(classes, name="classifier")(features), name="vgg16")
