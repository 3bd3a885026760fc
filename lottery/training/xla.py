"""Errors about models that XLA cannot compile, each in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from lottery.experiment.config import Experiment
from lottery.models import build
from preprocessing.common.errors import InputError

# In TensorFlow's message of many lines.
_OPERATION = re.compile(r"on XLA_\w+: (\w+) ")
_STATUS = re.compile(r"^\s*\(\d+\) [A-Z_]+:")


def check(experiment: Experiment, model: keras.Model, replicas: int) -> None:
    """Raises InputError for batch statistics that replicas exchange in the middle of a compiled step."""
    layers = [layer for layer in build.layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if experiment.training.compile == "xla" and replicas > 1 and any(layer.synchronized for layer in layers):
        raise InputError(
            f"training.compile: xla cannot compile batch norm whose statistics are over {replicas} devices; leave the "
            "key out, or set training.synchronized_batch_norm to false; if the devices are those of several "
            "executors, set gang.dense_executors and gang.executors_per_ticket to 1"
        )


@contextmanager
def explained(experiment: Experiment) -> Iterator[None]:
    """Around the first step: raises InputError for an operation of the model that XLA does not have."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if experiment.training.compile != "xla" or "XLA" not in str(error):
            raise
        remedy = "leave the key out, or change the model"
        if "deterministic" in str(error):
            remedy = f"set training.deterministic to false, or {remedy}"
        raise InputError(
            f"training.compile: xla cannot compile model {experiment.model.name}: {_reason(str(error))}; {remedy}"
        ) from None


def _reason(message: str) -> str:
    operation = _OPERATION.search(message)
    if operation:
        return f"it has no operation {operation[1]}"
    line = next(line for line in message.splitlines() if "XLA" in line)
    return _STATUS.sub("", line).strip(" .")[:200]
