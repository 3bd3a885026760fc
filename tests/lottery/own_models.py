"""Models of a user's own, as `module:function` names them."""

import keras
from keras import layers


def two_layers(shape, classes, units=6, regularize=0.0):
    """What the NumPy re-implementation trains."""
    penalty = keras.regularizers.L2(regularize) if regularize else None
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(name="flatten"),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(classes, name="classifier", kernel_regularizer=penalty),
        ]
    )


def all_kinds_of_state(shape, classes):
    """Batch norm's statistics, and the seed generators of two dropouts."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(momentum=0.9, name="bn"),
            layers.Activation("relu", name="relu"),
            layers.Dropout(0.3, name="dropout1"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dropout(0.5, name="dropout2"),
            layers.Dense(classes, name="classifier"),
        ]
    )


def with_batch_norm(shape, classes):
    """No dropout, so that replicas can be told apart by nothing but the statistics."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(momentum=0.9, name="bn"),
            layers.Activation("relu", name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(classes, name="classifier"),
        ]
    )
