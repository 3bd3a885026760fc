"""Whether TensorFlow on an executor can use the GPUs that Spark gave it; if not, what to do about it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

_TENSORFLOW_TIMEOUT = 180.0  # seconds; a first import from a network file system is slow
_DRIVER_TIMEOUT = 60.0  # seconds; without the persistence daemon the driver starts with the question
_DYING = 10.0  # seconds; what hangs in the kernel over a broken GPU is left behind
_LOOK = """
import json, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
for gpu in gpus:
    tf.config.experimental.set_memory_growth(gpu, True)
for index in range(len(gpus)):
    with tf.device(f"/gpu:{index}"):
        tf.ones(1) + 1
print(json.dumps({"gpus": len(gpus), "cuda": tf.sysconfig.get_build_info().get("cuda_version", "")}))
"""
_LOG_PREFIX = re.compile(r"^[IWEF]\d{4} [\d:.]+ +\d+ \S+\] ")  # level and date, time, thread, file
_TELLING = re.compile(r"Could not load|Cannot dlopen|failed call to cuInit|CUDA_ERROR")


class Found(msgspec.Struct, frozen=True):
    """What TensorFlow sees."""

    gpus: int  # that it computed on
    cuda: str  # version that it was built for; empty if for none


class Driver(NamedTuple):
    """What nvidia-smi says; the versions are empty if it does not report them."""

    version: str
    cuda: str  # newest version of CUDA that the driver serves
    words: str  # its last line


class _Answer(NamedTuple):
    status: int | None  # None if it took too long
    out: str
    errors: str


def problem(gpus: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What is wrong, with its remedy, if a child with this environment cannot use all of these GPUs; else None."""
    # TensorFlow reports missing libraries as warnings.
    looking = {**environment, "TF_CPP_MIN_LOG_LEVEL": "0"}
    answer = _ask([sys.executable, "-c", _LOOK], looking, _TENSORFLOW_TIMEOUT)
    if answer.status is None:
        return f"TensorFlow did not start within {_TENSORFLOW_TIMEOUT:.0f} s; check the environment of the executors"
    said = [_LOG_PREFIX.sub("", line.strip()) for line in answer.errors.splitlines() if line.strip()] or ["no message"]
    try:
        found = msgspec.json.decode(answer.out.strip().rpartition("\n")[2], type=Found)
    except ValueError:  # msgspec's own, or Unicode's
        found = None
    if answer.status or found is None:
        return f"TensorFlow fails there: {said[-1]}; check that the environment of the executors imports it"
    if found.gpus == len(gpus):
        return None
    words = next((line for line in reversed(said) if _TELLING.search(line)), said[-1])
    return explanation(gpus, found, words.partition(". ")[0], installed_driver())  # advice for all systems follows


def explanation(gpus: Sequence[str], found: Found, words: str, driver: Driver) -> str:
    """Why TensorFlow sees fewer GPUs than it was given, as far as this can be known.

    A driver serves every CUDA up to its own, and within one major version newer ones as well (NVIDIA, "CUDA
    Compatibility": minor version compatibility).

    Args:
        words: TensorFlow's own message.
    """
    but = f"Spark gave GPUs {', '.join(gpus)}, TensorFlow sees {found.gpus}: "
    if found.gpus and any(gpu.startswith("MIG-") for gpu in gpus):
        return (
            f"{but}a process can use one MIG instance; "
            "set spark.executor.resource.gpu.amount and spark.task.resource.gpu.amount to 1"
        )
    if found.gpus:  # so its libraries and the driver fit
        return f"{but}CUDA's list ends at a GPU that is missing; compare nvidia-smi -L on that machine"
    if not found.cuda:
        return f"{but}it is built for CPUs only; install tensorflow[and-cuda]"
    if not driver.version:
        return f"{but}nvidia-smi: {driver.words}; install NVIDIA's driver for CUDA {_major(found.cuda)} or later"
    if driver.cuda and _major(driver.cuda) < _major(found.cuda):
        return (
            f"{but}it is built for CUDA {found.cuda}, and driver {driver.version} ends with CUDA {driver.cuda}; "
            f"install a driver for CUDA {_major(found.cuda)} or later"
        )
    if "CUDA_ERROR_NO_DEVICE" in words:
        return f"{but}{words}; compare nvidia-smi -L on that machine with what the discovery script lists"
    return f"{but}{words}; install tensorflow[and-cuda], and check that nvidia-smi works on the executors"


def _major(version: str) -> int:
    return int(version.split(".")[0])


def installed_driver() -> Driver:
    """What nvidia-smi says of this machine's driver."""
    try:
        answer = _ask(["nvidia-smi"], os.environ, _DRIVER_TIMEOUT)
    except OSError:
        return Driver("", "", "not found")
    if answer.status is None:
        return Driver("", "", f"no answer within {_DRIVER_TIMEOUT:.0f} s")
    # From 610 on the header calls them KMD and CUDA UMD.
    versions = [
        re.search(rf"{name} Version: *(\d+(?:\.\d+)*)", answer.out) for name in ("(?:Driver|KMD)", "CUDA(?: UMD)?")
    ]
    driver, cuda = (found[1] if found else "" for found in versions)
    lines = [line.strip() for line in (answer.out + answer.errors).splitlines() if line.strip()] or ["no message"]
    return Driver(driver, cuda, lines[-1])


def _ask(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> _Answer:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_DYING)
        return _Answer(None, "", "")
    return _Answer(process.returncode, out, errors)
