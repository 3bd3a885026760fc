"""How far each task of the gang is, and how well it uses its machine: for the driver and for `status`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from lottery.run.patient_store import PatientStore

BEAT_EVERY = 5.0  # seconds between a task's heartbeats at least; one comes with the next event after that
_FOLDER = "heartbeats"
_THREADS = 16


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's process is training, and how it has been going for the last seconds.

    Shares are of the time: 0.1 is 10%. What the process does not know is None.
    """

    trainings: tuple[str, ...]  # those of the bundle that have not ended: `dense`, or tickets by name
    step: int  # of the one that is furthest behind
    total: int  # steps of a whole training
    steps_left: int  # of all of them together
    steps_per_s: float  # of all of them together, over the last two minutes
    images_per_s: float  # of this process; each image counts once for every ticket that is trained on it
    loss: float | None = None  # training loss: the mean over the bundle's last steps
    top1: float | None = None  # the mean over the last evaluation of each
    input_wait: float = 0.0  # share that waited for a batch
    device_wait: float = 0.0  # share that waited for the device to compute steps
    checkpoint_wait: float = 0.0  # share for which training stood still for a checkpoint
    evaluation: float = 0.0  # share that evaluated
    cpu_percent: float | None = None  # of the process and its assemblers; 100 is one core
    memory_mib: float | None = None  # resident
    gpu_percent: float | None = None
    gpu_memory_mib: float | None = None
    gpu_watts: float | None = None
    gpu_mhz: float | None = None
    gpus_lost: int = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """`heartbeats/<task>.json`: how far a task is. What an earlier version left out has its default."""

    task: int
    executor: str
    trainings: int  # that the task has to do
    done: int
    images: int
    saved: int  # checkpoints
    time: float = 0.0  # seconds since 1970; 0 if not known
    gpus: int = 0  # that Spark gave the task
    seed: int | None = None  # the replicate's that it is training, if the experiment has several seeds
    waiting: int = 0  # steps of the trainings that are not in the bundle at work and not done
    # Images trained since the last checkpoint or result: lost if the process dies now. Of tasks that train together the
    # chief counts all.
    unsaved: int = 0
    deaths: int = 0  # of its processes, without those that were told to leave
    last_death: str = ""
    activity: Activity | None = None  # None between two bundles, while a process starts, or in an earlier version
    ended: bool = False  # the task has done all its work: this is its last heartbeat


class Heartbeats:
    """The last heartbeat of each task that is at work."""

    def __init__(self, store: PatientStore) -> None:
        self._store = store

    def read(self) -> list[Heartbeat]:
        """The last heartbeat of each task, by task. A damaged one is skipped: the next one replaces it.

        One listing, and one request for each task.
        """
        names = self._store.list(_FOLDER)
        if not names:
            return []
        with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
            return [heartbeat for heartbeat in pool.map(self._decoded, names) if heartbeat is not None]

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
