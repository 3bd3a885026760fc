"""`python -m lottery status RUN`: how far a sweep has got."""

from __future__ import annotations

from argparse import Namespace

from lottery.commands.command import Command, add_run_argument, open_run
from lottery.run.run_directory import RunDirectory
from lottery.tickets.tickets import all_tickets


def run(arguments: Namespace) -> int:
    """Prints how far a run directory's sweep is, and its tasks' last heartbeats."""
    from lottery.report.search_lines import search_lines  # loads scipy.stats

    sweep, finished = open_run(arguments.run), True
    for replicate in sweep.replicates():
        finished &= _replicate_status(replicate, "" if replicate is sweep else _label(replicate))
    for line in search_lines(sweep):
        print(line)
    if not finished:
        for heartbeat in sweep.heartbeats.read():
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


COMMAND = Command("how far the sweep has got", add_run_argument, run)
