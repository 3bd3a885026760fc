"""The masks of iterative pruning, each made when its round begins, from what the round before it has trained."""

from __future__ import annotations

from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import unstarted
from lottery.tickets.iterative import round_mask
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import Ticket, changed, has_mask_of_its_own
from lottery.worker.session import Session
from preprocessing.common.errors import InputError


def is_cut_off(session: Session, ticket: Ticket) -> bool:
    """Whether it has no mask, as the round before it diverged or failed. Then it gets a result that says so."""
    if changed(ticket).is_dense or not has_mask_of_its_own(ticket, session.experiment):
        return False
    before = session.run.result(ticket.predecessor)
    if before.status == "done":
        return False
    note = f"the round before it, {before.ticket.name}, {before.status}"
    session.run.write_result(unstarted(ticket, before, session.experiment, status=before.status, note=note))
    return True


def mask_of_level(session: Session, ticket: Ticket) -> Mask:
    """The mask of a ticket's level, or if it has one of its own, of its round. This is made unless it is there.

    The same weights give the same mask, so it does not matter who makes it, and how often.

    Raises InputError if a mask or the state of the round before is damaged or missing.
    """
    run, shapes = session.run, session.trainer.kernel_shapes
    if not has_mask_of_its_own(ticket, session.experiment):
        return run.mask(ticket.level, shapes)
    if run.has_mask(ticket.level, ticket.chain):
        return run.mask(ticket.level, shapes, ticket.chain)
    before = mask_of_level(session, ticket.predecessor)
    trained = final_state(session, ticket).variables
    mask = round_mask(before, trained, session.experiment.masks.levels[ticket.level], session.experiment)
    run.write_mask(ticket.level, mask, ticket.chain)
    return mask


def final_state(session: Session, ticket: Ticket) -> Checkpoint:
    """The last state of the dense run, or if the ticket has a mask of its own, of the round before it.

    Raises InputError if it is damaged, missing or of another model.
    """
    run, before = session.run, ticket.predecessor.name
    if not has_mask_of_its_own(ticket, session.experiment):
        state, file = run.final_dense_state(), run.final_dense_file()
    else:
        found, file = run.checkpoint(before), run.state_file(before)
        if found is None:
            raise InputError(f"{file[0]} is missing; delete result.json beside it, and the same command trains it anew")
        state = found
    session.trainer.check(state.variables, *file)
    return state
