"""Adopts what other run directories below the same folder have trained already, on the driver and before Spark works.

A dense run is adopted if it has the same identity and kept all points of the trellis; a ticket, if it belongs to the
same dense run, its mask is the same to the bit, and so is all else that it depends on (`lottery.tickets.sharing`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np

from lottery.driver.prepare import Sweep
from lottery.run.adoption import adopt_dense, adopt_ticket
from lottery.run.run_directory import DENSE, DenseResult
from lottery.run.siblings import Sibling
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.sharing import (
    DenseChoice,
    DenseOffer,
    adoptable,
    choose_dense,
    dense_identity,
    ticket_identity,
)
from lottery.tickets.tickets import Ticket, has_mask_of_its_own
from preprocessing.common.claim import BusyError, Claim, live_claim
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import patiently
from preprocessing.common.storage import open_store

logger = logging.getLogger(__name__)

_LOOK = 5.0  # seconds between looks at a dense run that is waited for
_TELL_EVERY = 60.0  # seconds
_THREADS = 8  # that copy tickets

Found = Mapping[Ticket, tuple[str, Ticket]]  # for each ticket the run directory that has it, and its name there


@dataclass(frozen=True)
class Reuse:
    """What a run would adopt, for a plan: the dense run's result (None: it has to be trained, or is waited for)."""

    dense: DenseResult | None
    waits: bool
    tickets: frozenset[Ticket]
    lines: tuple[str, ...]


def plan_reuse(sweep: Sweep, left: Sequence[Ticket], siblings: Sequence[Sibling]) -> Reuse:
    """What a run would adopt just now; nothing is copied, and nothing waited for. `left` are the tickets to train."""
    dense, choice = sweep.dense_result(), DenseChoice()
    lines = []
    if dense is None:
        choice = choose(sweep, siblings)
        if choice.adopt is not None:
            dense = next(each.run.dense_result() for each in siblings if each.name == choice.adopt)
            lines.append(f"dense run{sweep.label}: adopted from {choice.adopt}")
        elif choice.wait_for is not None:
            lines.append(f"dense run{sweep.label}: {choice.wait_for} is training it, and would be waited for")
        elif choice.remarks:
            lines.append(why_trained(sweep, choice))
    found = {} if dense is None else find_tickets(sweep, left, dense, siblings)
    counts = Counter(name for name, _ in found.values())
    lines += [adopted_line(sweep, count, name) for name, count in sorted(counts.items())]
    return Reuse(dense, choice.wait_for is not None, frozenset(found), tuple(lines))


def reuse_dense(sweep: Sweep, siblings: Sequence[Sibling], patient: bool = True) -> None:
    """Adopts the dense run if there is one to adopt, after waiting for it if a sweep that came first is training it.

    Raises StorageError if storage fails; BusyError instead of waiting if not `patient`.
    """
    useful = {sibling.name: sibling for sibling in _of_same_dense(sweep, siblings)}
    while useful and not sweep.run.has_result(DENSE):
        choice = choose(sweep, list(useful.values()))
        if choice.wait_for is not None and not patient:
            raise BusyError(
                f"dense run{sweep.label}: a sweep is training it in {choice.wait_for}; run the same command again once "
                "it is done there, to adopt it"
            )
        if choice.wait_for is not None:
            _wait_for(useful[choice.wait_for])
        elif choice.adopt is None:
            logger.info(why_trained(sweep, choice))
            return
        elif not _adopt_dense(sweep, useful[choice.adopt]):
            del useful[choice.adopt]


def choose(sweep: Sweep, siblings: Sequence[Sibling]) -> DenseChoice:
    """What to do for the dense run. The siblings of other dense runs are passed over.

    If there are tickets of a dense run that was deleted, none is adopted: it may have been another training.
    """
    if sweep.run.done():
        return DenseChoice(remarks=("none is adopted beside the tickets of an earlier one that are here",))
    own = open_store(sweep.home.uri)
    claim = patiently(lambda: live_claim(own), own)
    offers = [offer for sibling in _of_same_dense(sweep, siblings) for offer in _dense_offer(sibling, claim)]
    return choose_dense(sweep.timeline.trellis, offers, patient=not sweep.run.has_checkpoint(DENSE))


def why_trained(sweep: Sweep, choice: DenseChoice) -> str:
    """A line on why none of the dense runs of the same identity can be adopted."""
    return f"dense run{sweep.label}: {'; '.join(choice.remarks)}: trained anew"


