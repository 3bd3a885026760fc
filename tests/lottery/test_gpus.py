"""What NVIDIA's driver says of a process's GPUs; the driver is simulated."""

from __future__ import annotations

import pytest

from lottery.gpus import GpuReading, Gpus
from tests.lottery.fake_nvml import FakeGpu, error, install

FIRST = FakeGpu("GPU-aa11", percent=80, memory=1000, milliwatts=300_000, mhz=1700)
SECOND = FakeGpu("GPU-aa22", percent=60, memory=500, milliwatts=200_000, mhz=1500)


@pytest.mark.parametrize(
    ("visible", "percent"),
    [
        ("0", 80),
        ("1,0", 70),
        ("GPU-aa22", 60),
        ("GPU-aa2", 60),  # CUDA takes the beginning of a UUID
        ("GPU-aa22, 0", 70),
        ("1,7", 60),
        ("GPU-bb,1", 60),
    ],
)
def test_gpus_by_index_and_uuid(monkeypatch, visible, percent):
    install(monkeypatch, FIRST, SECOND)
    assert Gpus(visible).read().percent == percent


def test_means_and_sums_over_several(monkeypatch):
    install(monkeypatch, FIRST, SECOND)
    assert Gpus("0,1").read() == GpuReading(percent=70, memory_mib=1500, watts=500, mhz=1600)


@pytest.mark.parametrize("visible", [None, "", "-1", "GPU-aa", "GPU-cc", "two"])
def test_what_names_no_gpu(monkeypatch, visible):
    """A beginning that two UUIDs have names neither."""
    install(monkeypatch, FIRST, SECOND)
    assert len(Gpus(visible)) == 0


@pytest.mark.parametrize("why", ["LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH"])
def test_without_a_driver_there_is_nothing_and_no_error(monkeypatch, why):
    install(monkeypatch, fails=why)
    gpus = Gpus("0")
    assert len(gpus) == 0
    assert gpus.read() == GpuReading()


def test_a_mig_instance_has_memory_but_no_use_and_no_power(monkeypatch):
    refused = error("NOT_SUPPORTED")
    instance = FakeGpu("MIG-77", percent=refused, memory=900, milliwatts=refused, mhz=refused)
    install(monkeypatch, FIRST, instances=(instance,))
    assert Gpus("MIG-77").read() == GpuReading(memory_mib=900)


def test_power_without_permission(monkeypatch):
    install(monkeypatch, FakeGpu("GPU-1", milliwatts=error("NO_PERMISSION")), FakeGpu("GPU-2", milliwatts=100_000))
    reading = Gpus("0,1").read()
    assert (reading.percent, reading.watts, reading.lost) == (80, 100, 0)
    assert Gpus("0").read().watts is None


def test_a_lost_gpu_is_counted_and_the_others_are_read(monkeypatch):
    lost = FakeGpu("GPU-1", percent=error("GPU_IS_LOST"))
    install(monkeypatch, lost, FIRST)
    assert Gpus("0,1").read() == GpuReading(percent=80, memory_mib=1000, watts=300, mhz=1700, lost=1)
    assert Gpus("0").read() == GpuReading(lost=1)
