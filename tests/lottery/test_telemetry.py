import pytest

from lottery.worker import telemetry
from lottery.worker.telemetry import GpuUse, Telemetry


def test_a_row_counts_images_and_waiting_since_the_last_one(monkeypatch):
    now = 100.0
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: now)

    def slow():
        nonlocal now
        for number in range(3):
            now += 0.5
            yield number

    watched = Telemetry()
    assert list(watched.waiting(slow())) == [0, 1, 2]
    watched.trained(30)
    now += 1.0
    row = watched.row()
    assert (row["seconds"], row["images_per_s"], row["input_wait"]) == (2.5, 12.0, 0.6)
    assert row["memory_mib"] > 10
    assert "gpu_percent" not in row
    now += 1.0
    again = watched.row()
    assert (again["images_per_s"], again["input_wait"]) == (0.0, 0.0)


def test_nvidia_smis_words():
    assert telemetry.parse("80, 1000\n60, 500\n") == GpuUse(70.0, 1500.0)


@pytest.mark.parametrize("said", ["", "[N/A], 3\n", "no devices were found\n"])
def test_words_of_another_kind(said):
    with pytest.raises(ValueError, match=r"."):
        telemetry.parse(said)
