"""Places of a gang's tasks, and the problems that a preflight's probe finds there."""

from lottery.driver import preflight
from lottery.protocol import TaskPlacement


def place(task=0, gpus=(), host="h"):
    return TaskPlacement(task, f"{host}:{task}", host, gpus, 1, 2, 1)


def probe(sweep, **fields):
    what = {
        "folder": "probes",
        "run": sweep.run.uri,
        "data": sweep.dataset.uri,
        "dataset_hash": sweep.dataset.content_hash,
        "check_gpus": True,
        "taken": sweep.input_memory(),
    }
    return preflight.probe(fields.pop("where", place()), **{**what, **fields}).problems
