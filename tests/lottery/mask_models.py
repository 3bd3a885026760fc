"""Tiny models whose scores can be computed by hand, and a user's own mask methods."""

from __future__ import annotations


def two_layers(shape, classes, units=3, bias=False):
    """Dense, ReLU, dense."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(name="flatten"),
            layers.Dense(units, activation="relu", use_bias=bias, name="first"),
            layers.Dense(classes, use_bias=bias, name="second"),
        ],
        name="two",
    )


def weight_times_gradient(weights, gradients):
    """SNIP's scores."""
    return {path: abs(weights[path] * gradients[path]) for path in weights}


def one_number(weights, gradients):
    return dict.fromkeys(weights, 1.0)


def not_numbers(weights, gradients):
    return {path: weight * float("nan") for path, weight in weights.items()}


def broken(weights, gradients):
    raise KeyError("no such layer")
