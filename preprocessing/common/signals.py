"""Ctrl-C and SIGTERM end a job in order: with one line, and with the status that a shell gives them."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130  # as shells report SIGINT
EXIT_TERMINATED = 143  # and of SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM: from a supervisor, a time limit, or a machine that is taken away."""


def install() -> None:
    """Makes SIGINT raise `KeyboardInterrupt` and SIGTERM `Terminated` in the main thread."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def run_until_signal(work: Callable[[], int]) -> int:
    """The status of `work`, or that of the signal that ended it: then one line on standard error reports it.

    What takes time, such as stopping Spark, is best left to the caller: the line then comes first, and a second Ctrl-C
    ends the process at once.
    """
    install()
    try:
        return work()
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        terminated = isinstance(interrupt, Terminated)
        what = "terminated" if terminated else "interrupted"
        print(f"{what}; run the same command again to continue", file=sys.stderr, flush=True)
        return EXIT_TERMINATED if terminated else EXIT_INTERRUPTED


@contextlib.contextmanager
def spark_leaves_signals(context: Any) -> Iterator[Any]:
    """While the block runs, signals are handled as above, and Spark does not log the tasks that one interrupts.

    pyspark's own handler of SIGINT calls Spark in the middle of another call to it, and the interrupt is lost.
    """
    install()
    try:
        yield context
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):  # a terminal's Ctrl-C ends the JVM too, which may be gone
            context.setLogLevel("OFF")
        raise


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would break off the tidying up
    raise Terminated
