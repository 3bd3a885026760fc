"""How well a training process uses its machine: images per second, waiting for input, memory and GPUs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import psutil

_SAMPLE_EVERY = 5.0  # seconds between looks at the GPUs
_MIB = 2**20

T = TypeVar("T")


class GpuUse(NamedTuple):
    """The use of this process's GPUs: the mean in percent, and memory in MiB over all of them."""

    use: float
    memory: float


class Telemetry:
    """Counts between one `row` and the next.

    A row says, over the time since the last one: `images_per_s` (each image counted once for every ticket that is
    trained on it), `input_wait` (the share of the time that training waited for a batch; near 0 is good), `memory_mib`
    (resident, now), and with NVIDIA GPUs `gpu_percent` (mean of samples) and `gpu_memory_mib` (the most).
    """

    def __init__(self, gpus: str | None = None) -> None:
        """Watches the GPUs in `gpus`, a value of CUDA_VISIBLE_DEVICES; None, "" or "-1" is no GPU."""
        self._images = 0
        self._waited = 0.0
        self._since = time.perf_counter()
        self._samples: list[GpuUse] = []
        self._ended = threading.Event()
        if gpus and gpus != "-1" and shutil.which("nvidia-smi"):
            threading.Thread(target=self._watch, args=(gpus,), daemon=True).start()

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
                self._waited += time.perf_counter() - started
            yield batch

    def trained(self, images: int) -> None:
        """Counts images."""
        self._images += images

    def row(self) -> dict[str, Any]:
        """What was counted since the last row."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        row: dict[str, Any] = {
            "time": round(time.time(), 1),
            "seconds": round(seconds, 3),
            "images_per_s": round(self._images / seconds, 1),
            "input_wait": round(self._waited / seconds, 4),
            "memory_mib": round(psutil.Process().memory_info().rss / _MIB),
        }
        samples, self._samples = self._samples, []
        if samples:
            row["gpu_percent"] = round(sum(sample.use for sample in samples) / len(samples), 1)
            row["gpu_memory_mib"] = max(sample.memory for sample in samples)
        self._images, self._waited, self._since = 0, 0.0, now
        return row

    def close(self) -> None:
        """Stops watching the GPUs."""
        self._ended.set()

    def _watch(self, gpus: str) -> None:
        asked = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
        while not self._ended.wait(_SAMPLE_EVERY):
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
                said = subprocess.run(
                    ["nvidia-smi", f"--id={gpus}", *asked], capture_output=True, text=True, timeout=30, check=True
                )
                self._samples.append(parse(said.stdout))


def parse(said: str) -> GpuUse:
    """Parses nvidia-smi's lines of `use, memory`, one per GPU. Raises ValueError without lines, or without numbers."""
    rows = [tuple(float(value) for value in line.split(",")) for line in said.splitlines() if line.strip()]
    if not rows:
        raise ValueError("nvidia-smi named no GPU")
    return GpuUse(sum(use for use, _ in rows) / len(rows), sum(memory for _, memory in rows))
