"""The child process of a gang task: reads its assignment from standard input, trains, writes to the run directory.

Standard output carries events for the supervisor, one JSON object per line. The log goes to standard error.
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

from lottery.protocol import EXIT_NOTICE, EXIT_OUT_OF_MEMORY, decode
from lottery.worker import devices
from lottery.worker.dense_run import train_dense
from lottery.worker.events import event_writer
from lottery.worker.session import Session
from lottery.worker.shutdown import ShutdownRequest, ShutdownRequested
from lottery.worker.ticket_bundle import train_tickets
from preprocessing.common.program import run_or_explain


def main() -> int:
    """Does what the assignment on standard input says. Returns the exit status."""
    assignment = decode(sys.stdin.buffer.readline())
    devices.configure(assignment.threads, assignment.experiment.training.deterministic)
    devices.check_gpus(assignment.gpus)
    shutdown = ShutdownRequest()
    session = Session(assignment, event_writer(shutdown), shutdown)
    shutdown.install()
    try:
        if assignment.tickets:
            train_tickets(session, assignment.tickets)
        else:
            train_dense(session)
        session.wait_for_others()
    except ShutdownRequested:
        return EXIT_NOTICE
    return 0


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
        _exit(EXIT_OUT_OF_MEMORY if isinstance(error, tf.errors.ResourceExhaustedError) else 1)
