"""Where a ticket lies, and what its run directory holds of it: its mask and first weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from lottery.experiment.config import Experiment
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.tickets.masks import Mask
from lottery.tickets.tickets import Ticket, from_name, has_mask_of_its_own, own_mask, start_weights
from preprocessing.common.places import parse
from preprocessing.common.storage import open_store


def mask_of(run: RunDirectory, ticket: Ticket, experiment: Experiment) -> Mask:
    """A ticket's or control's mask. Raises InputError if the mask of its level is damaged or missing."""
    chain = ticket.chain if has_mask_of_its_own(ticket, experiment) else ()
    return own_mask(ticket, run.mask(ticket.level, chain=chain), experiment)


def first_weights(run: RunDirectory, ticket: Ticket, experiment: Experiment) -> Mapping[str, NDArray[Any]]:
    """The dense weights, statistics and the like that a ticket's mask was laid over at its start, by path.

    Raises InputError if they are damaged or missing.
    """
    if start_weights(ticket, experiment) == "reset":
        state = run.trellis_state(ticket.step) if experiment.transfer is None else run.transferred_state()
    elif has_mask_of_its_own(ticket, experiment):
        state = run.needed_checkpoint(ticket.predecessor.name)
    else:
        state = run.final_dense_state()
    return {path: array for path, array in state.variables.items() if not path.startswith("optimizer/")}


def locate(uri: str) -> tuple[str, str | None]:
    """(run directory, training) of `RUN`, `RUN/dense` or `RUN/tickets/NAME`; of the first, without a training.

    Nothing is read but whether `uri` itself is a run directory.
    """
    place = parse(uri)
    above, _, last = place.path.rpartition("/")
    if last == DENSE:
        found = place._replace(path=above).uri, DENSE
    elif above.endswith("/tickets") and from_name(last) is not None:
        found = place._replace(path=above.removesuffix("/tickets")).uri, last
    else:
        return uri, None
    return (uri, None) if RunDirectory(open_store(uri)).exists() else found


def folder_of_runs(uri: str) -> str:
    """The folder that a run directory is in, also if it is one of several seeds'."""
    place = parse(uri)
    above, _, last = place.path.rpartition("/")
    folder = place._replace(path=above).uri
    is_replicate = last.startswith("seed-") and RunDirectory(open_store(folder)).exists()
    return folder_of_runs(folder) if is_replicate else folder
