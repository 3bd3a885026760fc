"""Batches that several processes assemble: the same as those of one thread, and one clear error when one dies."""

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import psutil
import pytest
from msgspec.structs import replace

from lottery.experiment.sections import Data, Input
from lottery.input import assembler_processes, augment
from lottery.input.assembler_process import Request, Slots, fill_part, open_steps
from lottery.input.assembler_processes import AssemblerError, AssemblerProcesses, slot_count
from lottery.input.training_steps import TrainingSteps
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset
from tests.lottery.datasets import local_dataset

AUGMENTED = Data(batch=12, crop=11, flip=True, crop_scale=(0.2, 1.0), colour=0.3)
KILLED_PARENT = """
import json, sys, time
import msgspec
from lottery.input.assembler_process import Request
from lottery.input.assembler_processes import AssemblerProcesses

processes = AssemblerProcesses(msgspec.json.decode(sys.argv[1], type=Request), 2)
stream = processes.runs([(step, step + 1) for step in range(10**6)])
next(stream)
print(json.dumps(processes.pids), flush=True)
for _ in stream:
    pass
"""


@pytest.fixture(scope="module", params=["tensor", "jpeg"])
def dataset(request, tmp_path_factory):
    uri, _ = local_dataset(tmp_path_factory.mktemp(request.param), codec=request.param)
    return Dataset.open(uri)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    uri, _ = local_dataset(tmp_path_factory.mktemp("tensors"))
    return Dataset.open(uri)


def request_for(dataset, steps=3, worker=0, workers=1):
    batch = 12 * (worker + 1) // workers - 12 * worker // workers
    slots = Slots(slot_count(2**20), steps, batch, (11, 11, 3))
    return Request(dataset.uri, dataset.content_hash, AUGMENTED, 1, Input(), worker, workers, 0, slots)


def one_thread(dataset, worker=0, workers=1):
    return TrainingSteps(dataset, AUGMENTED, 1, Input(threads=1), worker=worker, workers=workers)


def same(found, expected):
    return all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("workers", [1, 5])
def test_processes_give_what_one_thread_gives(dataset, workers):
    """From any start, in runs of any lengths, and to any worker of several."""
    runs = list(itertools.pairwise([5, 6, 9, 10, 12, 15, 17, 18, 20, 21, 24]))
    worker = workers // 2
    expected = list(one_thread(dataset, worker, workers).runs(runs))
    with AssemblerProcesses(request_for(dataset, 3, worker, workers), 3) as processes:
        found = [(images.copy(), labels) for images, labels in processes.runs(runs)]
    assert len(found) == len(expected)
    assert all(map(same, found, expected))


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_parts_of_all_processes_are_the_run(tensors, parts, steps):
    request = request_for(tensors)
    memory = np.full(request.slots.bytes, 7, np.uint8)
    for part in range(parts):
        own = replace(request, part=part, parts=parts)
        fill_part(own, open_steps(own), memory, 2, 6, 6 + steps)
    found = request.slots.images(memory, 2, steps), request.slots.labels(memory, 2, steps)
    (expected,) = one_thread(tensors).runs([(6, 6 + steps)])
    assert same(found, expected)
    assert (request.slots.images(memory, 1, 3) == 7).all()
    assert (request.slots.images(memory, 3, 3) == 7).all()


def test_a_process_computes_its_own_crops_alone(tensors, monkeypatch):
    computed, boxes = [], augment._boxes

    def noted(areas, *rest):
        computed.append(len(areas))
        return boxes(areas, *rest)

    monkeypatch.setattr(augment, "_boxes", noted)
    request = request_for(tensors)
    memory = np.empty(request.slots.bytes, np.uint8)
    for part in range(3):
        own = replace(request, part=part, parts=3)
        fill_part(own, open_steps(own), memory, 0, 6, 8)
    assert computed == [8, 4, 4, 8]  # of two batches of 12


def test_no_run_changes_while_it_is_held(tensors):
    """Nor does a caller that holds more runs than there is shared memory for wait for ever."""
    runs = [(step, step + 1) for step in range(24)]
    with AssemblerProcesses(request_for(tensors), 2) as processes:
        held = list(processes.runs(runs))
    assert all(map(same, held, one_thread(tensors).runs(runs)))


