"""The table of distances, for which states are read but not computed with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lottery.analysis.distance import Distance, distances, whole_distance
from lottery.analysis.rows import DistanceRow
from lottery.analysis.study import Replicate, Study
from lottery.run.run_directory import DENSE
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import NO_CONTROL, Ticket, has_mask_of_its_own, start_weights
from preprocessing.common.errors import InputError

logger = logging.getLogger(__name__)

State = Mapping[str, Any]


def distance_rows(study: Study) -> list[DistanceRow]:
    """For each ticket, `continue` control and dense run a row for each kernel that can be pruned, and one for all.

    The dense run has rows from each reset point on, as the tickets. Raises InputError if a state is damaged.
    """
    return [row for replicate in study.replicates for row in _of_replicate(replicate)]


def _of_replicate(replicate: Replicate) -> Iterator[DistanceRow]:
    if not replicate.has_dense or not replicate.masks:
        return
    final = replicate.run.final_dense_state().variables
    mask = replicate.run.mask(replicate.masks[0].level, chain=replicate.masks[0].chain)
    everything = {kernel: np.ones_like(kept) for kernel, kept in mask.items()}
    moved = replicate.experiment.transfer is not None
    brought = replicate.run.transferred_state().variables if moved else None
    for step in replicate.points:
        logger.info("distance: trainings from reset point %s", replicate.points[step])
        early = replicate.run.trellis_state(step).variables
        yield from _rows(replicate, Ticket(0, step, DENSE), everything, early, final)
        for ticket in (ticket for ticket in replicate.trained if ticket.step == step):
            if ticket.control == NO_CONTROL and _has_mask(replicate, ticket):
                start = _start(replicate, ticket, early if brought is None else brought, final)
                if start is not None:
                    yield from _rows(replicate, ticket, _mask(replicate, ticket), start, _final(replicate, ticket))
            elif ticket.control == "continue":
                yield from _rows(replicate, ticket, everything, final, _final(replicate, ticket))


def _start(replicate: Replicate, ticket: Ticket, reset: State, final: State) -> State | None:
    """The weights that a ticket began with, before its mask; None if its predecessor has left none.

    Args:
        reset: the state to which tickets are reset.
        final: the dense run's.
    """
    if start_weights(ticket, replicate.experiment) == "reset":
        return reset
    if not has_mask_of_its_own(ticket, replicate.experiment):
        return final
    before = replicate.run.checkpoint(ticket.predecessor.name)
    return None if before is None else before.variables


def _mask(replicate: Replicate, ticket: Ticket) -> Mask:
    return replicate.run.mask(ticket.level, chain=_chain(replicate, ticket))


def _has_mask(replicate: Replicate, ticket: Ticket) -> bool:
    return any((mask.level, mask.chain) == (ticket.level, _chain(replicate, ticket)) for mask in replicate.masks)


def _chain(replicate: Replicate, ticket: Ticket) -> tuple[int, ...]:
    return ticket.chain if has_mask_of_its_own(ticket, replicate.experiment) else ()


def _final(replicate: Replicate, ticket: Ticket) -> State:
    state = replicate.run.checkpoint(ticket.name)
    if state is None:
        file, remedy = replicate.run.state_file(ticket.name)
        raise InputError(f"{file} is missing; {remedy}")
    return state.variables


def _rows(replicate: Replicate, ticket: Ticket, mask: Mask, start: State, final: State) -> Iterator[DistanceRow]:
    of_kernels = distances(start, final, mask)
    yield _row(replicate, ticket, "", whole_distance(of_kernels.values()))
    for kernel, distance in of_kernels.items():
        yield _row(replicate, ticket, kernel, distance)


def _row(replicate: Replicate, ticket: Ticket, kernel: str, distance: Distance) -> DistanceRow:
    is_ticket = ticket.control == NO_CONTROL
    return DistanceRow(
        replicate=replicate.seed,
        network="ticket" if is_ticket else ticket.control,
        level=ticket.level if is_ticket else None,
        level_density=replicate.experiment.masks.levels[ticket.level] if is_ticket else 1.0,
        step=ticket.step,
        reset=replicate.points[ticket.step],
        order=ticket.seed,
        kernel=kernel,
        start=distance.start,
        moved=distance.moved,
        relative=distance.relative,
    )
