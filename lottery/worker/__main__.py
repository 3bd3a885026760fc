"""The child process of a gang task: reads its instructions from standard input, trains, writes to the run directory.

Asked for something instead, it answers: a question about a model, forward passes of trained networks, or a ticket's
files.

Standard output carries events for the supervisor (see `lottery.protocol`). The log goes to standard error.
"""

from __future__ import annotations

import os
import sys
import traceback

from lottery.worker.hide_modules import hide_modules
from lottery.worker.parent_death import end_with_parent

if __name__ == "__main__":
    end_with_parent()  # before importing TensorFlow, which takes seconds

with hide_modules("matplotlib", "pandas", "sklearn"):
    import tensorflow as tf

from lottery.protocol import (
    EXIT_NOTICE,
    EXIT_OUT_OF_MEMORY,
    ExportRequest,
    Failed,
    Instructions,
    Passes,
    Question,
    Report,
    decode_instructions,
)
from lottery.worker import devices
from lottery.worker.dense_run import train_dense
from lottery.worker.events import event_writer
from lottery.worker.forward_passes import pass_forward
from lottery.worker.session import Session
from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested
from lottery.worker.ticket_bundle import train_tickets
from lottery.worker.ticket_export import export_training
from lottery.worker.trial_build import build
from preprocessing.common.errors import Failure, Kind, failure_of
from preprocessing.common.program import run_or_explain


def main() -> int:
    """Does what the instructions on standard input say. Returns the exit status."""
    instructions = decode_instructions(sys.stdin.buffer.readline())
    shutdown = ShutdownRequest()
    report = event_writer(shutdown)
    try:
        if isinstance(instructions, Question):
            report(build(instructions))
            return 0
        if isinstance(instructions, Passes):
            pass_forward(instructions, report)
            return 0
        if isinstance(instructions, ExportRequest):
            report(export_training(instructions, report))
            return 0
        return _train(instructions, report, shutdown)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        report(Failed(Failure(Kind.OUT_OF_MEMORY, _allocation(str(error)))))
        raise
    except Exception as error:
        report(Failed(failure_of(error)))
        raise


def _train(instructions: Instructions, report: Report, shutdown: ShutdownRequest) -> int:
    assignment, placement = instructions.assignment, instructions.placement
    devices.configure(placement.cores, assignment.experiment.training.deterministic)
    devices.check_gpus(len(placement.gpus) if assignment.experiment.gang.check_gpus else 0)
    session = Session(instructions, report, shutdown)
    shutdown.install()
    try:
        if assignment.tickets:
            train_tickets(session, assignment.tickets)
        else:
            train_dense(session, assignment.masks)
        session.wait_for_others()
    except ShutdownRequested:
        return EXIT_NOTICE
    return 0


def _allocation(message: str) -> str:
    """What could not be allocated: one of the many lines of TensorFlow's message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "OOM" in line), lines[0])


def _exit(status: int) -> None:
    """Ends the process at once. TensorFlow's own way out takes 2 s, or waits for other workers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        run_or_explain(main)
    except SystemExit as ended:
        _exit(int(ended.code or 0))
    except BaseException as error:
        traceback.print_exception(error)
        _exit(EXIT_OUT_OF_MEMORY if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)) else 1)
