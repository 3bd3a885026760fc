"""`python -m lottery report RUN`: rewrites the report from the results so far."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lottery.commands.command import Command, add_run_argument, open_run


def add_arguments(parser: ArgumentParser) -> None:
    """Adds RUN, and what the picture has behind it."""
    add_run_argument(parser)
    parser.add_argument(
        "--published",
        metavar="FILE",
        help="published accuracies to draw in grey behind the picture: a YAML such as those in conf/published, or "
        "none; without it, those of the same network and dataset",
    )


def run(arguments: Namespace) -> int:
    """Rewrites results.parquet and the picture from the results so far, and prints the table."""
    from lottery.report import publish  # loads matplotlib

    publish.publish(open_run(arguments.run), arguments.published)
    return 0


COMMAND = Command("write the table and the picture again, from the results so far", add_arguments, run)
