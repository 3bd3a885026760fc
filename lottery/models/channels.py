"""Which channels of a network no weight reads or feeds: what can be removed without changing its outputs.

The network is a graph of Keras layers. A channel is an index into a tensor's last axis. It is *constant* if it has the
same value for every image and at every position: the weights that feed it are all 0, so that only a bias or a shift of
batch norm is left, or they read nothing but constants. A convolution or dense layer that reads a constant can add it to
its bias, unless it pads its input with zeros: then the constant is missing at the image's edge. A channel is *kept* if
it varies, or cannot be added to a bias, and something reads it that is kept itself. Layers that are not known here keep
all channels that they read and write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

Channels = NDArray[np.bool_]
Values = NDArray[np.float64]  # of each channel; NaN for those that vary

_LINEAR = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_POOLING = tuple(
    getattr(layers, f"{kind}Pooling{axes}D")
    for kind in ("Max", "Average", "GlobalMax", "GlobalAverage")
    for axes in (1, 2, 3)
)
_PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
_IDENTITY = (  # when a network is evaluated
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.GaussianNoise, layers.GaussianDropout, layers.Identity),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
)
_POINTWISE = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
# Keras' activations that treat each value by itself.
_ACTIVATIONS = frozenset(
    (
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "tanh"),
        *("sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "softplus", "softsign", "exponential"),
    )
)


@dataclass(frozen=True)
class Weights:
    """A convolution's or dense layer's weights by channel: float64 sums over positions, whether one is not 0, biases.

    `sums`, `alive`: [in, out]; of a depthwise layer [in, multiplier]. `bias`: [out].
    """

    sums: Values
    alive: Channels
    bias: Values


@dataclass(frozen=True, eq=False)
class Call:
    """A layer that is called in the graph: the tensors that it reads, and the one that it writes, by their ids."""

    layer: Any
    reads: tuple[int, ...]
    writes: int
    kind: str
    weights: Weights  # of the kinds `linear` and `depthwise`; else empty

    def foldable(self, values: Values) -> Channels:
        """Which channels that it reads, with these values, are constants that it can add to its bias."""
        layer = self.layer
        pads = getattr(layer, "padding", "valid") != "valid" and any(size > 1 for size in layer.kernel_size)
        found: Channels = ~np.isnan(values) & ((values == 0) | (not pads))
        return found

    def folded_bias(self, values: Values, folded: Channels) -> Values:
        """The bias [out] of a layer of the kind `linear` with these constants added to it."""
        added: Values = self.weights.bias + np.where(folded, values, 0.0) @ self.weights.sums
        return added


@dataclass(frozen=True)
class Channelled:
    """A network's graph, the value of each tensor's channels, and which of them are kept; by the tensor's id."""

    calls: tuple[Call, ...]  # in an order in which they can be made
    values: Mapping[int, Values]
    kept: Mapping[int, Channels]

    def call(self, layer: Any) -> Call | None:
        """The call of this layer; None if its input is the network's."""
        return next((call for call in self.calls if call.layer is layer), None)


def analyse(network: keras.Model) -> Channelled:
    """The channels of a functional model with one input and one output."""
    calls, tensors = _calls(network)
    values = _values(calls, tensors)
    kept = {name: np.zeros(_width(tensor), bool) for name, tensor in tensors.items()}
    for end in (*network.inputs, *network.outputs):
        kept[id(end)][:] = True
    _keep(calls, values, kept)
    return Channelled(calls, values, kept)


