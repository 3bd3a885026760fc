"""Stands for NVIDIA's driver: functions of `pynvml` on GPUs that a test describes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


@dataclass
class FakeGpu:
    """A GPU, or a MIG instance; an exception in place of a value is what the driver answers."""

    uuid: str
    percent: Any = 80
    memory: Any = 4096  # MiB in use
    milliwatts: Any = 300_000
    mhz: Any = 1755
    asked: int = field(default=0, compare=False)


def error(name: str) -> Exception:
    return pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))


def install(monkeypatch: Any, *gpus: FakeGpu, instances: tuple[FakeGpu, ...] = (), fails: str = "") -> None:
    """Puts GPUs, by index, and MIG instances, by UUID only, behind `pynvml`; `fails` names why there is no driver."""

    def start() -> None:
        if fails:
            raise error(fails)

    def by_index(index: int) -> FakeGpu:
        if index >= len(gpus):
            raise error("INVALID_ARGUMENT")
        return gpus[index]

    def by_uuid(uuid: str) -> FakeGpu:
        for gpu in (*gpus, *instances):
            if gpu.uuid == uuid:
                return gpu
        raise error("NOT_FOUND")

    def answer(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    def utilization(gpu: FakeGpu) -> Any:
        gpu.asked += 1
        return SimpleNamespace(gpu=answer(gpu.percent))

    fakes = {
        "nvmlInit": start,
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetUtilizationRates": utilization,
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=answer(gpu.memory) * 2**20),
        "nvmlDeviceGetPowerUsage": lambda gpu: answer(gpu.milliwatts),
        "nvmlDeviceGetClockInfo": lambda gpu, clock: answer(gpu.mhz),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(pynvml, name, fake)
