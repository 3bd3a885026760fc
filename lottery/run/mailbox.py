"""Messages between tasks that train together, as files in the run directory."""

from __future__ import annotations

from lottery.run.patient_store import PatientStore

_FOLDER = "groups"


class Mailbox:
    """Messages by group, round and worker. In a round each worker of a group posts one message and reads all."""

    def __init__(self, store: PatientStore) -> None:
        self._store = store

    def post(self, group: str, number: int, worker: int, message: bytes) -> None:
        """Leaves a worker's message of round `number`."""
        self._store.write(f"{_round(group, number)}{worker:03d}.json", message)

    def messages(self, group: str, number: int) -> list[bytes]:
        """The messages of round `number` that have been posted so far, by worker."""
        names = self._store.list(f"{_FOLDER}/{group}")
        return [self._store.read(name) for name in names if name.startswith(_round(group, number))]

    def clear(self) -> None:
        """Deletes the messages of earlier groups."""
        self._store.delete_tree(_FOLDER)


def _round(group: str, number: int) -> str:
    return f"{_FOLDER}/{group}/{number:06d}-"
