"""Tickets: each starts from mask x trellis state, and a bundle of them trains together on one stream of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import ticket_result
from lottery.tickets import integrity, masks
from lottery.tickets.masks import Mask
from lottery.tickets.start_state import reinit_seed, start_state
from lottery.tickets.tickets import Ticket, first_step, stream_seed
from lottery.worker.bundle import train_bundle
from lottery.worker.member import Member
from lottery.worker.session import Session


def train_tickets(session: Session, tickets: Sequence[Ticket]) -> None:
    """Trains a bundle of tickets of one seed, except those that have a result."""
    done = session.run.done()
    left = [ticket for ticket in tickets if ticket not in done]
    if left:
        TicketBundle(session, left).train()


class TicketBundle:
    """Tickets of one seed, which thus see the same batches.

    Raises InputError if the model has changed since the dense run.
    """

    def __init__(self, session: Session, tickets: Sequence[Ticket]) -> None:
        self._session, self._experiment = session, session.experiment
        self._seed = stream_seed(tickets[0].seed, self._experiment.seed)
        self._software_changes = session.software_changes()
        # Read once each. Tickets of one mask share it, so the trainer sees that it is loaded already.
        shapes = session.trainer.kernel_shapes
        mask = lru_cache(maxsize=None)(lambda level: session.run.mask(level, shapes))
        shuffled = lru_cache(maxsize=None)(lambda level: masks.shuffled(mask(level), self._seed, level))
        trellis_state = lru_cache(maxsize=None)(session.run.trellis_state)
        self._members = [
            self._start_or_resume(
                ticket, (shuffled if ticket.control == "shuffle" else mask)(ticket.level), trellis_state
            )
            for ticket in tickets
        ]

    def train(self) -> None:
        """Trains all of them to the end, and writes a result for each."""
        train_bundle(self._session, self._members, self._seed, frozenset(), self._finish_at_the_end)
        for member in self._members:
            if member.training:  # it was saved at its last step, and then interrupted
                self._finish(member)
            elif member.status in ("diverged", "failed"):
                self._write_result(member)

    def _start_or_resume(self, ticket: Ticket, mask: Mask, trellis_state: Callable[[int], Checkpoint]) -> Member:
        member = Member(ticket, mask, step=first_step(ticket, self._experiment))
        if not self._session.log.resume(member):
            member.state = self._start_state(ticket, mask, trellis_state)
        self._session.check(member)
        return member

    def _start_state(
        self, ticket: Ticket, mask: Mask, trellis_state: Callable[[int], Checkpoint]
    ) -> dict[str, NDArray[Any]]:
        trainer, slots = self._session.trainer, self._session.slots
        if ticket.control == "reinit":
            return start_state(trainer.first_state(reinit_seed(ticket, self._experiment.seed)), mask, slots)
        saved = trellis_state(ticket.step).variables
        trainer.check(saved, *self._session.run.trellis_file(ticket.step))
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
        scores = self._session.log.final_scores(member) if member.status == "done" else None
        self._session.run.write_result(
            ticket_result(
                member.ticket,
                self._experiment,
                self._session.timeline,
                member.mask,
                status=member.status,
                note="; ".join(filter(None, [member.reason, self._software_changes])),
                executor=placement.executor,
                task=placement.task,
                top1=scores.top1 if scores else None,
                top5=scores.top5 if scores else None,
                loss=scores.loss if scores else None,
                steps=member.step - first_step(member.ticket, self._experiment),
                seconds=member.seconds,
            )
        )
