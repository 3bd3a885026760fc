"""Names of a run directory's files, and how to recreate each that is damaged."""

from __future__ import annotations

import re

DENSE = "dense"
EXPERIMENT = "experiment.yaml"
PROVENANCE = "dense/provenance.json"
DATASET = "dataset.json"
TRANSFERRED = "transfer/state.safetensors"
SUBMISSION = "submission.json"
TRELLIS_NAME = re.compile(r"trellis/(\d{6,})\.safetensors")
# How to recreate a damaged file; each is tried by a test.
_AGAIN = "the same command"
REMEDIES = {
    "result": f"delete it, and {_AGAIN} makes it again from the last state",
    "state": f"delete it, and {_AGAIN} starts this training over",
    "metrics": f"delete it and state.safetensors beside it, and {_AGAIN} starts this training over",
    "answers": f"delete it and result.json beside it, and {_AGAIN} evaluates the last state again",
    "mask": f"delete it, and {_AGAIN} makes the masks again",
    "trellis": (
        f"restore it, or delete the folder dense, and {_AGAIN} trains the dense run again, to the same bits if "
        "training.deterministic is true and as many executors train it"
    ),
    "provenance": "delete it; no check is then made whether the model has changed since the dense run",
    "transfer": f"delete it and the folder masks, and {_AGAIN} brings both again from the ticket's run directory",
    "dataset": f"delete it, and {_AGAIN} of the sweep writes it again",
}


def folder(training: str) -> str:
    """The folder of a training: a ticket's name, or DENSE."""
    return DENSE if training == DENSE else f"tickets/{training}"


def result(training: str) -> str:
    """How a training ended."""
    return f"{folder(training)}/result.json"


def state(training: str) -> str:
    """Its last checkpoint."""
    return f"{folder(training)}/state.safetensors"


def metrics(training: str) -> str:
    """Its evaluations."""
    return f"{folder(training)}/metrics.jsonl"


def answers(training: str) -> str:
    """Which images it gets right."""
    return f"{folder(training)}/answers.safetensors"


def telemetry(training: str) -> str:
    """How well the process of a bundle, named after its first training, used its machine."""
    return f"telemetry/{training}.jsonl"


def trellis(step: int) -> str:
    """The dense run's state after so many steps."""
    return f"trellis/{step:06d}.safetensors"


def mask(level: int, chain: tuple[int, ...] = ()) -> str:
    """The mask of a level, or with a chain (seed, step) that of this round of an iterative pruning."""
    if not chain:
        return f"masks/{level:02d}.safetensors"
    seed, step = chain
    return f"masks/{level:02d}-{step:06d}-s{seed}.safetensors"
