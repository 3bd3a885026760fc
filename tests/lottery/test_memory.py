"""Bundles are cut by the memory of the device that holds the states."""

from __future__ import annotations

import pytest

from lottery.executor import memory
from lottery.executor.memory import gpu_memory, host_memory, task_memory
from lottery.experiment.sections import Data, Input
from lottery.input.batch_assembler import threads
from lottery.input.input_memory import InputMemory, input_memory
from lottery.protocol import TaskPlacement
from lottery.tickets.scheduling import bundle_size

NOTHING = InputMemory(0, False, Input())
GIB = 1 << 30
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
    assert task_memory(TaskPlacement(gpus=("GPU-5", "1")), NOTHING) == counts


@pytest.mark.parametrize("answer", ["echo No devices were found; exit 6", "echo '[N/A]'", "echo 40960", "exit 0"])
def test_without_an_answer_main_memory_counts(answer, nvidia_smi, monkeypatch):
    nvidia_smi(answer)
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 1000 // tasks)
    assert gpu_memory(("0", "1")) is None
    assert task_memory(TaskPlacement(gpus=("0", "1"), tasks_on_host=4), NOTHING) == 250


def test_without_nvidia_smi_too(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory(("0",)) is None


def test_without_gpus_nvidia_smi_is_not_run(nvidia_smi, monkeypatch):
    nvidia_smi("echo 40960")
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 1000)
    assert task_memory(TaskPlacement(), NOTHING) == 1000


def test_tasks_share_a_machine():
    assert 0 < host_memory(1000) < host_memory(1)


@pytest.mark.parametrize(("machine", "container", "counts"), [(256, 18, 18), (8, 18, 8), (8, 0, 0), (8, None, 8)])
def test_a_container_on_a_larger_machine_counts(monkeypatch, machine, container, counts):
    monkeypatch.setattr(memory, "host_memory", lambda tasks: machine)
    assert task_memory(TaskPlacement(memory=container), NOTHING) == counts


def test_a_bundle_fits_into_the_container(monkeypatch):
    # A quarter of a node of 256 GB is more than a container of 18 GB, which YARN would kill.
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 256 << 30)
    parameters = 25_000_000
    tickets = bundle_size("auto", parameters, task_memory(TaskPlacement(memory=16 << 30), NOTHING))
    assert tickets == 8
    assert tickets * 5 * 4 * parameters <= 4 << 30


def test_what_the_input_takes_is_not_for_states(nvidia_smi, monkeypatch):
    monkeypatch.setattr(memory, "host_memory", lambda tasks: 16 << 30)
    taken = InputMemory(1 << 30, True, Input())
    found = task_memory(TaskPlacement(cores=8, memory=15 << 30), taken)
    assert found == (15 << 30) - (1 << 30) - (2 << 30) - 800 * 2**20
    nvidia_smi("echo 8192")
    assert task_memory(TaskPlacement(gpus=("0",), cores=8, memory=15 << 30), taken) == 8 << 30
    assert task_memory(TaskPlacement(cores=8, memory=1 << 30), taken) == 0
    assert bundle_size("auto", 10**6, 0) == 1


IMAGENET = Data(batch=256, crop=224)
STEPS = 350 * 5_004
RUN = 256 * 224 * 224 * 3


@pytest.mark.parametrize(
    ("data", "settings", "steps", "workers", "cores", "expected"),
    [
        (IMAGENET, Input(), STEPS, 1, 8, 6 * RUN + 800 * 2**20 + 2 * GIB),
        (IMAGENET, Input(), STEPS, 1, 64, 6 * RUN + 800 * 2**20 + 2 * GIB),  # at most 8 processes
        (IMAGENET, Input(threads=3), STEPS, 1, 64, 6 * RUN + 300 * 2**20 + 2 * GIB),
        (IMAGENET, Input(), STEPS, 4, 8, 7 * RUN // 4 + 800 * 2**20 + 2 * GIB),
        (IMAGENET, Input(), STEPS, 1, 1, 6 * RUN),  # this process does it
        (IMAGENET, Input(), 100, 1, 8, 6 * RUN),  # threads do it
        (Data(batch=256, crop=224, augment="device"), Input(), 10, 1, 8, 6 * 256 * 256 * 256 * 3),
        (Data(batch=10), Input(), 10**9, 1, 2, 6 * 8 * 10 * 256 * 256 * 3 + 200 * 2**20 + 2 * GIB),
    ],
)
def test_what_the_input_takes(data, settings, steps, workers, cores, expected):
    assert input_memory(data, settings, 256, steps, workers).bytes(cores) == expected


@pytest.mark.parametrize(
    ("settings", "cores", "count"), [(Input(), 64, 8), (Input(), 3, 3), (Input(threads=12), 3, 12)]
)
def test_a_task_of_many_cores_has_no_more_than_eight_threads(settings, cores, count):
    assert threads(settings, cores) == count
