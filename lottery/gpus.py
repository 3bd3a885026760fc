"""A process's GPUs as NVIDIA's driver reports them, through NVML. A machine without the driver has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pynvml

_MIB = 2**20
# A GPU that has fallen off the bus, or that waits for a reset: nothing computes on it any more.
_LOST = tuple(
    getattr(pynvml, name) for name in ("NVMLError_GpuIsLost", "NVMLError_ResetRequired") if hasattr(pynvml, name)
)

T = TypeVar("T")


class GpuReading(NamedTuple):
    """Several GPUs at one moment. None: the driver does not say, as of a MIG instance's use or without permission."""

    percent: float | None = None  # of the time that a kernel was running: the mean
    memory_mib: float | None = None  # in use: the sum
    watts: float | None = None  # the sum
    mhz: float | None = None  # of the multiprocessors' clock: the mean
    lost: int = 0  # GPUs that no longer answer


class Gpus:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES names, by index, UUID, beginning of a UUID, or MIG UUID.

    What the driver does not know is left out, as CUDA does. None, "" and "-1" name no GPU.
    """

    def __init__(self, visible: str | None) -> None:
        self._handles: list[Any] = []
        names = [name.strip() for name in (visible or "").split(",")]
        if not any(names) or names == ["-1"]:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:  # no driver, or one that is broken; what needs GPUs reports that elsewhere
            return
        found = (_handle(name) for name in names)
        self._handles = [handle for handle in found if handle is not None]

    def __len__(self) -> int:
        return len(self._handles)

    def read(self) -> GpuReading:
        """What the driver says of them now."""
        readings = [_read(handle) for handle in self._handles]
        return GpuReading(
            percent=_mean([reading.percent for reading in readings]),
            memory_mib=_sum([reading.memory_mib for reading in readings]),
            watts=_sum([reading.watts for reading in readings]),
            mhz=_mean([reading.mhz for reading in readings]),
            lost=sum(reading.lost for reading in readings),
        )


def _handle(name: str) -> Any | None:
    """NVML's handle of one GPU; None if there is none of that name."""
    try:
        if name.isdigit():
            return pynvml.nvmlDeviceGetHandleByIndex(int(name))
        if name.startswith("MIG-"):
            return pynvml.nvmlDeviceGetHandleByUUID(name)
        return _by_beginning(name) if name else None
    except pynvml.NVMLError:
        return None


def _by_beginning(name: str) -> Any | None:
    """The one GPU whose UUID begins so."""
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    found = [handle for handle in handles if pynvml.nvmlDeviceGetUUID(handle).startswith(name)]
    return found[0] if len(found) == 1 else None


def _read(handle: Any) -> GpuReading:
    try:
        return GpuReading(
            percent=_told(lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            memory_mib=_told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used / _MIB),
            watts=_told(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            mhz=_told(lambda: float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))),
        )
    except _LOST:
        return GpuReading(lost=1)


def _told(ask: Callable[[], T]) -> T | None:
    """The driver's answer; None if it has none. Raises what says that the GPU is lost."""
    try:
        return ask()
    except _LOST:
        raise
    except pynvml.NVMLError:
        return None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
