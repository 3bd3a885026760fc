"""The environment of a child process: its parent's without what would change results, and what its task was given."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

# Libraries' own settings change results behind the experiment's back: TF_ENABLE_ONEDNN_OPTS=0, NVIDIA_TF32_OVERRIDE=0
# or TF_DETERMINISTIC_OPS=1 give other bits, TF_CONFIG another cluster.
_LIBRARIES = re.compile(r"(TF|XLA|KERAS|ONEDNN|DNNL|CUDNN|CUBLAS|ITEX|ZENDNN)_|NVIDIA_TF32_OVERRIDE$|TENSORFLOW_USE_")
# Of these, what only says how much is logged, how memory is had and where files are.
_HARMLESS = re.compile(
    r"TF_CPP_|TF_FORCE_GPU_ALLOW_GROWTH$|TF_GPU_ALLOCATOR$|TF_.*MEMORY.*$|TF_.*_LIMIT_IN_MB$|KERAS_HOME$"
)
# Of XLA_FLAGS: where ptxas and libdevice are, without which XLA compiles nothing for a GPU.
_CUDA_FOLDER = "--xla_gpu_cuda_data_dir="
# Python's: without assertions, with warnings as errors, or waiting for input at the end.
_PYTHON = frozenset({"PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONINSPECT"})


def child_environment(
    gpus: Sequence[str],
    cores: int,
    endpoints: Sequence[str] = (),
    worker: int = 0,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """A child's whole environment. Never set in the Python worker, which Spark reuses for the next task.

    Args:
        gpus: addresses of its task's GPUs.
        cores: of its task.
        endpoints: `host:port` of all children that train together, by rank; empty if it trains alone.
        worker: its rank among them.
        environment: of its parent.
    """
    return {
        **inherited(environment),
        # A GPU is used exactly when Spark handed it out: else two tasks of a machine would share one.
        "CUDA_VISIBLE_DEVICES": ",".join(gpus) if gpus else "-1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # indices mean what they mean to nvidia-smi, whatever the GPUs' speeds
        "OMP_NUM_THREADS": str(cores),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # --py-files reach the worker this way only
        "TF_CPP_MIN_LOG_LEVEL": environment.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        **_cluster(endpoints, worker, environment),
    }


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child takes over of `environment`: all but what could change how it computes."""
    kept = {name: value for name, value in environment.items() if not _changes_results(name)}
    cuda = [flag for flag in environment.get("XLA_FLAGS", "").split() if flag.startswith(_CUDA_FOLDER)]
    found = {"XLA_FLAGS": " ".join(cuda)} if cuda else {}
    return {**kept, **found, "KERAS_BACKEND": "tensorflow"}  # which ~/.keras/keras.json may say otherwise


def _changes_results(name: str) -> bool:
    return name in _PYTHON or bool(_LIBRARIES.match(name) and not _HARMLESS.match(name))


def _cluster(endpoints: Sequence[str], worker: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What a child has to know about the others: TF_CONFIG, empty if it trains alone; and no proxy between them."""
    if len(endpoints) < 2:
        return {"TF_CONFIG": ""}
    place = {"cluster": {"worker": list(endpoints)}, "task": {"type": "worker", "index": worker}}
    direct = without_proxy((endpoint.rsplit(":", 1)[0] for endpoint in endpoints), environment)
    return {"TF_CONFIG": json.dumps(place), "TF_GRPC_REUSE_PORT": "true", **direct}


def without_proxy(hosts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The setting with which gRPC reaches these hosts without a proxy.

    gRPC takes `grpc_proxy`, `https_proxy` or `http_proxy`, for loopback too. It leaves out hosts that end in an entry
    of `no_grpc_proxy`, or of `no_proxy` if the first is not set. Nothing but gRPC reads `no_grpc_proxy`, so a bucket
    is still reached as before.
    """
    excluded = environment.get("no_grpc_proxy") or environment.get("no_proxy") or ""
    return {"no_grpc_proxy": ",".join(dict.fromkeys([*filter(None, excluded.split(",")), *hosts]))}
