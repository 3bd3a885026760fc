"""`python -m lottery report RUN`: rewrites the report from the results so far."""

from __future__ import annotations

from argparse import Namespace

from lottery.commands.command import Command, add_run_argument, open_run


def run(arguments: Namespace) -> int:
    """Rewrites results.parquet and the picture from the results so far, and prints the table."""
    from lottery.report import publish  # loads matplotlib

    publish.publish(open_run(arguments.run))
    return 0


COMMAND = Command("write the table and the picture again, from the results so far", add_run_argument, run)
