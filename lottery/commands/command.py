"""What a command of `python -m lottery` consists of, and the argument that most of them share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

from lottery.run.run_directory import RunDirectory
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store


@dataclass(frozen=True)
class Command:
    """A command of `python -m lottery`: a line of help, its arguments, and what it does.

    `run` gets the parsed arguments and returns the exit status.
    """

    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def add_run_argument(parser: ArgumentParser) -> None:
    """Adds the argument RUN, a run directory's path or URI, as `run`."""
    parser.add_argument("run", metavar="RUN", help="a run directory, such as runs/digits-0123456789ab; a path or a URI")


def open_run(uri: str) -> RunDirectory:
    """The run directory with this path or URI. Raises InputError if there is none."""
    run = RunDirectory(open_store(uri))
    try:
        run.origin()
    except FileNotFoundError:
        raise InputError(f"{uri} is not a run directory: it has no experiment.yaml; correct the path") from None
    return run
