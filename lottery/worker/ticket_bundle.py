"""Tickets: each starts from mask x trellis state, and a bundle of them trains together on one stream of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottery.run.run_directory import ticket_result
from lottery.tickets import integrity
from lottery.tickets.masks import Mask
from lottery.tickets.start_state import reinit_seed, start_state
from lottery.tickets.tickets import (
    NO_CONTROL,
    Ticket,
    changed,
    first_step,
    has_mask_of_its_own,
    is_fine_tuned,
    own_mask,
    start_weights,
    stream_seed,
)
from lottery.worker.bundle import train_bundle
from lottery.worker.member import Member
from lottery.worker.narrow_model import narrow_session
from lottery.worker.round_masks import final_state, is_cut_off, mask_of_level
from lottery.worker.session import Session
from lottery.worker.transfer import reset_state


def train_tickets(session: Session, tickets: Sequence[Ticket]) -> None:
    """Trains a bundle of tickets of one seed and one model, except those that have a result.

    Raises InputError if the model has changed since the dense run.
    """
    done = session.run.done()
    left = [ticket for ticket in tickets if ticket not in done and not is_cut_off(session, ticket)]
    if not left:
        return
    notes = [session.software_changes()]
    if changed(left[0]).is_narrow:
        session, note = narrow_session(session, left[0])
        notes.append(note)
    TicketBundle(session, left, "; ".join(filter(None, notes))).train()


class TicketBundle:
    """Tickets of one seed, which thus see the same batches.

    Args:
        note: a remark for all of their results.
    """

    def __init__(self, session: Session, tickets: Sequence[Ticket], note: str = "") -> None:
        self._session, self._experiment, self._note = session, session.experiment, note
        self._seed = stream_seed(tickets[0].seed, self._experiment.seed)
        # Read or made once each. Tickets of one mask share it, so the trainer sees that it is loaded already.
        self._level_mask = lru_cache(maxsize=None)(partial(mask_of_level, session))
        self._reset_state = lru_cache(maxsize=None)(partial(reset_state, session))
        self._final_state = lru_cache(maxsize=None)(partial(final_state, session))
        mask = lru_cache(maxsize=None)(self._mask)
        self._members = [self._start_or_resume(ticket, mask(self._of_one_mask(ticket))) for ticket in tickets]
        self._reset_state.cache_clear()  # each as large as a member's state
        self._final_state.cache_clear()

    def train(self) -> None:
        """Trains all of them to the end, and writes a result for each."""
        train_bundle(self._session, self._members, self._seed, frozenset(), self._finish_at_the_end)
        for member in self._members:
            if member.training:  # it was saved at its last step, and then interrupted
                self._finish(member)
            elif member.status in ("diverged", "failed"):
                self._write_result(member)

    def _mask(self, ticket: Ticket) -> Mask:
        if changed(ticket).is_dense:  # of a narrow network the level's mask has other shapes
            return {path: np.ones(shape, bool) for path, shape in self._session.trainer.kernel_shapes.items()}
        return own_mask(ticket, self._level_mask(replace(ticket, control=NO_CONTROL)), self._experiment)

    def _of_one_mask(self, ticket: Ticket) -> Ticket:
        """The same ticket for all that have the same mask."""
        return ticket if has_mask_of_its_own(ticket, self._experiment) else replace(ticket, step=0)

    def _trained_before(self, ticket: Ticket) -> Ticket:
        """The same ticket for all that come after the same training."""
        own = has_mask_of_its_own(ticket, self._experiment)
        return replace(ticket, control=NO_CONTROL) if own else Ticket(0, 0)

    def _start_or_resume(self, ticket: Ticket, mask: Mask) -> Member:
        fine_tuned = is_fine_tuned(ticket, self._experiment)
        member = Member(ticket, mask, step=first_step(ticket, self._experiment), fine_tuned=fine_tuned)
        if not self._session.log.resume(member):
            member.state = self._start_state(ticket, mask)
        self._session.check(member)
        return member

    def _start_state(self, ticket: Ticket, mask: Mask) -> dict[str, NDArray[Any]]:
        trainer, slots = self._session.trainer, self._session.slots
        weights = start_weights(ticket, self._experiment)
        if weights == "new":
            return start_state(trainer.first_state(reinit_seed(ticket, self._experiment.seed)), mask, slots)
        if weights == "final":
            saved = self._final_state(self._trained_before(ticket)).variables
        else:
            saved = self._reset_state(ticket.step)
        fresh = self._experiment.tickets.optimizer_state == "fresh"
        return start_state(saved, mask, slots, trainer.fresh_optimizer() if fresh else None)

    def _finish_at_the_end(self, member: Member) -> None:
        if member.step == self._session.timeline.total:
            self._finish(member)

    def _finish(self, member: Member) -> None:
        self._session.check(member)
        if member.training:
            assert member.mask is not None
            self._session.log.save(member)
            member.end("done", integrity.density_note(member.mask, member.state))
        self._write_result(member)

    def _write_result(self, member: Member) -> None:
        assert member.ticket is not None
        assert member.mask is not None
        self._session.log.settle()  # a result is the last that is written of a ticket
        placement = self._session.placement
        scores = self._session.log.final_scores(member) if member.status == "done" else {}
        self._session.run.write_result(
            ticket_result(
                member.ticket,
                self._experiment,
                self._session.timeline,
                member.mask,
                status=member.status,
                note="; ".join(filter(None, [member.reason, self._note])),
                executor=placement.executor,
                task=placement.task,
                steps=member.step - first_step(member.ticket, self._experiment),
                seconds=member.seconds,
                **scores,
            )
        )
