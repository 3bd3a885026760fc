"""How the dense run and each ticket ended, as saved and reported."""

from __future__ import annotations

import msgspec

from lottery.experiment.config import Experiment
from lottery.experiment.steps import Timeline
from lottery.tickets import masks
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import Ticket


class DenseResult(msgspec.Struct, frozen=True):
    """How the dense run ended, and the size of its model."""

    status: str  # done or diverged
    note: str  # why it diverged or failed, or a remark
    top1: float | None
    top5: float | None
    loss: float | None
    evaluated: int  # images of the evaluation split
    steps: int
    seconds: float
    parameters: int
    prunable: int
    executors: int = 1  # that trained it together
    select_top1: float | None = None  # on the split on which the best reset point is chosen, if there is one
    select_top5: float | None = None
    select_loss: float | None = None
    select_images: int = 0  # of that split


class TicketResult(msgspec.Struct, frozen=True):
    """How one ticket or control ended: a row of results.parquet."""

    level: int
    density: float  # of its level; 1 if it is compared with every level
    kept: int  # weights that the mask keeps
    prunable: int  # weights of its network that could be pruned
    step: int  # reset step
    epoch: float  # the same in epochs
    control: str
    seed: int
    status: str  # done, diverged or failed
    note: str  # why it diverged or failed, or a remark
    top1: float | None
    top5: float | None
    loss: float | None
    steps: int  # trained
    seconds: float
    executor: str
    task: int
    select_top1: float | None = None  # on the split on which the best reset point is chosen, if there is one
    select_top5: float | None = None
    select_loss: float | None = None

    @property
    def ticket(self) -> Ticket:
        """The ticket whose result this is."""
        return Ticket(self.level, self.step, self.control, self.seed)


def unstarted(ticket: Ticket, predecessor: TicketResult, config: Experiment, *, status: str, note: str) -> TicketResult:
    """The result of a ticket that has no mask, as the round before it (or that one's network) gives none."""
    density = config.masks.levels[ticket.level]
    return msgspec.structs.replace(
        predecessor,
        level=ticket.level,
        control=ticket.control,
        density=density,
        kept=masks.kept_weights(density, predecessor.prunable),
        status=status,
        note=note,
        top1=None,
        top5=None,
        loss=None,
        select_top1=None,
        select_top5=None,
        select_loss=None,
        steps=0,
        seconds=0.0,
    )


def ticket_result(
    ticket: Ticket,
    config: Experiment,
    line: Timeline,
    mask: masks.Mask,
    *,
    status: str,
    note: str,
    executor: str,
    task: int,
    top1: float | None = None,
    top5: float | None = None,
    loss: float | None = None,
    select_top1: float | None = None,
    select_top5: float | None = None,
    select_loss: float | None = None,
    steps: int = 0,
    seconds: float = 0.0,
) -> TicketResult:
    """The result of a ticket: what was measured, and what follows from the ticket and its mask."""
    empty = masks.empty_kernels(mask)
    return TicketResult(
        level=ticket.level,
        density=1.0 if is_for_all_levels(ticket.control) else config.masks.levels[ticket.level],
        kept=masks.kept(mask),
        prunable=sum(kernel.size for kernel in mask.values()),
        step=ticket.step,
        epoch=line.epoch(ticket.step),
        control=ticket.control,
        seed=ticket.seed,
        status=status,
        note="; ".join(filter(None, [note, f"no weights left in {', '.join(empty)}" if empty else ""])),
        top1=top1,
        top5=top5,
        loss=loss,
        select_top1=select_top1,
        select_top5=select_top5,
        select_loss=select_loss,
        steps=steps,
        seconds=round(seconds, 3),
        executor=executor,
        task=task,
    )
