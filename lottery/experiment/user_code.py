"""A user's own `package.module:function`, looked up without importing it."""

from __future__ import annotations

import importlib.util

from preprocessing.common.errors import InputError


def locate(key: str, path: str) -> tuple[str, str]:
    """(module, function) of a `module:function`, whose module exists.

    Args:
        key: of the experiment, for the error.

    Raises InputError if the module cannot be found.
    """
    module, _, function = path.partition(":")
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise InputError(f"{key}: no module {module} to import {function} from; put it on the Python path")
    return module, function
