"""Which masks, and which trained networks, are compared with each other. Two that are compared differ in one thing."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lottery.experiment.config import Experiment
from lottery.tickets.tickets import NO_CONTROL, Ticket, has_mask_of_its_own

_NEAR = 0.05  # relative difference up to which the densities of two runs' levels are compared

MaskPairKind = Literal["replicate", "level", "chain", "run"]
NetworkPairKind = Literal["dense", "reset", "order", "replicate"]


@dataclass(frozen=True, order=True)
class MaskAt:
    """Where a mask comes from: the run directory's name, the replicate's seed, the level and its density.

    `chain` is (seed of the order of samples, step) of a later round of iterative pruning; empty of the dense run's.
    """

    run: str
    replicate: int
    level: int
    density: float
    chain: tuple[int, ...] = ()


@dataclass(frozen=True)
class MaskPair:
    """Two masks to compare, and what they differ in.

    `replicate`: everything was trained from other first weights. `level`: one level and the next, such as rounds of
    iterative pruning. `chain`: such rounds from another reset point, or with another order of samples. `run`: another
    run directory.
    """

    kind: MaskPairKind
    one: MaskAt
    other: MaskAt


@dataclass(frozen=True, order=True)
class Network:
    """A trained network: a ticket, or the dense run (None), of the replicate with this seed."""

    replicate: int
    ticket: Ticket | None


@dataclass(frozen=True)
class NetworkPair:
    """Two trained networks to compare, and what they differ in; `dense`: a ticket and its dense run."""

    kind: NetworkPairKind
    one: Network
    other: Network


def mask_pairs(masks: Sequence[MaskAt], of_others: Iterable[MaskAt] = ()) -> list[MaskPair]:
    """The pairs of masks of one run directory, and of each of them with the like of other run directories.

    They come level by level, and those with something in common together, so that few masks have to be in memory at
    once.
    """
    levels = sorted({mask.level for mask in masks})
    after = dict(itertools.pairwise(levels))
    pairs = [pair for one, other in itertools.combinations(sorted(masks), 2) if (pair := _own_pair(one, other, after))]
    by_source: dict[tuple[str, int, tuple[int, ...]], list[MaskAt]] = defaultdict(list)
    for mask in of_others:
        by_source[mask.run, mask.replicate, mask.chain].append(mask)
    for one in masks:
        for (_, replicate, chain), candidates in by_source.items():
            nearest = min(candidates, key=lambda mask: (abs(math.log(mask.density / one.density)), mask))
            comparable = replicate == one.replicate and (chain == one.chain or not chain or not one.chain)
            if comparable and math.isclose(nearest.density, one.density, rel_tol=_NEAR):
                pairs.append(MaskPair("run", one, nearest))
    return sorted(pairs, key=lambda pair: (pair.one.level, pair.kind, _in_common(pair), pair.one, pair.other))


def _in_common(pair: MaskPair) -> tuple[int, ...]:
    """The same for pairs of a level that are best compared one after the other, since they share masks."""
    one, other = pair.one.chain, pair.other.chain
    if pair.kind == "replicate":
        return one
    if pair.kind == "chain":  # those of one order of samples, or of one reset point
        same = next(place for place, (ours, theirs) in enumerate(zip(one, other, strict=True)) if ours == theirs)
        return pair.one.replicate, same, one[same]
    return ()


def _own_pair(one: MaskAt, other: MaskAt, after: Mapping[int, int]) -> MaskPair | None:
    """The pair of two masks of one run directory, `one` the lower; None if they differ in more than one thing.

    Args:
        after: the next level of each but the last.
    """
    if one.level != other.level:
        first, second = sorted((one, other), key=lambda mask: mask.level)
        follows = second.level == after[first.level]
        same = first.replicate == second.replicate and first.chain in ((), second.chain)
        return MaskPair("level", first, second) if follows and same else None
    if one.chain == other.chain:
        return MaskPair("replicate", one, other)
    differ = sum(ours != theirs for ours, theirs in zip(one.chain, other.chain, strict=False))
    return MaskPair("chain", one, other) if one.replicate == other.replicate and differ == 1 else None


def line_ends(tickets: Iterable[Ticket], experiment: Experiment) -> list[tuple[Ticket, Ticket]]:
    """The pairs of trainings that began with the same weights and mask, and saw other orders of samples.

    These are tickets, a level of density 1 among them, and the control `continue`. Other controls have other weights or
    masks for each order, and so have later rounds of iterative pruning.
    """
    groups: dict[tuple[int, int, str], list[Ticket]] = defaultdict(list)
    for ticket in sorted(tickets):
        if ticket.control in (NO_CONTROL, "continue") and not has_mask_of_its_own(ticket, experiment):
            groups[ticket.level, ticket.step, ticket.control].append(ticket)
    return [pair for group in groups.values() for pair in itertools.combinations(group, 2)]


def network_pairs(networks: Iterable[Network]) -> list[NetworkPair]:
    """Of a level's tickets and the dense runs of their replicates, those that differ in one thing.

    Controls are left out.
    """
    chosen = sorted(
        (each for each in networks if each.ticket is None or each.ticket.control == NO_CONTROL),
        key=lambda each: (each.ticket is not None, each),
    )
    pairs = ((_network_pair_kind(one, other), one, other) for one, other in itertools.combinations(chosen, 2))
    return [NetworkPair(kind, one, other) for kind, one, other in pairs if kind is not None]


def _network_pair_kind(one: Network, other: Network) -> NetworkPairKind | None:
    first, second = one.ticket, other.ticket
    if second is None:
        return None
    if first is None:
        return "dense" if one.replicate == other.replicate else None
    changed: dict[NetworkPairKind, bool] = {
        "replicate": one.replicate != other.replicate,
        "reset": first.step != second.step,
        "order": first.seed != second.seed,
    }
    kinds = [kind for kind, differs in changed.items() if differs]
    return kinds[0] if len(kinds) == 1 and first.level == second.level else None