def reuse_tickets(sweep: Sweep, siblings: Sequence[Sibling]) -> None:
    """Adopts the tickets that are left and that others have; none before the dense run and the masks are there.

    Raises StorageError if storage fails.
    """
    left, dense = sweep.left(), sweep.run.dense_result()
    if not left or dense is None or not sweep.has_masks():
        return
    found = find_tickets(sweep, left, dense, siblings)
    by_name = {sibling.name: sibling for sibling in siblings}

    @cache
    def same_mask(name: str, there: int, here: int) -> bool:
        ours, theirs = sweep.run.mask(here), by_name[name].run.mask(there)
        return ours.keys() == theirs.keys() and all(np.array_equal(ours[path], theirs[path]) for path in ours)

    def fits(name: str, there: Ticket, here: Ticket) -> bool:
        if is_for_all_levels(here.control):  # it has no level's mask
            return True
        if not has_mask_of_its_own(here, sweep.experiment):
            return same_mask(name, there.level, here.level)
        # Its mask is made from the round before it, which has to be the same training.
        run, before = sweep.run, here.predecessor
        return run.has_result(before.name) and run.result(before) == by_name[name].run.result(there.predecessor)

    def adopt(here: Ticket) -> str | None:
        name, there = found[here]
        try:
            if not fits(name, there, here):
                return None
            adopt_ticket(by_name[name].run, there, sweep.run, here)
        except StorageError:
            raise
        except InputError as error:
            logger.warning("ticket %s is not adopted from %s: %s", here.name, name, error)
            return None
        return name

    names: Counter[str] = Counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        for _, rounds in groupby(sorted(found), key=lambda ticket: ticket.level):
            names.update(name for name in pool.map(adopt, rounds) if name is not None)
    for name, count in sorted(names.items()):
        logger.info(adopted_line(sweep, count, name))


def find_tickets(sweep: Sweep, left: Sequence[Ticket], dense: DenseResult, siblings: Sequence[Sibling]) -> Found:
    """Those of the tickets that others have trained from the dense run with this result. Masks are not compared."""
    wanted = {ticket: ticket_identity(sweep.experiment, ticket) for ticket in left}
    identities = frozenset(wanted.values())
    offered: dict[str, dict[Ticket, str]] = defaultdict(dict)
    for sibling in _of_same_dense(sweep, siblings):
        for ticket, identity in _ended(sibling, dense, identities):
            offered[sibling.name][ticket] = identity
    return adoptable(wanted, offered)


def adopted_line(sweep: Sweep, count: int, name: str) -> str:
    """A line on tickets that are adopted from a run directory."""
    return f"tickets{sweep.label}: {count} adopted from {name}"


def _of_same_dense(sweep: Sweep, siblings: Sequence[Sibling]) -> list[Sibling]:
    wanted = dense_identity(sweep.experiment, sweep.dataset.content_hash)
    return [
        sibling
        for sibling in siblings
        if dense_identity(sibling.origin.experiment, sibling.origin.dataset_hash) == wanted
    ]


def _dense_offer(sibling: Sibling, own: Claim | None) -> Iterator[DenseOffer]:
    """What a sibling offers: nothing if its result is damaged. Without a claim of its own a sweep comes last."""
    try:
        result = sibling.run.dense_result()
    except StorageError:
        raise
    except InputError as error:
        logger.warning("the dense run of %s cannot be adopted: %s", sibling.name, error)
        return
    if result is not None:
        yield DenseOffer(sibling.name, result.status, sibling.run.kept_steps())
        return
    claim = sibling.claim()
    # Both sweeps compare the same two claims, so that exactly one of them waits, whatever their clocks say.
    first = claim is not None and (own is None or (claim.since, claim.token) < (own.since, own.token))
    yield DenseOffer(sibling.name, None, frozenset(sibling.origin.timeline.trellis), goes_first=first)


def _adopt_dense(sweep: Sweep, sibling: Sibling) -> bool:
    """Whether it could be adopted."""
    try:
        result = sibling.run.dense_result()
        if result is None:  # gone since
            return False
        adopt_dense(sibling.run, sweep.run, result, sweep.timeline.trellis)
    except StorageError:
        raise
    except InputError as error:
        logger.warning("the dense run of %s cannot be adopted: %s", sibling.name, error)
        return False
    logger.info("dense run%s: adopted from %s", sweep.label, sibling.name)
    return True


def _wait_for(sibling: Sibling) -> None:
    """Returns once the sibling's dense run has ended, or its sweep has."""
    told = -_TELL_EVERY
    while not sibling.run.has_result(DENSE) and sibling.claim() is not None:
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            logger.info("dense run: waiting for %s, where a sweep is training it; it will be adopted", sibling.name)
        time.sleep(_LOOK)


def _ended(sibling: Sibling, dense: DenseResult, wanted: frozenset[str]) -> Iterator[tuple[Ticket, str]]:
    """A sibling's tickets of these identities that did not fail, if its dense run ended with this result."""
    try:
        if sibling.run.dense_result() != dense:
            return
        for ticket in sorted(sibling.run.done()):
            if ticket.level >= len(sibling.origin.experiment.masks.levels):
                continue
            identity = ticket_identity(sibling.origin.experiment, ticket)
            if identity in wanted and sibling.run.result(ticket).status != "failed":
                yield ticket, identity
    except StorageError:
        raise
    except InputError as error:
        logger.warning("the tickets of %s cannot be adopted: %s", sibling.name, error)
