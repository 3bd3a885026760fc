"""A hash of what a Keras model computes: its structure, from its config, and the code of a user's own layers."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import platform
import textwrap
from typing import Any

import keras
import tensorflow as tf

from lottery.models import build
from lottery.run.provenance import Provenance


def provenance(model: keras.Model) -> Provenance:
    """The model's hash, and the versions of TensorFlow, Keras and Python."""
    return Provenance(
        model=fingerprint(model),
        tensorflow=str(tf.__version__),
        keras=str(keras.__version__),
        python=".".join(platform.python_version_tuple()[:2]),
    )


def fingerprint(model: keras.Model) -> str:
    """16 hex digits that change with the model's graph, a layer's settings, and the code of classes other than Keras'.

    Comments and layout of that code do not count, nor do functions that it calls, nor weights.
    """
    layers = [model, *build.layers(model)]
    own = {type(layer) for layer in layers if type(layer).__module__.partition(".")[0] != "keras"}
    sources = {kind.__qualname__: _source(kind) for kind in own}
    lambdas = [_source(layer.function) for layer in layers if isinstance(layer, keras.layers.Lambda)]
    described = [[type(layer).__qualname__, layer.name, _config(layer)] for layer in layers]
    canonical = json.dumps([described, sources, lambdas], sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _config(layer: Any) -> Any:
    try:
        return _without_bytecode(layer.get_config())
    except NotImplementedError:  # a class with arguments that cannot be serialised; its source has to do
        return None


def _without_bytecode(tree: Any) -> Any:
    """A config without the bytecode of lambdas, which holds the paths of files on this machine."""
    if isinstance(tree, dict):
        if tree.get("class_name") == "__lambda__":
            return "__lambda__"
        return {str(key): _without_bytecode(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_bytecode(value) for value in tree]
    return tree if isinstance(tree, str | int | float | bool | None) else type(tree).__qualname__


def _source(code: Any) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError):
        return ""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:  # a lambda within an expression of several lines
        return text.strip()
