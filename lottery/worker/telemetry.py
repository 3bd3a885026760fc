"""How well a training process uses its machine: images per second, what it waits for, memory, processors and GPUs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import psutil

from lottery.gpus import GpuReading, Gpus

_SAMPLE_EVERY = 5.0  # seconds
_LOOK_EVERY = 12  # samples: between looks for processes that assemble batches, which reads all of /proc
_MIB = 2**20

Wait = Literal["device", "checkpoint", "evaluation"]
T = TypeVar("T")


class _Counts(NamedTuple):
    """What has been counted since the start; times are in seconds."""

    time: float
    images: int
    waits: dict[str, float]
    cpu: float


class Telemetry:
    """Counts what a training does, and samples its GPUs in a thread of its own. Close it.

    Args:
        gpus: those to watch, a value of CUDA_VISIBLE_DEVICES; None, "" or "-1" is no GPU.
        every: seconds between samples.
    """

    def __init__(self, gpus: str | None = None, every: float = _SAMPLE_EVERY) -> None:
        self._images = 0
        self._waits = {"input": 0.0, "device": 0.0, "checkpoint": 0.0, "evaluation": 0.0}
        self._machine = _Machine(gpus)
        self._ended = threading.Event()
        self._meters: list[Meter] = []
        self._rows = self.meter()
        threading.Thread(target=self._watch, args=(every,), daemon=True).start()

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches; measures how long each is waited for."""
        iterator = iter(batches)
        while True:
            started = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._waits["input"] += time.perf_counter() - started
            yield batch

    @contextlib.contextmanager
    def spent(self, wait: Wait) -> Iterator[None]:
        """Measures the block as time that training waited for the device, a checkpoint or an evaluation."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._waits[wait] += time.perf_counter() - started

    def trained(self, images: int) -> None:
        """Counts images, each once for every ticket that is trained on it."""
        self._images += images

    def meter(self) -> Meter:
        """A further meter, which measures from now on."""
        meter = Meter(self)
        self._meters.append(meter)
        return meter

    def row(self) -> dict[str, Any]:
        """What was measured since the last row, as `Meter.read` has it, and `time`, its end."""
        return {"time": round(time.time(), 1), **self._rows.read()}

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()

    def counts(self) -> _Counts:
        """What has been counted so far."""
        return _Counts(time.perf_counter(), self._images, dict(self._waits), self._machine.cpu_seconds())

    def memory_mib(self) -> float:
        """Resident memory of this process."""
        return self._machine.memory_mib()

    def sample(self) -> None:
        """Has all meters take note of the GPUs; the thread does it every few seconds."""
        reading = self._machine.gpus()
        if reading is not None:
            for meter in self._meters:
                meter.samples.append(reading)

    def _watch(self, every: float) -> None:
        number = 0
        while not self._ended.wait(every):
            if number % _LOOK_EVERY == 0:
                self._machine.look()
            number += 1
            self.sample()


class Meter:
    """Measures from one reading to the next."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._since = telemetry.counts()
        self.samples: list[GpuReading] = []

    def read(self) -> dict[str, Any]:
        """What was measured since the last reading, by the names of telemetry's columns.

        Without a GPU, or what its driver does not say, the columns are not there.
        """
        now, before = self._telemetry.counts(), self._since
        samples, self.samples, self._since = self.samples, [], now
        seconds = max(now.time - before.time, 1e-9)

        def share(wait: str) -> float:
            return round((now.waits[wait] - before.waits[wait]) / seconds, 4)

        return {
            "seconds": round(seconds, 3),
            "images_per_s": round((now.images - before.images) / seconds, 1),
            "input_wait": share("input"),
            "device_wait": share("device"),
            "checkpoint_wait": share("checkpoint"),
            "evaluation": share("evaluation"),
            "cpu_percent": round(100 * max(0.0, now.cpu - before.cpu) / seconds, 1),
            "memory_mib": round(self._telemetry.memory_mib()),
            **_gpu_columns(samples),
        }


def _gpu_columns(samples: list[GpuReading]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, field in (("gpu_percent", "percent"), ("gpu_watts", "watts"), ("gpu_mhz", "mhz")):
        known = [value for sample in samples if (value := getattr(sample, field)) is not None]
        if known:
            columns[name] = round(sum(known) / len(known), 1)
    memory = [sample.memory_mib for sample in samples if sample.memory_mib is not None]
    if memory:
        columns["gpu_memory_mib"] = round(max(memory), 1)
    lost = max((sample.lost for sample in samples), default=0)
    return {**columns, "gpus_lost": lost} if lost else columns


class _Machine:
    """This process, those that it has started, and its GPUs."""

    def __init__(self, gpus: str | None) -> None:
        self._visible = gpus
        self._gpus: Gpus | None = None  # opened by the thread: a driver that hangs must not hold up the training
        self._own = psutil.Process()
        self._others: dict[psutil.Process, float] = {}  # with the CPU seconds that each had used when it was found

    def look(self) -> None:
        """Finds the processes that this one has started since the last look; their time counts from now on."""
        with contextlib.suppress(psutil.Error):
            for process in self._own.children(recursive=True):
                self._others.setdefault(process, _cpu_seconds(process))

    def cpu_seconds(self) -> float:
        """CPU time of this process and of those that it has started and that are still there."""
        others = list(self._others.items())
        return time.process_time() + sum(max(0.0, _cpu_seconds(process) - before) for process, before in others)

    def memory_mib(self) -> float:
        """Resident memory of this process."""
        return float(self._own.memory_info().rss) / _MIB

    def gpus(self) -> GpuReading | None:
        """What the GPUs do; None without any."""
        if self._gpus is None:
            self._gpus = Gpus(self._visible)
        return self._gpus.read() if len(self._gpus) else None


def _cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has used so far; 0 if it has ended."""
    try:
        used = process.cpu_times()
        return float(used.user + used.system)
    except psutil.Error:
        return 0.0
