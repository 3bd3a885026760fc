"""`python -m lottery export RUN`: takes a ticket away as a file that plain Keras opens."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lottery.commands.command import Command, open_run
from lottery.run.ticket_files import locate
from preprocessing.common.errors import InputError
from preprocessing.common.signals import run_until_signal


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_ticket_arguments(parser)
    parser.add_argument(
        "--output", metavar="URI", help="the new folder; without it, RUN's name and the ticket's, in the current folder"
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=("keras", "safetensors"),
        dest="formats",
        help="keras (what you get without the option) or safetensors, for other frameworks; may be given twice",
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="write also a smaller network, without channels that nothing reads or feeds",
    )
    parser.add_argument(
        "--data",
        metavar="URI",
        help="the sweep's dataset: evaluate the exported file on it, and compare with the sweep",
    )


def add_ticket_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments that name a ticket, `run` and `ticket`."""
    parser.add_argument(
        "run", metavar="RUN", help="a run directory, or a ticket's folder in it: RUN/tickets/NAME; a path or a URI"
    )
    parser.add_argument(
        "--ticket",
        metavar="NAME",
        help="such as 07-000044-s0, seed-1/07-000044-s0 of several seeds, or dense; without it, the winner",
    )


def run(arguments: Namespace) -> int:
    """Writes a ticket's network, mask and card to a new folder, and prints what is there."""
    from lottery.export.choice import choose
    from lottery.export.export import export

    place, name = named(arguments)
    opened = open_run(place)

    def work() -> int:
        chosen = choose(opened, name)
        output = arguments.output or f"{opened.describe().rstrip('/').rpartition('/')[2]}-{chosen.name}"
        formats = arguments.formats or ["keras"]
        print("\n".join(export(chosen, output, formats, arguments.compact, arguments.data)), flush=True)
        return 0

    return run_until_signal(work)


def named(arguments: Namespace) -> tuple[str, str | None]:
    """(run directory, training) of the arguments that name a ticket. Raises InputError if both name one."""
    place, name = locate(arguments.run)
    if name is not None and arguments.ticket is not None:
        raise InputError(f"--ticket {arguments.ticket}: {arguments.run} names a ticket already; leave one of them out")
    return place, name or arguments.ticket


COMMAND = Command("take a ticket away: a file that Keras opens, its mask, and a card", add_arguments, run)
