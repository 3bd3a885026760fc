"""A network as a model that Keras opens by itself: raw uint8 images in, logits out, nothing of this package in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import lottery
from lottery.models import build


def standalone(network: keras.Model, size: int, side: int, mean: Sequence[float], std: Sequence[float]) -> keras.Model:
    """The model from raw images, uint8 [n, size, size, 3], to logits, float32 [n, classes].

    It crops at the centre, normalises in float32 as training does, and calls the network, which is a layer of it. The
    network computes as its layers' policies say, also in mixed precision.

    Args:
        network: takes normalised images [n, side, side, 3].
        size, side: pixels a side of a dataset's image, and of its crop.
        mean, std: per channel, in units of 0..255; a channel that is constant, std 0, becomes 0.
    """
    inner = _without_own_layers(network)
    images = features = keras.Input((size, size, 3), dtype="uint8", name="images")
    if side < size:  # the margin's odd pixel is below and to the right, as in an evaluation
        before, after = (size - side) // 2, size - side - (size - side) // 2
        crop = keras.layers.Cropping2D(((before, after), (before, after)), name=f"{network.name}_crop", dtype="float32")
        features = crop(features)
    deviation = np.where(np.asarray(std, np.float32) == 0, np.float32(1), np.asarray(std, np.float32))
    features = keras.layers.Normalization(
        mean=[float(np.float32(each)) for each in mean],
        variance=[float(each * each) for each in deviation],  # in float32, so that its root is the deviation to the bit
        name=f"{network.name}_normalization",
        dtype="float32",
    )(features)
    logits = inner(features)
    if logits.dtype != "float32":
        logits = keras.layers.Activation("linear", dtype="float32", name=f"{network.name}_logits")(logits)
    return keras.Model(images, logits, name=f"{network.name}_ticket")


def is_graph(network: keras.Model) -> bool:
    """Whether the network is a graph of layers, and not a class with code of its own."""
    kind = type(network)
    return kind.__module__.partition(".")[0] == "keras" and kind.__name__ in ("Functional", "Sequential")


def functional(network: keras.Model) -> keras.Model:
    """A graph of layers as a functional model of the same layers."""
    return keras.Model(network.inputs[0], network.outputs[0], name=network.name)


def foreign_classes(model: keras.Model) -> list[type]:
    """The classes, other than Keras' own, whose code is needed to open the model's file."""
    kinds = {type(layer) for layer in [model, *build.layers(model)]}
    return sorted((kind for kind in kinds if _package(kind) != "keras"), key=lambda kind: kind.__qualname__)


def _without_own_layers(network: keras.Model) -> keras.Model:
    """The same layers and weights, but for this package's own layers: the operations that they call take their place.

    They have no weights; a file that names them could only be opened where this package is.
    """
    own = [layer for layer in build.layers(network) if _package(type(layer)) == lottery.__name__]
    if not own:
        return network

    def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        return layer.call(*arguments) if any(layer is each for each in own) else layer(*arguments, **keywords)

    return keras.models.clone_model(functional(network), clone_function=lambda layer: layer, call_function=call)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]
