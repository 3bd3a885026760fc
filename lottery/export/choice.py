"""Which training of a run directory is meant: the winner, or the one that was named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.experiment.sections import Verdict
from lottery.report.levels import Level, levels
from lottery.run.origin import Origin
from lottery.run.results import DenseResult, TicketResult
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.tickets.tickets import NO_CONTROL, Ticket, changed, from_name
from preprocessing.common.errors import InputError


@dataclass(frozen=True)
class Chosen:
    """A training that is done, and its replicate's run directory. `ticket` is None for the dense run."""

    run: RunDirectory
    origin: Origin
    ticket: Ticket | None
    result: TicketResult | DenseResult
    why: str  # it was chosen

    @property
    def name(self) -> str:
        """Its name in the run directory."""
        return DENSE if self.ticket is None else self.ticket.name


def choose(run: RunDirectory, name: str | None) -> Chosen:
    """The training of this name (`07-000044-s0`, `seed-1/07-000044-s0`, `dense`), or the winner if there is none.

    Raises InputError if there is no such training, or it is not done.
    """
    replicates = {each.origin().experiment.seed: each for each in run.replicates()}
    if name is not None:
        return _named(run, replicates, name)
    dense = {seed: result for seed, each in replicates.items() if (result := each.dense_result()) is not None}
    results = {seed: each.results() for seed, each in replicates.items()}
    if not dense:
        raise InputError(f"{run.describe()}: the dense run is not done yet; there is no ticket")
    experiment = run.origin().experiment
    found = winner(levels(dense, results, experiment.verdict, experiment.data.select is not None), experiment.verdict)
    if found is None:
        raise InputError(f"{run.describe()}: no ticket is done yet; run the sweep")
    row, why = found
    seed, ticket = min(
        (seed, result.ticket) for seed, each in results.items() for result in each if _is_of(row, result)
    )
    place = f", of seed {seed}" if len(replicates) > 1 else ""
    return Chosen(replicates[seed], replicates[seed].origin(), ticket, replicates[seed].result(ticket), why + place)


def winner(rows: Sequence[Level], verdict: Verdict) -> tuple[Level, str] | None:
    """The level whose chosen ticket is taken if none is named, and why; None if no ticket is done.

    It is the sparsest that matches the dense network. If no level has a verdict, as of one seed, it is the sparsest
    that is at most the verdict's margin less accurate; and if none is, the most accurate.
    """
    done = [row for row in rows if row.best is not None]
    matching = [row for row in done if row.verdict.answer == "matches"]
    if matching:
        return _sparsest(matching), "the sparsest that matches the dense network"
    margin = f"{verdict.margin:g} points"
    near = [row for row in done if _is_within(row, verdict.margin) and row.verdict.answer is None]
    if near:
        return _sparsest(near), f"the sparsest at most {margin} below the dense network; that is no verdict"
    if not done:
        return None
    return max(
        done, key=lambda row: row.best.mean if row.best else 0.0
    ), "the most accurate; none matches the dense network"


def _sparsest(rows: Sequence[Level]) -> Level:
    return min(rows, key=lambda row: row.density)


def _is_within(row: Level, margin: float) -> bool:
    difference = row.verdict.difference
    return difference is not None and difference.mean >= -margin / 100


def _is_of(row: Level, result: TicketResult) -> bool:
    """Whether a result is of the ticket that was chosen for a level, with any order of images."""
    wanted = (row.level, row.step, NO_CONTROL, "done")
    return (result.level, result.step, result.control, result.status) == wanted


def _named(run: RunDirectory, replicates: Mapping[int, RunDirectory], name: str) -> Chosen:
    seed, separator, rest = name.rpartition("/")
    if separator:
        number = seed.removeprefix("seed-")
        found = replicates.get(int(number)) if number.isdecimal() else None
    else:
        found = next(iter(replicates.values())) if len(replicates) == 1 else None
    ticket = from_name(rest)
    if found is None or (ticket is None and rest != DENSE):
        places = ", ".join(f"seed-{each}/" for each in replicates) if len(replicates) > 1 else "tickets/"
        example = "seed-0/07-000044-s0" if len(replicates) > 1 else "07-000044-s0"
        raise InputError(
            f"ticket {name}: {run.describe()} has none of that name; give one such as {example}, a folder's name below "
            f"{places}, or dense"
        )
    if ticket is None:
        dense = found.dense_result()
        if dense is None or dense.status != "done":
            raise InputError(f"{found.describe()}: the dense run is {dense.status if dense else 'not done yet'}")
        return Chosen(found, found.origin(), None, dense, "as asked")
    return Chosen(found, found.origin(), ticket, _done(found, ticket, name), "as asked")


def _done(run: RunDirectory, ticket: Ticket, name: str) -> TicketResult:
    if ticket not in run.done():
        some = ", ".join(each.name for each in sorted(run.done())[:3]) or "none"
        raise InputError(f"ticket {name}: is not done in {run.describe()}; of those that are, the first are {some}")
    result = run.result(ticket)
    if result.status != "done":
        raise InputError(f"ticket {name}: {result.status} ({result.note}); choose another")
    if changed(ticket).is_narrow:
        raise InputError(f"ticket {name}: is a narrower network, and no ticket; choose another")
    return result