def _calls(network: keras.Model) -> tuple[tuple[Call, ...], dict[int, Any]]:
    """The calls in an order in which they can be made, and all tensors by id."""
    nodes: dict[int, Any] = {}  # by the tensor that they write
    waiting, order, tensors = [(network.outputs[0], False)], [], {}
    while waiting:
        tensor, ready = waiting.pop()
        if id(tensor) in nodes and not ready:
            continue
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if ready:
            order.append(tensor)
            continue
        nodes[id(tensor)], tensors[id(tensor)] = node, tensor
        if not node.is_input:
            waiting.append((tensor, True))
            waiting += [(each, False) for each in node.input_tensors]
    called = [id(nodes[id(tensor)].operation) for tensor in order]
    calls = []
    for tensor in order:
        node = nodes[id(tensor)]
        single = called.count(id(node.operation)) == 1 and len(node.outputs) == 1
        shapes = [each.shape for each in (*node.input_tensors, tensor)]
        known = single and all(len(shape) > 1 and None not in shape[1:] for shape in shapes)
        kind = _kind(node.operation, shapes[:-1]) if known else "opaque"
        weights = _weights(node.operation, kind)
        calls.append(Call(node.operation, tuple(map(id, node.input_tensors)), id(tensor), kind, weights))
    return tuple(calls), tensors


def _weights(layer: Any, kind: str) -> Weights:
    if kind not in ("linear", "depthwise"):
        return Weights(np.zeros((0, 0)), np.zeros((0, 0), bool), np.zeros(0))
    kernel = np.asarray(layer.kernel, np.float64)
    flat = kernel.reshape(-1, *kernel.shape[-2:])
    outputs = kernel.shape[-1] if kind == "linear" else kernel.shape[-2] * kernel.shape[-1]
    bias = np.asarray(layer.bias, np.float64) if layer.use_bias else np.zeros(outputs)
    return Weights(flat.sum(0), (flat != 0).any(0), bias)


def _width(tensor: Any) -> int:
    """A tensor's channels; 1 for all of them together if their number is not known."""
    return tensor.shape[-1] or 1 if len(tensor.shape) > 1 else 1


