"""Importing TensorFlow without what it pulls in for others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*modules: str) -> Iterator[None]:
    """Within, importing these modules fails as if they were not installed, unless they are imported already.

    Keras imports scikit-learn, matplotlib and pandas wherever they are installed, for wrappers and plots that nothing
    here uses: half of the time that importing TensorFlow takes, and a child process does it each time.
    """
    hidden = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        for module in hidden:
            sys.modules.pop(module, None)
