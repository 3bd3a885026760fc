"""Bundles are cut by the memory of the device that holds the states."""

from __future__ import annotations

import pytest

from lottery.executor import memory
from lottery.executor.memory import gpu_memory, host_memory, task_memory
from lottery.protocol import TaskPlacement
from lottery.tickets.scheduling import bundle_size

SMI = """#!/bin/sh
test "$1 $2" = "--query-gpu=memory.total --format=csv,noheader,nounits" || exit 2
{answer}
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    def install(answer):
        (tmp_path / "nvidia-smi").write_text(SMI.format(answer=answer))
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return install


@pytest.mark.parametrize(("host", "counts"), [(1 << 40, 40960 << 20), (1 << 30, 1 << 30)])
def test_the_smallest_gpu_of_a_task_counts_and_so_does_main_memory(nvidia_smi, monkeypatch, host, counts):
    nvidia_smi('test "$3" = --id=GPU-5,1 && printf "81559\\n40960\\n"')
    monkeypatch.setattr(memory, "host_memory", lambda tasks: host)
    assert gpu_memory(("GPU-5", "1")) == 40960 << 20
    assert task_memory(TaskPlacement(gpus=("GPU-5", "1"))) == counts


@pytest.mark.parametrize("answer", ["echo No devices were found; exit 6", "echo '[N/A]'", "echo 40960", "exit 0"])
def test_without_an_answer_main_memory_counts(answer, nvidia_smi, monkeypatch):
    nvidia_smi(answer)
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 1000 // tasks)
    assert gpu_memory(("0", "1")) is None
    assert task_memory(TaskPlacement(gpus=("0", "1"), tasks_on_host=4)) == 250


def test_without_nvidia_smi_too(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory(("0",)) is None


def test_without_gpus_nvidia_smi_is_not_run(nvidia_smi, monkeypatch):
    nvidia_smi("echo 40960")
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 1000)
    assert task_memory(TaskPlacement()) == 1000


def test_tasks_share_a_machine():
    assert 0 < host_memory(1000) < host_memory(1)


@pytest.mark.parametrize(("machine", "container", "counts"), [(256, 18, 18), (8, 18, 8), (8, 0, 0), (8, None, 8)])
def test_a_container_on_a_larger_machine_counts(monkeypatch, machine, container, counts):
    monkeypatch.setattr(memory, "host_memory", lambda tasks: machine)
    assert task_memory(TaskPlacement(memory=container)) == counts


def test_a_bundle_fits_into_the_container(monkeypatch):
    # A quarter of a node of 256 GB is more than a container of 18 GB, which YARN would kill.
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 256 << 30)
    parameters = 25_000_000
    tickets = bundle_size("auto", parameters, task_memory(TaskPlacement(memory=16 << 30)))
    assert tickets == 8
    assert tickets * 5 * 4 * parameters <= 4 << 30
