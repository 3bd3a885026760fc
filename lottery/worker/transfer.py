"""Brings a ticket of another run directory into this one: its mask, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.experiment.sections import Transfer
from lottery.run.checkpoint import Checkpoint
from lottery.run.run_directory import RunDirectory
from lottery.run.ticket_files import first_weights, mask_of
from lottery.tickets import masks
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import from_name
from lottery.tickets.transfer import check_density, fitting_mask, fitting_weights, source_hash
from lottery.training.trainer import Trainer
from lottery.worker.session import Session
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store


@dataclass(frozen=True)
class _Brought:
    mask: Mask
    weights: dict[str, NDArray[Any]]  # of the whole model, by path


def bring(session: Session) -> None:
    """Writes the mask of the experiment's ticket, and before it the state that it starts from.

    Both are copied, so that this run directory stays whole by itself; from then on their source is not read again.
    Raises InputError as `check_transfer` does.
    """
    if session.run.has_transferred():
        return
    brought = _brought(session.trainer, session.experiment)
    check_density(session.experiment, brought.mask)
    session.run.write_transferred_state(Checkpoint(0, brought.weights))
    session.run.write_mask(0, brought.mask)


def check_ticket(session: Session) -> None:
    """Raises InputError if `bring` would: before days are spent on the dense run."""
    if session.experiment.transfer is not None and not session.run.has_transferred():
        check_density(session.experiment, _brought(session.trainer, session.experiment).mask)


def check_transfer(trainer: Trainer, experiment: Experiment, run: RunDirectory | None = None) -> int | None:
    """How many weights the mask of a transferred ticket keeps here; None if there is none to transfer.

    Args:
        run: the experiment's run directory. If the ticket was copied there, its source is not read: it may be gone.

    Raises InputError if the ticket is not there, is another one, or does not fit the model.
    """
    if experiment.transfer is None:
        return None
    if run is not None and run.has_transferred():
        return masks.kept(run.mask(0))
    return masks.kept(_brought(trainer, experiment).mask)


def reset_state(session: Session, step: int) -> Mapping[str, Any]:
    """The state to which tickets are reset: the dense run's after `step` steps, or what was brought from elsewhere.

    Raises InputError if it is damaged, missing or of another model.
    """
    run, trainer = session.run, session.trainer
    if session.experiment.transfer is None:
        state, file = run.trellis_state(step).variables, run.trellis_file(step)
    else:
        state, file = run.transferred_state().variables, run.transferred_file()
        state = {**trainer.fresh_optimizer(), **state}
    trainer.check(state, *file)
    return state


def _brought(trainer: Trainer, experiment: Experiment) -> _Brought:
    assert experiment.transfer is not None
    mask, weights = read_source(experiment.transfer)
    new = trainer.classifier() if experiment.transfer.classifier == "new" else []
    first = trainer.first_state(experiment.seed)
    fresh = {path: first[path] for path in trainer.variables}
    return _Brought(fitting_mask(mask, trainer.kernel_shapes, new), fitting_weights(weights, fresh, new))


def read_source(transfer: Transfer) -> tuple[Mask, Mapping[str, NDArray[Any]]]:
    """A ticket's mask, and the weights that it is laid over, by path.

    Raises InputError if they are not there, or are not those that the experiment names.
    """
    run, ticket = RunDirectory(open_store(transfer.run), read_only=True), from_name(transfer.ticket)
    where = f"transfer: ticket {transfer.ticket} of {run.describe()}"
    try:
        experiment = run.origin().experiment
    except FileNotFoundError:
        raise InputError(f"{where}: there is no run directory; correct transfer.run") from None
    if ticket is None or ticket.level >= len(experiment.masks.levels):
        raise InputError(f"{where}: there is none of that name; correct transfer.ticket")
    mask, weights = mask_of(run, ticket, experiment), first_weights(run, ticket, experiment)
    found = source_hash(mask, weights)
    if found != transfer.source:
        raise InputError(
            f"{where}: its content has the hash {found}, not {transfer.source}; it has changed: make the experiment "
            "again with `python -m lottery transfer`"
        )
    return mask, weights
