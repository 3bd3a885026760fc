"""Which training of a run directory is meant: the winner, or the one that was named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.report.publish import levels, mean_dense
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
    found, why = winner(mean_dense(list(dense.values())), [result for each in results.values() for result in each])
    if found is None:
        raise InputError(f"{run.describe()}: no ticket is done yet; run the sweep")
    seed = next(seed for seed, each in results.items() if any(result.ticket == found for result in each))
    place = f", of seed {seed}" if len(replicates) > 1 else ""
    return Chosen(replicates[seed], replicates[seed].origin(), found, replicates[seed].result(found), why + place)


def winner(dense: DenseResult, results: Sequence[TicketResult]) -> tuple[Ticket | None, str]:
    """The ticket that is taken if none is named, and why it is: the sparsest level that matches the dense network.

    If no level does, the most accurate one. Of the level it is the best reset point; None if no ticket is done.
    """
    rows = [row for row in levels(dense, results) if row.step is not None]
    if not rows:
        return None, ""
    matching = [row for row in rows if row.matches]
    row = min(matching, key=lambda each: each.density) if matching else max(rows, key=lambda each: each.top1 or 0.0)
    done = sorted(
        result.ticket
        for result in results
        if (result.level, result.step, result.control, result.status) == (row.level, row.step, NO_CONTROL, "done")
    )
    why = "the sparsest that matches the dense network" if matching else "the most accurate; none matches it"
    return (done[0], why) if done else (None, "")


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
