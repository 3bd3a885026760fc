"""What telemetry measures, and that it is kept small."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from lottery.run.telemetry_rows import merged, thinned
from lottery.worker import telemetry
from lottery.worker.telemetry import Telemetry
from tests.lottery.fake_nvml import FakeGpu, error, install

NEVER = 3600.0  # seconds between the thread's samples; a test samples by itself


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: Clock.now)
    return Clock


@pytest.fixture
def watch():
    made = []

    def make(*arguments):
        made.append(Telemetry(*arguments, every=NEVER))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_row_counts_images_and_waits_since_the_last_one(clock, watch):
    def slow():
        for number in range(3):
            clock.now += 0.5
            yield number

    watched = watch()
    assert list(watched.waiting(slow())) == [0, 1, 2]
    watched.trained(30)
    for wait, seconds in (("device", 0.4), ("checkpoint", 0.2), ("evaluation", 0.3)):
        with watched.spent(wait):
            clock.now += seconds
    clock.now += 0.1
    row = watched.row()
    assert (row["seconds"], row["images_per_s"], row["input_wait"]) == (2.5, 12.0, 0.6)
    assert (row["device_wait"], row["checkpoint_wait"], row["evaluation"]) == (0.16, 0.08, 0.12)
    assert row["memory_mib"] > 10
    assert "gpu_percent" not in row
    clock.now += 1.0
    again = watched.row()
    assert (again["images_per_s"], again["input_wait"], again["device_wait"]) == (0.0, 0.0, 0.0)


def test_a_wait_that_ends_in_an_error_counts(clock, watch):
    watched = watch()

    def step():
        with watched.spent("device"):
            clock.now += 1.0
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        step()
    assert watched.row()["device_wait"] == 1.0


def test_meters_do_not_take_from_one_another(clock, watch):
    watched = watch()
    meter = watched.meter()
    watched.trained(10)
    clock.now += 1.0
    assert meter.read()["images_per_s"] == 10
    clock.now += 1.0
    assert meter.read()["images_per_s"] == 0
    assert watched.row()["images_per_s"] == 5


def test_gpus_are_means_of_samples_and_the_most_memory(monkeypatch, watch):
    gpu = FakeGpu("GPU-1", percent=90, memory=100)
    install(monkeypatch, gpu)
    watched = watch("0")
    watched.sample()
    gpu.percent, gpu.memory, gpu.milliwatts, gpu.mhz = 70, 50, 100_000, 1255
    watched.sample()
    row = watched.row()
    found = {name: value for name, value in row.items() if name.startswith("gpu")}
    assert found == {"gpu_percent": 80.0, "gpu_watts": 200.0, "gpu_mhz": 1505.0, "gpu_memory_mib": 100}
    assert "gpu_percent" not in watched.row()


def test_a_gpu_that_is_lost_on_the_way_is_in_the_row(monkeypatch, watch):
    gpu = FakeGpu("GPU-1")
    install(monkeypatch, gpu)
    watched = watch("0")
    gpu.percent = error("GPU_IS_LOST")
    watched.sample()
    row = watched.row()
    assert row["gpus_lost"] == 1
    assert "gpu_percent" not in row


def test_the_thread_samples_by_itself_and_ends(monkeypatch):
    gpu = FakeGpu("GPU-1")
    install(monkeypatch, gpu)
    watched = Telemetry("0", every=0.01)
    end = time.monotonic() + 30
    while gpu.asked < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    watched.close()
    assert watched.row()["gpu_percent"] == 80
    time.sleep(0.1)
    before = gpu.asked
    time.sleep(0.1)
    assert gpu.asked == before


def test_processes_that_this_one_starts_count():
    watched = Telemetry(every=0.01)
    burn = "import time\nend = time.process_time() + 60\nwhile time.process_time() < end: pass"
    child = subprocess.Popen([sys.executable, "-c", burn])
    try:
        end = time.monotonic() + 60
        watched.row()
        while True:
            before, own, started = watched.counts().cpu, time.process_time(), time.monotonic()
            time.sleep(0.5)
            others = watched.counts().cpu - before - (time.process_time() - own)
            if others > 0.1 * (time.monotonic() - started):
                break
            assert time.monotonic() < end
    finally:
        child.kill()
        child.wait()
        watched.close()


def row(seconds, **columns):
    return {"time": 0.0, "seconds": seconds, **columns}


def test_two_rows_become_their_mean_over_time():
    one = row(10, input_wait=0.1, memory_mib=500, gpu_memory_mib=90, step=5, executor="a:1", gpu_percent=50)
    other = {**row(30, input_wait=0.3, memory_mib=400, gpu_memory_mib=70, step=9, executor="a:1"), "time": 40.0}
    assert merged(one, other) == {
        "time": 40.0,
        "seconds": 40,
        "input_wait": 0.25,
        "memory_mib": 400,
        "gpu_memory_mib": 90,
        "step": 9,
        "executor": "a:1",
        "gpu_percent": 50,
    }


def test_a_week_of_rows_stays_small_and_even():
    rows: list[dict] = []
    for minute in range(7 * 24 * 60):
        rows = thinned([*rows, {**row(60.0, images_per_s=float(minute)), "time": 60.0 * minute}], most=100)
    assert len(rows) == 100
    assert sum(each["seconds"] for each in rows) == 7 * 24 * 3600
    assert max(each["seconds"] for each in rows) <= 4 * 7 * 24 * 3600 / 100
    mean = sum(each["images_per_s"] * each["seconds"] for each in rows) / (7 * 24 * 3600)
    assert mean == pytest.approx((7 * 24 * 60 - 1) / 2, rel=1e-3)


def test_rows_of_an_earlier_version_can_be_thinned():
    old = [{"time": 1.0, "seconds": 2.0, "images_per_s": 5.0, "input_wait": 0.0, "memory_mib": 300}] * 3
    assert [each["seconds"] for each in thinned(old, 2)] == [4.0, 2.0]
