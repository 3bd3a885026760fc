"""`python -m lottery transfer RUN --data DATASET`: trains a ticket on another dataset."""

from __future__ import annotations

import os
import shlex
import shutil
from argparse import ArgumentParser, Namespace

from lottery.commands.command import Command, open_run
from lottery.commands.export import add_ticket_arguments, named
from lottery.run.run_directory import RunDirectory
from lottery.run.ticket_files import folder_of_runs
from preprocessing.common.errors import InputError
from preprocessing.common.signals import run_until_signal
from preprocessing.dataset.opening import Dataset


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_ticket_arguments(parser)
    parser.add_argument("--data", metavar="URI", help="the dataset to train on; it has to be given")
    parser.add_argument(
        "--experiment", metavar="YAML", help="how to train; without it, as the ticket's own experiment does"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="replaces a value of the experiment, such as training.length=20ep; may be given several times",
    )
    parser.add_argument(
        "--classifier",
        choices=("kept", "new"),
        help="the ticket's, or a new one that is not pruned; without it, new if the classes have other names",
    )
    parser.add_argument("--runs", metavar="URI", help="folder of run directories; without it, the one that RUN is in")
    parser.add_argument(
        "--output", metavar="YAML", help="where to write the experiment; without it, its name, in the current folder"
    )
    parser.add_argument(
        "--submit",
        metavar="COMMAND",
        default="spark-submit",
        help="what starts the job, with its options, such as 'spark-submit --properties-file conf/spark/local.conf'",
    )
    parser.add_argument(
        "--print", action="store_true", help="write the experiment and print the command that runs it; do not run it"
    )


def run(arguments: Namespace) -> int:
    """Writes the experiment that trains a ticket on another dataset, and runs it by spark-submit."""
    place, name = named(arguments)
    opened = open_run(place)
    if arguments.data is None:
        raise InputError("--data: is missing; give the dataset to train the ticket on")
    try:
        submit = shlex.split(arguments.submit)
    except ValueError as error:  # a quotation or an escape that does not end
        raise InputError(f"--submit: {arguments.submit!r} is no command ({error}); close its quotation") from None
    if not submit:
        raise InputError("--submit: is empty; give the command that starts a job, such as spark-submit")
    from lottery.export import transfer  # loads statsmodels

    def work() -> int:
        path = _write(arguments, opened, name)
        found = transfer.command(submit, path, arguments.data, arguments.runs or folder_of_runs(place))
        print(shlex.join(found), flush=True)
        if arguments.print:
            return 0
        if shutil.which(submit[0]) is None:
            raise InputError(
                f"--submit: there is no {submit[0]} on the PATH; run `. scripts/activate` first, or run the command "
                "above where it is"
            )
        os.execvp(submit[0], found)  # signals and the exit status are the job's

    return run_until_signal(work)


def _write(arguments: Namespace, opened: RunDirectory, name: str | None) -> str:
    """Writes the experiment, and returns its path."""
    from lottery.experiment import config
    from lottery.export import transfer
    from lottery.export.choice import choose

    chosen = choose(opened, name)
    recipe = chosen.origin.experiment if arguments.experiment is None else config.load(arguments.experiment)
    dataset = Dataset.open(arguments.data)
    found = transfer.transferred(chosen, dataset, recipe, arguments.classifier, arguments.overrides)
    path: str = arguments.output or f"{found.experiment.name}.yaml"
    transfer.write(found, path)
    return path


COMMAND = Command("train a ticket on another dataset, by the same job", add_arguments, run)