def _kind(layer: Any, shapes: Sequence[tuple[int | None, ...]]) -> str:
    """How a layer treats channels; `opaque` if that is not known."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "opaque"
    kind = type(layer)
    if kind in (*_LINEAR, *_DEPTHWISE):
        if not _is_pointwise(layer.activation) or getattr(layer, "groups", 1) != 1:
            return "opaque"
        return "linear" if kind in _LINEAR else "depthwise"
    if kind is layers.BatchNormalization:
        return "norm" if layer.axis in (-1, len(shapes[0]) - 1) else "opaque"
    if kind in _POINTWISE:
        return "pointwise" if kind is not layers.Activation or _is_pointwise(layer.activation) else "opaque"
    if kind in _POOLING or kind in _IDENTITY:
        return "identity"
    if kind in _PADDING:
        return "padding"
    if kind is layers.Flatten:
        return "flatten"
    if kind is layers.Add:
        return "add" if len(set(shapes)) == 1 else "opaque"
    if kind is layers.Concatenate:
        return "concatenate" if layer.axis in (-1, len(shapes[0]) - 1) else "opaque"
    return "opaque"


def _is_pointwise(activation: Any) -> bool:
    module, name = (getattr(activation, attribute, "") for attribute in ("__module__", "__name__"))
    return module.partition(".")[0] == "keras" and name in _ACTIVATIONS


def _values(calls: Sequence[Call], tensors: Mapping[int, Any]) -> dict[int, Values]:
    """The constants, from the input on."""
    values = {name: np.full(_width(tensor), np.nan) for name, tensor in tensors.items()}
    for call in calls:
        read = [values[name] for name in call.reads]
        if call.kind in _VALUES:
            values[call.writes] = _VALUES[call.kind](call, read, _width(tensors[call.writes]))
    return values


def _linear(call: Call, read: Sequence[Values], width: int) -> Values:
    known = call.foldable(read[0])
    varies = (call.weights.alive & ~known[:, None]).any(0)
    return _activated(call.layer.activation, np.where(varies, np.nan, call.folded_bias(read[0], known)))


def _depthwise(call: Call, read: Sequence[Values], width: int) -> Values:
    weights, known = call.weights, call.foldable(read[0])
    varies = weights.alive & ~known[:, None]
    constant = weights.bias.reshape(varies.shape) + np.where(known, read[0], 0.0)[:, None] * weights.sums
    return _activated(call.layer.activation, np.where(varies, np.nan, constant).reshape(-1))


def _norm(call: Call, read: Sequence[Values], width: int) -> Values:
    layer = call.layer
    scale = np.asarray(layer.gamma, np.float64) if layer.scale else np.ones(width)
    shift = np.asarray(layer.beta, np.float64) if layer.center else np.zeros(width)
    mean, variance = (np.asarray(each, np.float64) for each in (layer.moving_mean, layer.moving_variance))
    normal = scale * (read[0] - mean) / np.sqrt(variance + layer.epsilon)
    return np.where(scale == 0, shift, normal + shift)


def _pointwise(call: Call, read: Sequence[Values], width: int) -> Values:
    return _activated(call.layer.activation if type(call.layer) is layers.Activation else call.layer, read[0])


def _activated(function: Callable[[Any], Any], values: Values) -> Values:
    if np.isnan(values).all():
        return values
    known = keras.ops.convert_to_tensor(np.nan_to_num(values), "float32")
    return np.where(np.isnan(values), np.nan, np.asarray(function(known), np.float64))


# (call, values of the tensors that it reads, channels that it writes) -> values of the tensor that it writes.
_VALUES: dict[str, Callable[[Call, Sequence[Values], int], Values]] = {
    "linear": _linear,
    "depthwise": _depthwise,
    "norm": _norm,
    "pointwise": _pointwise,
    "identity": lambda call, read, width: read[0],
    "padding": lambda call, read, width: np.where(read[0] == 0, 0.0, np.nan),
    "flatten": lambda call, read, width: np.tile(read[0], width // len(read[0])),
    "add": lambda call, read, width: np.sum(read, axis=0),
    "concatenate": lambda call, read, width: np.concatenate(read),
}


def _keep(calls: Sequence[Call], values: Mapping[int, Values], kept: dict[int, Channels]) -> None:
    """Keeps channels until nothing that is kept reads one that is not, and no layer is left without any."""
    before = -1
    while before != (before := sum(int(channels.sum()) for channels in kept.values())):
        for call in reversed(calls):
            _keep_around(call, values, kept)
        for channels in kept.values():
            channels[0] |= not channels.any()


def _keep_around(call: Call, values: Mapping[int, Values], kept: dict[int, Channels]) -> None:
    """Keeps what a layer needs of what it reads, and what it then writes."""
    out, first = kept[call.writes], call.reads[0]
    if call.kind == "linear":
        needed = call.weights.alive & ~call.foldable(values[first])[:, None]
        kept[first] |= needed[:, out].any(1)
        return
    if call.kind == "opaque":
        for name in (*call.reads, call.writes):
            kept[name][:] = True
        return
    # All others write a channel, or several, for each one that they read.
    width = len(kept[first])
    if call.kind == "concatenate":
        ends = np.cumsum([len(kept[name]) for name in call.reads])
        parts = np.split(out, ends[:-1])
    elif call.kind == "depthwise":
        parts = [np.any(out.reshape(width, -1), axis=1)]
    elif call.kind == "flatten":
        parts = [np.any(out.reshape(-1, width), axis=0)]
    else:
        parts = [out] * len(call.reads)
    for name, part in zip(call.reads, parts, strict=True):
        kept[name] |= part
    kept[call.writes] |= _written(call, kept)


def _written(call: Call, kept: Mapping[int, Channels]) -> Channels:
    """The channels that a layer writes of those that are kept of what it reads."""
    read, width = [kept[name] for name in call.reads], len(kept[call.writes])
    if call.kind == "concatenate":
        return np.concatenate(read)
    if call.kind == "depthwise":
        return np.repeat(read[0], width // len(read[0]))
    if call.kind == "flatten":
        return np.tile(read[0], width // len(read[0]))
    found: Channels = np.any(read, axis=0)
    return found
