"""What a dense run and a ticket depend on, and which of another run directory's can be adopted. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.experiment.config import Experiment, digest, result_fields
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL, Ticket

# What the dense run does not depend on. A section that is not named here is taken to change it.
_AFTER_DENSE = ("trellis", "masks", "tickets", "transfer")
_PRUNABLE = ("classifier", "exclude")  # the fields of `masks` that say which weights are prunable


def dense_identity(experiment: Experiment, dataset_hash: str) -> str:
    """12 hex digits that name the dense run: a hash of the fields that can change it, and of the dataset's content.

    Which of its states are kept (`trellis`) is not part of it.
    """
    tree = {key: value for key, value in result_fields(experiment).items() if key not in _AFTER_DENSE}
    return digest([tree, dataset_hash])


def ticket_identity(experiment: Experiment, ticket: Ticket) -> str:
    """12 hex digits that name a ticket among those of one dense run: a hash of all else that can change it.

    The level counts only for controls, whose random numbers depend on it; tickets of one density are the same whatever
    their level. For a control that is for all levels, which keeps all weights, it only counts which weights are
    prunable.
    """
    tree = result_fields(experiment)
    masks = {key: value for key, value in tree["masks"].items() if key != "densities"}
    if experiment.masks.iterative is not None:  # later rounds change nothing in earlier ones
        masks["iterative"] = {key: value for key, value in masks["iterative"].items() if key != "rounds"}
    density: float | None = experiment.masks.levels[ticket.level]
    if is_for_all_levels(ticket.control):
        masks, density = {key: value for key, value in masks.items() if key in _PRUNABLE}, None
    how = {key: value for key, value in tree.get("tickets", {}).items() if key not in ("controls", "seeds")}
    level = None if ticket.control == NO_CONTROL else ticket.level
    source = [tree["transfer"]] if "transfer" in tree else []
    return digest([masks, density, how, ticket.step, ticket.control, ticket.seed, level, *source])


@dataclass(frozen=True)
class DenseOffer:
    """A dense run of the wanted identity in another run directory."""

    name: str  # of the run directory
    status: str | None  # done or diverged; None if it has not ended
    kept: frozenset[int]  # the steps whose states are there, or will be once it has ended
    goes_first: bool = False  # whether a sweep is at work there, and had its claim before this one


@dataclass(frozen=True)
class DenseChoice:
    """What to do for a dense run: adopt one, wait for one, or (if neither) train it; and why others are no use."""

    adopt: str | None = None
    wait_for: str | None = None
    remarks: tuple[str, ...] = ()


def choose_dense(needed: Sequence[int], offers: Sequence[DenseOffer], patient: bool = True) -> DenseChoice:
    """The dense run to adopt or to wait for.

    Args:
        needed: the steps of the trellis.
        offers: in order of preference.
        patient: False if there is a checkpoint to continue from, so that nothing is waited for.
    """
    useful = [offer for offer in offers if offer.kept.issuperset(needed)]
    done = next((offer.name for offer in useful if offer.status == "done"), None)
    if done is not None:
        return DenseChoice(adopt=done)
    first = next((offer.name for offer in useful if offer.status is None and offer.goes_first and patient), None)
    if first is not None:
        return DenseChoice(wait_for=first)
    return DenseChoice(remarks=tuple(_remark(needed, offer) for offer in offers))


def _remark(needed: Sequence[int], offer: DenseOffer) -> str:
    lost = [f"{step:,}" for step in needed if step not in offer.kept]
    if lost:
        return f"trellis point{'s' if len(lost) > 1 else ''} {', '.join(lost)} not kept in {offer.name}"
    return f"{offer.status or 'not finished'} in {offer.name}"


def adoptable(
    wanted: Mapping[Ticket, str], offered: Mapping[str, Mapping[Ticket, str]]
) -> dict[Ticket, tuple[str, Ticket]]:
    """For each wanted ticket that is offered: the run directory and the name it has there.

    Args:
        wanted: identities by ticket.
        offered: for each run directory the identities of its tickets; the first that has one gives it.
    """
    places: dict[str, tuple[str, Ticket]] = {}
    for name, tickets in offered.items():
        for ticket, identity in tickets.items():
            places.setdefault(identity, (name, ticket))
    return {ticket: places[identity] for ticket, identity in wanted.items() if identity in places}
