"""`python -m lottery report RUN`: writes the report from the results so far."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lottery.commands.command import Command, add_run_argument, open_run
from preprocessing.common.command_line import positive


def add_arguments(parser: ArgumentParser) -> None:
    """Adds RUN, what the accuracies have behind them, and the price."""
    add_run_argument(parser)
    parser.add_argument(
        "--published",
        metavar="FILE",
        help="published accuracies to draw in grey behind the picture: a YAML such as those in conf/published, or "
        "none; without it, those of the same network and dataset",
    )
    parser.add_argument("--price-per-hour", type=positive, metavar="X", help="price of one executor per hour")


def run(arguments: Namespace) -> int:
    """Writes the page, its pictures, results.parquet and TensorBoard's files, and prints the table."""
    from lottery.report import publish  # loads the libraries that draw

    publish.publish(open_run(arguments.run), arguments.published, arguments.price_per_hour)
    return 0


COMMAND = Command("write the report, from the results so far", add_arguments, run)
