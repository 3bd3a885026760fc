"""Tells logits, which the loss takes, from probabilities, by looking at a model's outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lottery.models import custom
from preprocessing.common.errors import InputError

_IMAGES = 2
_TRIES = 8  # other weights to try; the first nearly always tells


def check(model: keras.Model, name: str, shape: tuple[int, int, int]) -> None:
    """Raises InputError if the outputs lie within [0, 1] whatever the weights, as after a softmax or a sigmoid.

    A model's first weights may give such logits by chance, and a head that starts at 0 always does. So other weights
    are tried until an output lies outside. The model's own variables and the global random state do not change.
    """
    random = np.random.default_rng(0)
    own = [np.asarray(variable) for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    probabilities, evaluating = None, custom.training_argument(model, False)
    for attempt in range(1 + _TRIES):
        weights = [_other(weight, random) if attempt else weight for weight in own]
        images = random.normal(scale=2.0**attempt, size=(_IMAGES, *shape)).astype(np.float32)
        outputs, _ = model.stateless_call(weights, others, images, **evaluating)
        outputs = np.asarray(keras.ops.cast(outputs, "float32"))
        if not np.isfinite(outputs).all() or np.ptp(outputs) == 0:  # all 0, for example: tells nothing
            continue
        if outputs.min() < 0 or outputs.max() > 1:
            return
        probabilities = outputs
    if probabilities is None:
        return
    if np.allclose(probabilities.sum(axis=1), 1, atol=0.01):
        found = "ends in softmax, or the like: each row of its outputs lies within [0, 1] and sums to 1"
    else:
        found = "ends in a sigmoid, or the like: all of its outputs lie within [0, 1]"
    raise InputError(f"model {name}: {found}, and the loss takes logits; leave the activation out")


def _other(weight: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """A weight of similar size. Weights of 0, like biases and some heads at the start, become random."""
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    if not weight.any():
        return random.normal(scale=2.0, size=weight.shape).astype(weight.dtype)
    # A sign for each unit: new numbers for 25 million weights would take longer than to compute with them.
    signed: NDArray[Any] = weight * random.choice(np.array([-1, 1], weight.dtype), weight.shape[-1:])
    return signed
