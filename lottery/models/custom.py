"""Checks a user's own model, and explains its errors in a line."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import lottery
from preprocessing.common.errors import InputError

_NOT_THEIRS = ("<", *(f"{Path(str(file)).parent}{os.sep}" for file in (keras.__file__, tf.__file__, lottery.__file__)))
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WRAPPED = "Exception encountered when calling "


def check(model: Any, name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Builds a model that is not built yet, and traces it as training will.

    Raises InputError if it is not a Keras model, or does not turn images [n, *shape] into logits [n, classes]; and
    whatever its own code raises.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"model {name}: the builder returns {type(model).__name__}, not a keras.Model; return one")
    logits = model(keras.Input(shape), training=True)
    if tuple(logits.shape) != (None, classes):
        raise InputError(
            f"model {name}: turns images {list(shape)} into {list(logits.shape)}, not into [None, {classes}]; end with "
            "a value for each class"
        )


def training_argument(model: keras.Model, training: bool) -> dict[str, bool]:
    """`training` as a keyword for the model's stateless calls; empty if its `call` does not take it."""
    parameters = inspect.signature(model.call).parameters.values()
    takes = any(each.name == "training" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    return {"training": training} if takes else {}


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Around the tracing of a model: raises InputError if its Python code decides by a tensor."""
    try:
        yield
    except tf.errors.OperatorNotAllowedInGraphError as error:
        raise InputError(f"model {name}: {explain(error)}") from None


def explain(error: Exception, remedy: str = "correct the model or its options") -> str:
    """The error in a line, with the last place in the user's code that it passed through, and what may help."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()] or [""]
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THEIRS)
    ]
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    if isinstance(error, tf.errors.OperatorNotAllowedInGraphError):
        return (
            f"Python code decides by a tensor{where}, which has no value yet when the model is traced; models are not "
            "rewritten by AutoGraph: use keras.ops.where or keras.ops.cond"
        )
    if lines[0].startswith(_WRAPPED) and len(lines) > 1:
        lines = [f"{lines[0].removeprefix(_WRAPPED).rstrip('.')}: {lines[1]}"]
    return f"{type(error).__name__}: {lines[0]}{where}; {remedy}"
