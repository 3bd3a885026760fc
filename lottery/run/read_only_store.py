"""The run directory for the workers that are not the chief."""

from __future__ import annotations

from preprocessing.common.storage import Store


class ReadOnlyStore(Store):
    """A store that reads and does not write: all workers have the same results, and the chief writes them."""

    def write(self, path: str, data: bytes) -> None:
        """Does nothing."""
