"""Importing TensorFlow without modules that it loads only for features that are not used here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hide_modules(*modules: str) -> Iterator[None]:
    """Within, importing these modules fails as if they were not installed, unless they are imported already.

    Keras imports scikit-learn, matplotlib and pandas if they are installed, for wrappers and plots that are not used
    here. That is half of the time that importing TensorFlow takes, in each child process.
    """
    hidden = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        for module in hidden:
            sys.modules.pop(module, None)
