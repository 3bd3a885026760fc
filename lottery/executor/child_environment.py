"""The environment of a child process: what it takes over from its parent's, and what would change its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

# Libraries' own settings change results behind the experiment's back: TF_ENABLE_ONEDNN_OPTS=0, NVIDIA_TF32_OVERRIDE=0
# or TF_DETERMINISTIC_OPS=1 give other bits, TF_CONFIG another cluster.
_LIBRARIES = re.compile(r"(TF|XLA|KERAS|ONEDNN|DNNL|CUDNN|CUBLAS|ITEX|ZENDNN)_|NVIDIA_TF32_OVERRIDE$|TENSORFLOW_USE_")
# Of these, what only says how much is logged, how memory is had and where files are.
_HARMLESS = re.compile(
    r"TF_CPP_|TF_FORCE_GPU_ALLOW_GROWTH$|TF_GPU_ALLOCATOR$|TF_.*MEMORY.*$|TF_.*_LIMIT_IN_MB$|KERAS_HOME$"
)
# Python's: without assertions, with warnings as errors, or waiting for input at the end.
_PYTHON = frozenset({"PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONINSPECT"})


def inherited(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a child takes over of `environment`: all but what could change how it computes."""
    kept = {name: value for name, value in environment.items() if not _changes_results(name)}
    return {**kept, "KERAS_BACKEND": "tensorflow"}  # which ~/.keras/keras.json may say otherwise


def _changes_results(name: str) -> bool:
    return name in _PYTHON or bool(_LIBRARIES.match(name) and not _HARMLESS.match(name))


def without_proxy(hosts: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The setting with which gRPC reaches these hosts without a proxy.

    gRPC takes `grpc_proxy`, `https_proxy` or `http_proxy`, for loopback too. It leaves out hosts that end in an entry
    of `no_grpc_proxy`, or of `no_proxy` where the first is not set. Nothing but gRPC reads `no_grpc_proxy`, so a bucket
    is still reached as before.
    """
    excluded = environment.get("no_grpc_proxy") or environment.get("no_proxy") or ""
    return {"no_grpc_proxy": ",".join(dict.fromkeys([*filter(None, excluded.split(",")), *hosts]))}
