"""What a gang task and its child process tell each other: the assignment as JSON, exit statuses, notice."""

from __future__ import annotations

import signal
from typing import Any

import msgspec

from lottery.experiment.config import Experiment
from lottery.tickets.tickets import Ticket

# A child's exit status where its bundle does not fit into memory; less of it may.
EXIT_OUT_OF_MEMORY = 3
# A child's exit status where it does not see all GPUs that Spark gave its task.
EXIT_NO_GPUS = 4
# A child's exit status where it was told to leave, saved and left; as a shell says of SIGTERM.
EXIT_NOTICE = 128 + signal.SIGTERM
NOTICE = 30.0  # seconds between being told to leave and being killed


class Assignment(msgspec.Struct, frozen=True):
    """Train the dense run and make the masks (no tickets given), or train these tickets as one bundle."""

    run: str  # URI of the run directory
    data: str  # URI of the dataset
    dataset_hash: str  # of the dataset that the driver saw
    train_images: int
    experiment: Experiment
    tickets: tuple[Ticket, ...]
    task: int  # rank in the gang
    tasks: int  # in the gang
    executor: str  # address of the executor
    threads: int  # cores of the task
    gpus: int = 0  # that the child has to see; none where that is not checked

    def message(self) -> dict[str, Any]:
        """Plain dicts and lists, for JSON."""
        tree = msgspec.to_builtins(self)
        assert isinstance(tree, dict)
        return tree


def decode(message: bytes) -> Assignment:
    """The assignment in a child's standard input. Raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(message, type=Assignment)
