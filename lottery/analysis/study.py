"""What of a run directory is analysed: the levels and reset points asked for, as far as they are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lottery.analysis.pairs import MaskAt
from lottery.experiment.config import Experiment
from lottery.run.origin import Origin
from lottery.run.run_directory import RunDirectory, TicketResult
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import Ticket, all_tickets
from preprocessing.common.errors import InputError


@dataclass(frozen=True)
class Replicate:
    """The run directory of one of an experiment's seeds, or of its only one.

    Args:
        name: of the whole sweep's run directory.
        levels, points: those asked for; a reset point's name, as the experiment gives it, by its step.
    """

    name: str
    run: RunDirectory
    origin: Origin
    levels: tuple[int, ...]
    points: dict[int, str]

    @property
    def experiment(self) -> Experiment:
        """The experiment with this replicate's seed alone."""
        return self.origin.experiment

    @property
    def seed(self) -> int:
        """The replicate's seed."""
        return self.experiment.seed

    @cached_property
    def tickets(self) -> list[Ticket]:
        """The tickets and controls of these levels and reset points, done or not."""
        return [
            ticket
            for ticket in all_tickets(self.experiment, self.origin.timeline)
            if ticket.step in self.points and (ticket.level in self.levels or is_for_all_levels(ticket.control))
        ]

    @cached_property
    def results(self) -> dict[Ticket, TicketResult]:
        """Of these tickets those that have a result. Raises InputError if one is damaged."""
        there = self.run.done()
        return {ticket: self.run.result(ticket) for ticket in self.tickets if ticket in there}

    @cached_property
    def trained(self) -> dict[Ticket, TicketResult]:
        """Of these those that were trained to their end."""
        return {ticket: result for ticket, result in self.results.items() if result.status == "done"}

    @cached_property
    def has_dense(self) -> bool:
        """Whether the dense run was trained to its end."""
        dense = self.run.dense_result()
        return dense is not None and dense.status == "done"

    @property
    def masks_to_be(self) -> list[MaskAt]:
        """Where the masks of these levels are, made or not."""
        config, found = self.experiment.masks, []
        for level in self.levels:
            chains: Sequence[tuple[int, ...]] = [()]
            if level >= config.of_dense_run:
                chains = [(seed, step) for seed in self.experiment.tickets.seeds for step in self.points]
            found += [MaskAt(self.name, self.seed, level, config.levels[level], chain) for chain in chains]
        return found

    @cached_property
    def masks(self) -> list[MaskAt]:
        """Of these masks those that are there."""
        return [mask for mask in self.masks_to_be if self.run.has_mask(mask.level, mask.chain)]


@dataclass(frozen=True)
class Study:
    """The replicates of a run directory, and those of other run directories that its masks are compared with."""

    home: RunDirectory
    replicates: list[Replicate]
    others: list[Replicate] = field(default_factory=list)

    def replicate(self, seed: int) -> Replicate:
        """The run directory's replicate with this seed."""
        return next(each for each in self.replicates if each.seed == seed)

    def where(self, mask: MaskAt) -> Replicate:
        """The replicate, of this or another run directory, that a mask is from."""
        return next(
            each for each in (*self.replicates, *self.others) if (each.name, each.seed) == (mask.run, mask.replicate)
        )

    def mask(self, mask: MaskAt) -> Mask:
        """Reads a mask. Raises InputError if it is damaged or missing."""
        return self.where(mask).run.mask(mask.level, chain=mask.chain)

    def missing(self) -> list[str]:
        """What is not there to be analysed, a line each."""
        return [line for each in self.replicates for line in _missing(each, len(self.replicates) > 1)]


def open_study(
    run: RunDirectory,
    levels: Sequence[int] | None = None,
    resets: Sequence[str] | None = None,
    others: Sequence[RunDirectory] = (),
) -> Study:
    """What there is to analyse in a run directory, whether it is finished or not; None stands for all.

    Raises InputError for a level or a reset point that the experiment does not have, or if another run directory is
    given twice.
    """
    places = [each.uri for each in (run, *others)]
    for each in others:
        if places.count(each.uri) > 1:
            raise InputError(f"--with: {each.describe()} is given twice; masks are compared with other run directories")
    names = [each.describe().rstrip("/").rsplit("/", 1)[-1] for each in (run, *others)]
    if len(set(names)) < len(names):  # of one experiment, in several places
        names = [each.describe() for each in (run, *others)]
    own, *theirs = (_replicates(each, name) for each, name in zip((run, *others), names, strict=True))
    chosen = [_choose(each, levels, resets, run.describe()) for each in own]
    return Study(run, chosen, [replicate for found in theirs for replicate in found])


def _replicates(run: RunDirectory, name: str) -> list[Replicate]:
    found = []
    for replicate in run.replicates():
        try:
            origin = replicate.origin()
        except FileNotFoundError:  # the sweep has only just begun
            continue
        points = {
            step: str(point) for step, point in zip(origin.timeline.trellis, origin.experiment.trellis, strict=True)
        }
        found.append(Replicate(name, replicate, origin, tuple(range(len(origin.experiment.masks.levels))), points))
    return found


def _choose(replicate: Replicate, levels: Sequence[int] | None, resets: Sequence[str] | None, where: str) -> Replicate:
    for level in levels or ():
        if level not in replicate.levels:
            raise InputError(f"--levels: {level} is no level of {where}; it has 0 to {replicate.levels[-1]}")
    known = replicate.points.values()
    for reset in resets or ():
        if reset not in known:
            raise InputError(f"--resets: {reset} is no reset point of {where}; it has {', '.join(known)}")
    return replace(
        replicate,
        levels=replicate.levels if levels is None else tuple(sorted(set(levels))),
        points={step: name for step, name in replicate.points.items() if resets is None or name in resets},
    )


def _missing(replicate: Replicate, several: bool) -> list[str]:
    label = f"seed {replicate.seed}: " if several else ""
    lines = [] if replicate.has_dense else [f"{label}the dense run is not done"]
    masks = len(replicate.masks_to_be) - len(replicate.masks)
    if masks:
        lines.append(f"{label}{masks} of {len(replicate.masks_to_be)} masks are not there")
    waiting = len(replicate.tickets) - len(replicate.results)
    if waiting:
        lines.append(f"{label}{waiting} of {len(replicate.tickets)} tickets and controls have no result")
    for ended in ("diverged", "failed"):
        count = sum(result.status == ended for result in replicate.results.values())
        if count:
            lines.append(f"{label}{count} of {len(replicate.tickets)} tickets and controls {ended}")
    return lines
