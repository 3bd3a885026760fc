"""How much memory a task may fill with the states of its tickets. TensorFlow is not loaded here."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from lottery.input.input_memory import InputMemory
from lottery.protocol import TaskPlacement

_TIMEOUT = 60.0  # seconds; without the persistence daemon nvidia-smi first initialises the driver
_MIB = 1 << 20


def task_memory(placement: TaskPlacement, taken: InputMemory) -> int:
    """Bytes for a task's states: they are tensors on its GPU, if it has one, and in main memory when they are saved.

    If nvidia-smi does not report the GPU's memory, main memory alone counts. That is the smaller of what the machine
    has and what the container may use, less what the task's input takes. YARN sets no limit that a process could see,
    and kills a container above it.
    """
    in_main_memory = host_memory(placement.tasks_on_host)
    if placement.memory is not None:
        in_main_memory = min(in_main_memory, placement.memory)
    in_main_memory = max(0, in_main_memory - taken.bytes(placement.cores))
    on_gpus = gpu_memory(placement.gpus) if placement.gpus else None
    return in_main_memory if on_gpus is None else min(on_gpus, in_main_memory)


def gpu_memory(gpus: Sequence[str]) -> int | None:
    """Bytes of the smallest of these GPUs, each of which holds all states; None if that cannot be found out.

    Args:
        gpus: indices or UUIDs, as Spark's discovery script names them.
    """
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={','.join(gpus)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
        found = [int(line) * _MIB for line in done.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError):  # no NVIDIA driver, or a part of a GPU (MIG)
        return None
    return min(found) if len(found) == len(gpus) else None


def host_memory(tasks_on_host: int) -> int:
    """Bytes that a task may use: its share of the machine's free memory, or what is left of its container's limit."""
    share = int(psutil.virtual_memory().available) // tasks_on_host
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not limit.exists() or not limit.read_text().strip().isdigit():
        return share
    statistics = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
    cached = int(statistics.get("inactive_file", 0))  # counted as used, but given back when needed
    return min(share, int(limit.read_text()) - int(used.read_text()) + cached)
