"""A smaller network with the same outputs: the channels that nothing reads or feeds are gone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lottery.models import build, channels
from lottery.models.channels import Call, Channelled
from lottery.models.standalone import functional, is_graph
from preprocessing.common.errors import InputError

Arrays = list[NDArray[Any]]


def compacted(network: keras.Model, name: str) -> keras.Model:
    """The network without the channels that `lottery.models.channels` does not keep. `name` is the model's, for errors.

    The constants that they carry are added to the biases of what has read them; a layer without a bias gets one for it.
    Layers keep their names. It is for evaluation: what a constant stood for is no longer trained.

    Raises InputError if the network is a class with code of its own, and no graph of layers.
    """
    if not is_graph(network) or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InputError(
            f"--compact: model {name} is not a graph of Keras layers with one input and one output, so that its "
            "channels cannot be followed; leave --compact out"
        )
    whole = functional(network)
    found = channels.analyse(whole)
    made: list[tuple[Any, Arrays]] = []

    def smaller(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):  # an operation, which has no weights
            return layer
        call = found.call(layer)
        config, weights = layer.get_config(), layer.get_weights()
        if call is not None and call.kind in _SMALLER:
            changes, weights = _SMALLER[call.kind](call, found)
            config |= changes
        new = type(layer).from_config(config)
        made.append((new, weights))
        return new

    compact = keras.models.clone_model(whole, clone_function=smaller)
    for layer, weights in made:
        layer.set_weights(weights)
    return compact


def channels_left(network: keras.Model, compact: keras.Model) -> tuple[int, int]:
    """How many channels the convolutions and dense layers write: of the network, and of its compact form."""
    before, after = (
        sum(layer.output.shape[-1] for layer in build.layers(model) if isinstance(layer, build.PRUNABLE_LAYERS))
        for model in (network, compact)
    )
    return before, after


def _linear(call: Call, found: Channelled) -> tuple[dict[str, Any], Arrays]:
    layer, (source,) = call.layer, call.reads
    read, written, values = found.kept[source], found.kept[call.writes], found.values[source]
    folded = ~read & call.foldable(values)
    needed = call.weights.alive[:, written].any(1)
    assert not (needed & ~read & ~folded).any(), f"{layer.name} reads a channel that is not kept"
    bias = call.folded_bias(values, folded)[written]
    weights = [np.asarray(layer.kernel)[..., read, :][..., written]]
    use_bias = layer.use_bias or bool(bias.any())
    width = "units" if isinstance(layer, keras.layers.Dense) else "filters"
    return {width: int(written.sum()), "use_bias": use_bias}, [*weights, *([bias] if use_bias else [])]


def _depthwise(call: Call, found: Channelled) -> tuple[dict[str, Any], Arrays]:
    read, written = found.kept[call.reads[0]], found.kept[call.writes]
    kernel, *bias = call.layer.get_weights()
    return {}, [kernel[..., read, :], *(each[written] for each in bias)]


def _norm(call: Call, found: Channelled) -> tuple[dict[str, Any], Arrays]:
    return {}, [each[found.kept[call.writes]] for each in call.layer.get_weights()]


# How a layer's config changes, and its new weights.
_SMALLER = {"linear": _linear, "depthwise": _depthwise, "norm": _norm}
