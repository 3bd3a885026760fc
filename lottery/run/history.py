"""`history.jsonl` of a run directory: what happened to its sweep, and when. The driver writes it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from lottery.run import checksum
from lottery.run.patient_store import PatientStore
from preprocessing.common.errors import StorageError

_FILE = "history.jsonl"
_MOST = 1000  # rows
_MINOR = ("process died", "warning")  # what goes first if there are more

Kind = Literal[
    "sweep began", "stage began", "stage ended", "stage failed", "process died", "warning", "alive", "sweep ended"
]


class Happening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of history.jsonl. `alive`, always the last row, is replaced each minute while a stage is at work."""

    time: float  # seconds since 1970
    kind: Kind
    stage: str = ""  # `dense run`, `masks` or `tickets`
    tasks: int = 0  # of a stage that began
    slots: int = 0  # executors that the sweep holds, from a stage's beginning on
    trainings: int = 0  # of a stage that began
    task: int | None = None  # whose process died
    executor: str = ""
    message: str = ""
    lost_images: int = 0  # trained since the last checkpoint, and to be trained again; each once for every ticket
    lost_seconds: float = 0.0  # of one executor, for the same


class History:
    """What happened to a sweep. A history that cannot be written is no reason to stop one: errors are passed over."""

    def __init__(self, store: PatientStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._rows: list[Happening] | None = None
        self._lock = threading.Lock()

    def read(self) -> list[Happening]:
        """All rows, oldest first. A damaged row is left out. Raises StorageError."""
        try:
            blob = self._store.read(_FILE)
        except FileNotFoundError:
            return []
        found = (_decoded(line) for line in blob.decode(errors="replace").splitlines())
        return [row for row in found if row is not None]

    def add(self, kind: Kind, **fields: Any) -> None:
        """Adds a row of now, in place of the last one if that only says that the sweep was alive."""
        with self._lock:
            try:
                rows = self.read() if self._rows is None else self._rows
                if rows and rows[-1].kind == "alive":
                    rows = rows[:-1]
                self._rows = shortened([*rows, Happening(time=round(self._clock(), 1), kind=kind, **fields)])
                self._store.write_once(_FILE, b"".join(map(_encoded, self._rows)))
            except StorageError:
                return


def shortened(rows: list[Happening], most: int = _MOST) -> list[Happening]:
    """At most `most` rows: the oldest deaths and warnings go first, then the oldest of all."""
    surplus = len(rows) - most
    if surplus <= 0:
        return rows
    minor = [place for place, row in enumerate(rows) if row.kind in _MINOR]
    dropped = set(minor[:surplus])
    left = [row for place, row in enumerate(rows) if place not in dropped]
    return left[len(left) - most :]


def _encoded(row: Happening) -> bytes:
    return json.dumps(checksum.seal(msgspec.to_builtins(row)), ensure_ascii=False).encode() + b"\n"


def _decoded(line: str) -> Happening | None:
    try:
        return msgspec.convert(checksum.unseal(line), Happening)
    except (ValueError, msgspec.ValidationError):  # cut off, damaged, or of a later version
        return None
