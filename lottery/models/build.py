"""Builds a model by its name, and finds the kernels that can be pruned. lottery.models.registry has the names."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from lottery.experiment.sections import Model
from lottery.models import custom, logits
from lottery.models.classifier import classifier_kernel
from lottery.models.registry import locate
from preprocessing.common.errors import InputError

Builder = Callable[..., keras.Model]
Shape = tuple[int, int, int]


def build(
    model: Model,
    shape: Shape,
    classes: int,
    seed: int,
    precision: str = "float32",
    scope: AbstractContextManager[Any] | None = None,
    again: bool = False,
) -> keras.Model:
    """A fresh model for float images [n, *shape] whose weights depend on `seed` alone.

    Its layers compute by the Keras policy `precision`: float32, mixed_float16 or mixed_bfloat16. Weights are float32
    in all three. They are made in `scope`, such as a strategy's, which must not be entered yet. If the same model was
    built before (`again`), its outputs are not checked.

    Raises InputError if the name or an option is unknown, the model does not take images of this shape, or its outputs
    are not logits.
    """
    builder = _builder(model.name)
    _check_options(model, builder)
    # Keras numbers the names that it makes up. Without this a variable's path, which is its name in a checkpoint, would
    # depend on the models that the process has built before.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    try:
        with scope or nullcontext():
            built = builder(shape, classes, **model.options)
            if ":" in model.name:
                custom.check(built, model.name, shape, classes)
        if ":" in model.name and not again:
            logits.check(built, model.name, shape)
        return built
    except InputError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise InputError(
            f"model {model.name} with options {model.options} on images {shape}: {custom.explain(error)}"
        ) from None
    finally:
        keras.config.set_dtype_policy("float32")


def options(name: str) -> dict[str, Any]:
    """The options of a model's builder, and their defaults. Raises InputError if there is no such model."""
    return {parameter.name: parameter.default for parameter in _options(_builder(name))}


def _options(builder: Builder) -> list[inspect.Parameter]:
    return list(inspect.signature(builder).parameters.values())[2:]


def _builder(name: str) -> Builder:
    module, function = locate(name)
    try:
        found: Builder | None = getattr(importlib.import_module(module), function, None)
    except Exception as error:
        raise InputError(f"model.name: importing {module} failed: {custom.explain(error)}") from None
    if found is None:
        raise InputError(f"model.name: {module} has no {function}; correct the name")
    return found


def _check_options(model: Model, builder: Builder) -> None:
    """Raises InputError for an option that the builder lacks; the message suggests the nearest one."""
    parameters = _options(builder)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for option in model.options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"its options are {', '.join(known) or 'none'}"
            raise InputError(f"model.options: model {model.name} has no option {option}; {hint}")


def layers(model: keras.Model) -> list[Any]:
    """The model's layers in order, nested ones included."""
    return list(model._flatten_layers(include_self=False))


def synchronize_batch_norm(model: keras.Model, synchronized: bool = True) -> None:
    """Has batch norm's statistics taken over the images of all devices, or of each by itself."""
    for layer in layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def prunable_kernels(model: keras.Model, classifier: bool, shape: Shape | None = None) -> list[Any]:
    """The kernels of convolution, depthwise and dense layers in the model's order, as variables.

    Never biases, batch-norm parameters or statistics.

    Args:
        classifier: False leaves out the layer whose kernel feeds the output (`lottery.models.classifier`).
        shape: [height, width, channels] of an image; not needed if the model knows the shape of its input.

    Raises InputError if the classifier is to be left out but cannot be identified.
    """
    prunable = [layer for layer in layers(model) if isinstance(layer, PRUNABLE_LAYERS)]
    if not classifier:
        kernels = [kernel for layer in prunable for kernel in _kernels(layer)]
        last = classifier_kernel(model, shape or model.inputs[0].shape[1:], kernels)
        prunable = [layer for layer in prunable if not any(kernel is last for kernel in _kernels(layer))]
    return [kernel for layer in prunable for kernel in _kernels(layer)]


PRUNABLE_LAYERS = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)


def multiply_adds(model: keras.Model, weights: Callable[[Any], int] = lambda kernel: math.prod(kernel.shape)) -> int:
    """Multiplications that the convolution, depthwise and dense layers do for one image.

    Papers call them FLOPs (He et al., 2016) or MAdds (Sandler et al., 2018): a multiplication and its addition are one.

    Args:
        weights: how many weights of a kernel, a variable, are counted; all of them by default.
    """
    total = 0
    for layer in layers(model):
        if isinstance(layer, PRUNABLE_LAYERS):
            positions = math.prod(layer.output.shape[1:-1])  # 1 for a dense layer
            total += positions * sum(weights(kernel) for kernel in _kernels(layer))
    return total


def _kernels(layer: Any) -> list[Any]:
    return [variable for variable in layer.trainable_variables if variable.name.endswith("kernel")]
