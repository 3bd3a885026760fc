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


class Branch(layers.Layer):
    """What AutoGraph would rewrite."""

    def __init__(self, always):
        super().__init__()
        self.always = always

    def call(self, images, training=False):
        if (self.always or training) and keras.ops.mean(images) > 0:
            return images
        return -images


def decides_in_training(shape, classes, always=False):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), Branch(always), layers.Dense(classes)])


def always_decides(shape, classes):
    return decides_in_training(shape, classes, always=True)


class Subclassed(keras.Model):
    """A model that has no variables before it is called."""

    def __init__(self, classes, activation="relu"):
        super().__init__(name="subclassed")
        self.flatten = layers.Flatten(name="flatten")
        self.hidden = layers.Dense(6, activation=activation, name="hidden")
        self.classifier = layers.Dense(classes, name="classifier")

    def call(self, images):
        return self.classifier(self.hidden(self.flatten(images)))


def subclassed(shape, classes, activation="relu"):
    return Subclassed(classes, activation)


def softmax(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes, activation="softmax")])


def not_flat(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Dense(classes)])


def breaks(shape, classes):
    raise ZeroDivisionError("my own\nmistake")


def no_model(shape, classes):
    return "a model"


def nothing_to_prune(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Flatten(name="flatten"), layers.Dense(classes, name="only")])
