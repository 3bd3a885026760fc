"""Whether the TensorFlow of an executor can use the GPUs that Spark gave it; where not, what to install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

_TENSORFLOW_TIMEOUT = 180.0  # seconds; a first import from a network file system is slow
_DRIVER_TIMEOUT = 60.0  # seconds; without the persistence daemon the driver starts with the question
_LOOK = """
import json, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
for index in range(len(gpus)):
    with tf.device(f"/gpu:{index}"):
        tf.ones(1) + 1
print(json.dumps({"gpus": len(gpus), "cuda": tf.sysconfig.get_build_info().get("cuda_version", "")}))
"""


class Seen(NamedTuple):
    """What TensorFlow and the driver say."""

    gpus: int  # that TensorFlow computed on
    cuda: str  # version that TensorFlow was built for; empty where for none
    driver: str  # version of the driver; empty where there is none
    driver_cuda: str  # newest version of CUDA that the driver knows
    words: str  # the last that TensorFlow said


def problem(gpus: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What is wrong, with its remedy, where a child with this environment cannot compute on these GPUs."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOOK],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=_TENSORFLOW_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"TensorFlow did not start within {_TENSORFLOW_TIMEOUT:.0f} s; check the environment of the executors"
    words = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode:
        return f"Spark gave GPUs {', '.join(gpus)}, and TensorFlow fails there: {words}; {_REINSTALL}"
    found = msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=dict[str, int | str])
    if found["gpus"] == len(gpus):
        return None
    driver, driver_cuda = _driver()
    return explanation(gpus, Seen(int(found["gpus"]), str(found["cuda"]), driver, driver_cuda, words))


_REINSTALL = "install tensorflow[and-cuda], and a driver that fits its CUDA"


def explanation(gpus: Sequence[str], seen: Seen) -> str:
    """Why TensorFlow does not see as many GPUs as it was given, as far as versions tell.

    A driver serves every CUDA up to its own, and within one major version newer ones as well (NVIDIA, "CUDA
    Compatibility": minor version compatibility).
    """
    but = f"Spark gave GPUs {', '.join(gpus)}, TensorFlow sees {seen.gpus}: "
    if not seen.cuda:
        return f"{but}it is built for processors alone; install tensorflow[and-cuda]"
    if not seen.driver:
        return f"{but}nvidia-smi finds no driver; install NVIDIA's, for CUDA {_major(seen.cuda)} or later"
    if _major(seen.driver_cuda) < _major(seen.cuda):
        return (
            f"{but}it is built for CUDA {seen.cuda}, and driver {seen.driver} ends with CUDA {seen.driver_cuda}; "
            f"install a driver for CUDA {_major(seen.cuda)} or later"
        )
    return f"{but}{seen.words}; {_REINSTALL}"


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _driver() -> tuple[str, str]:
    """Versions of the driver and of its CUDA; empty where nvidia-smi does not tell."""
    try:
        said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=_DRIVER_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    versions = [re.search(rf"{name} Version: (\d+(?:\.\d+)*)", said.stdout) for name in ("Driver", "CUDA")]
    driver, cuda = (found[1] if found else "" for found in versions)
    return (driver, cuda) if driver and cuda else ("", "")
