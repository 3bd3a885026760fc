"""`python -m lottery status RUN`: how far a sweep is, also while it runs."""

from __future__ import annotations

import math
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress

import msgspec

from lottery.commands.command import Command, add_run_argument, open_run
from lottery.status.reader import Reader
from lottery.status.schema import Snapshot
from lottery.status.snapshot import snapshot
from lottery.status.text import lines, summary
from preprocessing.common.errors import InputError, StorageError

REFRESH = 5.0  # seconds, as tasks' heartbeats come; each refresh makes a few requests
EXIT_UNFINISHED = 1  # of --watch: the sweep has ended with work left, or failed tickets


def run(arguments: Namespace) -> int:
    """Prints how far the sweep in a run directory is, once or until it ends."""
    if arguments.watch and arguments.json:
        raise InputError("--json does not go with --watch; call it as often as you need it")
    reader, price = Reader(open_run(arguments.run)), arguments.price_per_hour
    if arguments.watch:
        return _watch(reader, price)
    look = reader.look()
    found = snapshot(look, price)
    if arguments.json:
        print(as_json(found), flush=True)
        return 0
    from lottery.report.search_lines import search_lines  # loads scipy.stats

    searched = search_lines(look.origin, [(each.dense, each.results.values()) for each in look.replicates])
    print("\n".join([*lines(found), *searched]), flush=True)
    return 0


def as_json(found: Snapshot) -> str:
    """The snapshot as one line of JSON."""
    return msgspec.json.encode(found).decode()


def _watch(reader: Reader, price: float | None) -> int:
    """Shows the sweep until it has ended: a table on a terminal, else a line when something has changed."""
    found = _show_live(reader, price) if sys.stdout.isatty() else _print_changes(reader, price)
    return 0 if found.state == "done" and not found.trainings.failed else EXIT_UNFINISHED


def _show_live(reader: Reader, price: float | None) -> Snapshot:
    from rich.console import Console
    from rich.live import Live

    from lottery.status.table import table

    console = Console()
    found = snapshot(reader.look(), price)
    # What does not fit is cut off only while the table is live: its last state is shown whole.
    live = Live(table(found, console.width), console=console, auto_refresh=False)
    try:  # `with` would not stop it after a Ctrl-C while it starts: the cursor stays hidden, and the table comes last
        live.start(refresh=True)
        while found.state == "running":
            time.sleep(REFRESH)
            try:
                found = snapshot(reader.look(), price)
                live.update(table(found, console.width), refresh=True)
            except StorageError as error:  # it may be back at the next look
                live.console.print(f"warning: {error}", markup=False, highlight=False)
    finally:
        with suppress(IndexError):  # of rich, if it had come as far as to say that it is live, and no further
            live.stop()
        console.show_cursor()
    return found


def _print_changes(reader: Reader, price: float | None) -> Snapshot:
    last = None
    while True:
        try:
            found = snapshot(reader.look(), price)
        except StorageError as error:
            if last is None:
                raise
            print(f"warning: {error}", file=sys.stderr, flush=True)
        else:
            if found.state != "running":
                print("\n".join(lines(found)), flush=True)
                return found
            said = (found.stage, found.trainings, len(found.faults), [task.step for task in found.tasks])
            if said != last:
                print(summary(found), flush=True)
            last = said
        time.sleep(REFRESH)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


_positive.__name__ = "positive number"  # in argparse's message


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_argument(parser)
    parser.add_argument("--watch", action="store_true", help="keep the table up to date until the sweep ends")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; docs/watching.md describes its keys"
    )
    parser.add_argument(
        "--price-per-hour", type=_positive, metavar="X", help="price of one executor per hour: reports money as well"
    )


COMMAND = Command("how far the sweep is: tasks, time left, faults, money", add_arguments, run)
