"""The run directory as the workers beside the chief see it."""

from __future__ import annotations

from preprocessing.common.storage import Store


class OnlookersStore(Store):
    """A store that reads and does not write: all workers know the same, and the chief writes it."""

    def write(self, path: str, data: bytes) -> None:
        """Does nothing."""
