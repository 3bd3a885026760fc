"""How far each task of the gang is, for the driver's progress line."""

from __future__ import annotations

import msgspec

from lottery.run.patient_store import PatientStore

_FOLDER = "heartbeats"


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """`heartbeats/<task>.json`: how far a task is. What an earlier version left out has its default."""

    task: int
    executor: str
    trainings: int  # that the task has to do
    done: int
    images: int
    saved: int  # checkpoints
    time: float = 0.0  # seconds since 1970; 0 if not known


class Heartbeats:
    """The last heartbeat of each task that is at work."""

    def __init__(self, store: PatientStore) -> None:
        self._store = store

    def read(self) -> list[Heartbeat]:
        """The last heartbeat of each task, by task. A damaged one is skipped: the next one replaces it."""
        found = (self._decoded(name) for name in self._store.list(_FOLDER))
        return [heartbeat for heartbeat in found if heartbeat is not None]

    def write(self, heartbeat: Heartbeat) -> None:
        """Replaces the task's heartbeat. Tried once only; raises StorageError if that fails."""
        self._store.write_once(f"{_FOLDER}/{heartbeat.task:03d}.json", msgspec.json.encode(heartbeat))

    def clear(self) -> None:
        """Deletes the heartbeats of an earlier gang."""
        self._store.delete_tree(_FOLDER)

    def _decoded(self, name: str) -> Heartbeat | None:
        try:
            return msgspec.json.decode(self._store.read(name), type=Heartbeat)
        except (FileNotFoundError, ValueError):  # it may be replaced or cleared between the listing and the reading
            return None
