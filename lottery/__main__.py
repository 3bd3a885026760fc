"""`python -m lottery`: looks at a run directory, without Spark and without TensorFlow."""

from __future__ import annotations

from lottery.report import publish
from lottery.run.run_directory import RunDirectory
from lottery.tickets.tickets import all_tickets
from preprocessing.common.command_line import CommandLine
from preprocessing.common.errors import InputError
from preprocessing.common.program import run_or_explain
from preprocessing.common.storage import open_store


def status(run: RunDirectory) -> int:
    """Prints how far a run directory's sweep is, and its tasks' last heartbeats."""
    finished = True
    for replicate in run.replicates():
        finished &= _replicate_status(replicate, "" if replicate is run else _label(replicate))
    if not finished:
        for heartbeat in run.heartbeats.read():
            done = f"{heartbeat.done} of {heartbeat.trainings} trainings done"
            print(f"  task {heartbeat.task} on {heartbeat.executor}: {done}")
    return 0


def _label(replicate: RunDirectory) -> str:
    return f" of seed {replicate.origin().experiment.seed}"


def _replicate_status(run: RunDirectory, label: str) -> bool:
    """Prints how far it is; returns whether all its tickets are done."""
    dense, origin = run.dense_result(), run.origin()
    print(f"dense run{label}: {dense.status if dense else 'not done'}")
    tickets, results = all_tickets(origin.experiment, origin.timeline), run.results()
    print(f"tickets and controls{label}: {len(results)} of {len(tickets)} are done")
    for ended in ("diverged", "failed"):
        for result in results:
            if result.status == ended:
                print(f"  {result.ticket.name} {ended}: {result.note}")
    return len(results) == len(tickets)


def make_report(run: RunDirectory) -> int:
    """Rewrites results.parquet and the picture from the results so far, and prints the table."""
    publish.publish(run)
    return 0


COMMANDS = {"status": status, "report": make_report}


def main() -> int:
    """Parses the command line."""
    parser = CommandLine("python -m lottery", __doc__)
    parser.add_argument(
        "command",
        choices=sorted(COMMANDS),
        help="status: how far the sweep has got; report: write the table and the picture again",
    )
    parser.add_argument("run", metavar="URI", help="a run directory, such as runs/digits-0123456789ab")
    arguments = parser.parse_args()
    run = RunDirectory(open_store(arguments.run))
    try:
        run.origin()
    except FileNotFoundError:
        raise InputError(
            f"{arguments.run} is not a run directory: it has no experiment.yaml; correct the path"
        ) from None
    return COMMANDS[arguments.command](run)


if __name__ == "__main__":
    run_or_explain(main)
