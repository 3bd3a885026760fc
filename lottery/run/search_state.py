"""How far a frontier search has got, from the results in run directories."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from lottery.experiment.config import Experiment
from lottery.run.results import DenseResult, TicketResult
from lottery.run.run_directory import RunDirectory
from lottery.tickets import controls
from lottery.tickets.frontier import Answer, Probe, Rules, Search, search
from lottery.tickets.tickets import NO_CONTROL, Ticket, Training


@dataclass(frozen=True)
class SearchState:
    """A search, in which levels are counted by falling density, and what its levels and probes are here."""

    rules: Rules
    search: Search
    levels: tuple[int, ...]  # of the experiment, by falling density
    ticket_seeds: tuple[int, ...]

    def trainings(self, probes: Iterable[Probe]) -> list[Training]:
        """The tickets of probes: one for each of the seeds of tickets."""
        return [
            Training(probe.replicate, Ticket(self.levels[probe.level], probe.step, seed=seed))
            for probe in probes
            for seed in self.ticket_seeds
        ]

    def controls(self, tickets: Iterable[Ticket]) -> list[Training]:
        """Which of a replicate's tickets are controls of the search's answers, in the replicates that these have."""
        return [
            Training(replicate, ticket)
            for ticket in tickets
            for replicate in range(max((self._seeds(answer, ticket) for answer in self.search.answers), default=0))
        ]

    def is_over(self, tickets: Iterable[Ticket], done: Sequence[Container[Ticket]]) -> bool:
        """Whether nothing is left to train, given all of a replicate's tickets and those done in each replicate."""
        return not self.search.missing and all(
            training.ticket in done[training.replicate] for training in self.controls(tickets)
        )

    def _seeds(self, answer: Answer, ticket: Ticket) -> int:
        """On how many seeds an answer is compared with a ticket."""
        if not answer.is_final or answer.level is None or ticket.control == NO_CONTROL:
            return 0
        each = controls.find(ticket.control).each
        if each != "level" and ticket.step != answer.step:
            return 0
        if each != "point" and ticket.level != self.levels[answer.level]:
            return 0
        return len(answer.tried[answer.level])


def read_search(
    experiment: Experiment, steps: Sequence[int], runs: Sequence[RunDirectory], retries: bool = False
) -> SearchState:
    """`search_state` of the results in run directories, one for each of the experiment's seeds.

    Raises InputError if a result is damaged.
    """
    return search_state(experiment, steps, [(run.dense_result(), run.results()) for run in runs], retries)


def search_state(
    experiment: Experiment,
    steps: Sequence[int],
    replicates: Sequence[tuple[DenseResult | None, Iterable[TicketResult]]],
    retries: bool = False,
) -> SearchState:
    """How far the search of an experiment has got.

    Args:
        steps: the reset points.
        replicates: the results so far, for each of the experiment's seeds.
        retries: whether failed tickets count as not trained yet, since they would be tried again.
    """
    levels = _by_density(experiment)
    results: dict[Probe, float | None] = {}
    image = 0.0
    for replicate, (dense, of_tickets) in enumerate(replicates):
        if dense is None or dense.status != "done":
            continue
        select = experiment.data.select is not None
        image = 100 / max(dense.select_images if select else dense.evaluated, 1)
        found: dict[tuple[int, int], list[TicketResult]] = defaultdict(list)
        for result in of_tickets:
            if result.control == NO_CONTROL and result.level < len(levels):
                found[result.step, result.level].append(result)
        for (step, level), tickets in found.items():
            if retries and any(ticket.status == "failed" for ticket in tickets):
                continue
            if {ticket.seed for ticket in tickets}.issuperset(experiment.tickets.seeds):
                results[Probe(step, levels.index(level), replicate)] = difference(dense, tickets, select)
    rules = Rules(len(levels), len(replicates), experiment.verdict.margin, experiment.verdict.level, image)
    return SearchState(rules, search(rules, steps, results), levels, experiment.tickets.seeds)


def difference(dense: DenseResult, tickets: Sequence[TicketResult], select: bool) -> float | None:
    """The mean accuracy of tickets less the dense network's, in points; -inf if one diverged, None if one failed.

    With `select` on the split on which reset points are chosen, so that the search leaves the other one to the verdict.
    """
    if any(ticket.status == "failed" for ticket in tickets):
        return None
    of_dense = _accuracy(dense, select)
    known = [score for ticket in tickets if (score := _accuracy(ticket, select)) is not None]
    if of_dense is None or len(known) < len(tickets):
        return -math.inf
    return 100 * (sum(known) / len(known) - of_dense)


def _accuracy(result: DenseResult | TicketResult, select: bool) -> float | None:
    return result.select_top1 if select else result.top1


def _by_density(experiment: Experiment) -> tuple[int, ...]:
    """The numbers of the levels, densest first."""
    densities = experiment.masks.levels
    return tuple(sorted(range(len(densities)), key=lambda level: -densities[level]))
