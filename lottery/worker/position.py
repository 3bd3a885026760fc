"""Which of the processes that train one model together this one is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from preprocessing.common.errors import InputError


class WorkerPosition(NamedTuple):
    """This process among those that train one model together."""

    worker: int = 0
    workers: int = 1

    @property
    def chief(self) -> bool:
        """Whether it is the one that writes."""
        return self.worker == 0


def worker_position(environment: Mapping[str, str]) -> WorkerPosition:
    """The position in TF_CONFIG; alone without one.

    TF_CONFIG is TensorFlow's: `{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}`.
    Raises InputError if it is anything else.
    """
    text = environment.get("TF_CONFIG")
    if not text:
        return WorkerPosition()
    try:
        tree = json.loads(text)
        workers, task = tree["cluster"]["worker"], tree["task"]
        if set(tree["cluster"]) != {"worker"} or task["type"] != "worker" or not 0 <= int(task["index"]) < len(workers):
            raise ValueError("not a cluster of workers")
        return WorkerPosition(int(task["index"]), len(workers))
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"TF_CONFIG: {' '.join(text.split())} names no position in a cluster of workers; give a list "
            "cluster.worker, task.type worker and a task.index into it, or unset TF_CONFIG"
        ) from None
