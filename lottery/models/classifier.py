"""Finds the classifier's kernel, the one that feeds the output, in the traced graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from lottery.models import custom
from preprocessing.common.errors import InputError

# What comes out of these depends on a tensor's shape alone.
_OF_THE_SHAPE = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})


def classifier_kernel(model: keras.Model, shape: Sequence[int], prunable: Sequence[Any]) -> Any:
    """The kernel, a variable, that everything in the output has passed through last.

    The search goes backwards from the output, through everything without a kernel: pooling, reshaping, activations,
    biases, batch norm. It may find a kernel that cannot be pruned, of a user's own layer.

    Args:
        shape: [height, width, channels] of an image.
        prunable: the kernels that can be pruned. In other layers, any trainable weight with two axes longer than 1 is
            taken for a kernel.

    Raises InputError if there is no such kernel, for example because the outputs of two heads are added.
    """
    graph, placeholders, images, output = _trace(model, shape)
    ours = {id(kernel) for kernel in prunable}
    kernels = {
        placeholder.op: variable
        for variable, placeholder in placeholders
        if id(variable) in ours or sum(axis > 1 for axis in variable.shape) > 1
    }
    dependent = _dependent(graph, images.op)
    places = {operation: place for place, operation in enumerate(graph.get_operations())}
    # Always the latest operation of those that are left: if it is the only one, everything passes through it.
    waiting = {output.op}
    while waiting:
        operation = max(waiting, key=places.__getitem__)
        waiting.remove(operation)
        inputs = {tensor.op for tensor in operation.inputs}
        used = {id(kernel): kernel for kernel in _kernels_behind(inputs - dependent, kernels)}
        if used:
            if waiting or len(used) > 1:
                break
            return next(iter(used.values()))
        waiting |= inputs & dependent
    raise InputError(
        "masks.classifier: false, but the model's output does not come from the kernel of a single layer, so that it "
        "is not clear which layer is the classifier; end the model in one layer, or --set masks.classifier=true"
    )


def _trace(model: keras.Model, shape: Sequence[int]) -> tuple[Any, list[tuple[Any, Any]], Any, Any]:
    """(graph, trainable variables with their placeholders, the images' placeholder, the output) of an evaluation."""
    trainable, others = model.trainable_variables, model.non_trainable_variables

    def evaluate(weights: list[Any], rest: list[Any], images: Any) -> Any:
        return model.stateless_call(weights, rest, images, **custom.training_argument(model, False))[0]

    specs = ([tf.TensorSpec(one.shape, one.dtype) for one in variables] for variables in (trainable, others))
    traced = tf.function(evaluate, autograph=False).get_concrete_function(*specs, tf.TensorSpec([2, *shape]))
    placeholders = traced.graph.inputs
    images = placeholders[len(trainable) + len(others)]
    return traced.graph, list(zip(trainable, placeholders, strict=False)), images, traced.outputs[0]


def _dependent(graph: Any, images: Any) -> set[Any]:
    """The operations whose values depend on the images."""
    found = {images}
    for operation in graph.get_operations():  # in the order in which they were made, inputs first
        if operation.type not in _OF_THE_SHAPE and any(tensor.op in found for tensor in operation.inputs):
            found.add(operation)
    return found


def _kernels_behind(operations: set[Any], kernels: Mapping[Any, Any]) -> list[Any]:
    """The kernels from which the values of these operations are computed."""
    seen: set[Any] = set()
    waiting = list(operations)
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
    return [kernel for operation, kernel in kernels.items() if operation in seen]