def test_memory_is_used_again(tensors):
    request = request_for(tensors)
    with AssemblerProcesses(request, 2) as processes:
        addresses = [images.ctypes.data for images, _ in processes.runs([(step, step + 1) for step in range(100)])]
    assert len(set(addresses)) <= request.slots.count
    assert all(address % 64 == 0 for address in addresses)  # else TensorFlow copies


@pytest.mark.parametrize(
    ("signal_sent", "said"),
    [
        (signal.SIGKILL, r"has died \(SIGKILL\), as when memory runs out; .*threads=1$"),
        (signal.SIGBUS, r"has died \(SIGBUS\), as when a file of the dataset is cut short .*; copy the dataset again$"),
    ],
)
def test_a_killed_process_is_one_clear_error(tensors, signal_sent, said):
    with AssemblerProcesses(request_for(tensors), 2) as processes:
        stream = processes.runs([(step, step + 1) for step in range(1000)])
        next(stream)
        os.kill(processes.pids[1], signal_sent)
        with pytest.raises(AssemblerError, match=said) as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        pids = processes.pids
    assert not any(map(psutil.pid_exists, pids))


def test_nothing_is_left_of_a_killed_parent(tensors):
    command = [sys.executable, "-c", KILLED_PARENT, msgspec.json.encode(request_for(tensors)).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, pids))


def test_a_notice_to_all_processes_leaves_them_at_work(tensors):
    """The process that trains saves first, and may need the batches that are on their way."""
    with AssemblerProcesses(request_for(tensors), 2) as processes:
        stream = processes.runs([(step, step + 1) for step in range(50)])
        for pid in processes.pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        assert len(list(stream)) == 50


def test_a_dataset_that_has_changed_is_refused(tensors):
    request = request_for(tensors)
    changed = replace(request, content_hash="0")
    with AssemblerProcesses(changed, 2) as processes, pytest.raises(InputError, match="has changed since") as caught:
        next(processes.runs([(0, 1)]))
    assert type(caught.value) is InputError


def test_a_file_that_disappears_is_one_clear_error(tmp_path):
    uri, _ = local_dataset(tmp_path)
    request = request_for(Dataset.open(uri))
    (tmp_path / "dataset" / "train" / "part-00001.parquet").unlink()
    missing = pytest.raises(InputError, match=r"part-00001\.parquet is damaged: it is missing; copy")
    with AssemblerProcesses(request, 2) as processes, missing as caught:
        list(processes.runs([(step, step + 1) for step in range(8)]))
    assert type(caught.value) is InputError


def test_a_file_that_is_cut_short_while_it_is_read_is_one_clear_error(tmp_path):
    """A process finds out by itself, or by a SIGBUS."""
    uri, _ = local_dataset(tmp_path)
    with AssemblerProcesses(request_for(Dataset.open(uri)), 2) as processes:
        stream = processes.runs([(step, step + 1) for step in range(10**6)])
        list(itertools.islice(stream, 20))  # all files are mapped
        os.truncate(tmp_path / "dataset" / "train" / "part-00001.parquet", 0)
        with pytest.raises((InputError, AssemblerError)) as caught:
            list(stream)
    said = {
        InputError: "part-00001.parquet is damaged: it has 0 bytes",
        AssemblerError: "(SIGBUS), as when a file of the dataset is cut short",
    }
    assert said[type(caught.value)] in str(caught.value)


@pytest.fixture
def no_large_files():
    """No file of this process, a memfd among them, may have more than a megabyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_on_memory_is_found_before_a_process_is_started(tensors, monkeypatch, no_large_files):
    monkeypatch.setattr(assembler_processes, "_start", lambda request: pytest.fail("a process was started"))
    request = request_for(tensors)
    large = replace(request, slots=replace(request.slots, count=1000))
    with pytest.raises(OSError, match="File too large") as caught:
        AssemblerProcesses(large, 2)
    assert type(caught.value) is OSError


def test_without_memory_no_process_is_started(tensors, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(assembler_processes, "_start", lambda request: pytest.fail("a process was started"))
    with pytest.raises(OSError, match="No space left") as caught:
        AssemblerProcesses(request_for(tensors), 2)
    assert type(caught.value) is OSError
