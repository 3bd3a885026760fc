"""The report's table: a row per ticket and control that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lottery.report.record.reading import has_level_mask
from lottery.report.record.sweep_record import ReplicateRecord, SweepRecord, mask_key
from lottery.run.results import TicketResult
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL


@dataclass(frozen=True)
class TicketRow:
    """A row. Numbers are as in `TicketResult`; texts are not escaped."""

    name: str  # of its folder
    replicate: int
    result: TicketResult
    kind: str  # "ticket", or the control's name
    point: str  # its reset point, as the experiment names it
    level: int | None  # None if it is compared with every level
    realised: float  # the density that its mask has
    layers: str  # names an entry of `layer_table`; empty if its mask has none


def ticket_rows(record: SweepRecord, points: Mapping[int, str]) -> list[TicketRow]:
    """The rows by replicate and ticket."""
    return [_row(each, result, record, points) for each in record.replicates for result in each.results]


def layer_table(record: SweepRecord) -> dict[str, list[tuple[str, int, int]]]:
    """Of each mask that rows name: (kernel, weights kept, of how many), by kernel."""
    return {
        _layers_name(each.seed, key): [(kernel, kept, size) for kernel, (kept, size) in layers.items()]
        for each in record.replicates
        for key, layers in each.layers.items()
    }


def _row(each: ReplicateRecord, result: TicketResult, record: SweepRecord, points: Mapping[int, str]) -> TicketRow:
    key = mask_key(result.ticket, record.origin.experiment.masks.of_dense_run)
    return TicketRow(
        name=result.ticket.name,
        replicate=each.seed,
        result=result,
        kind="ticket" if result.control == NO_CONTROL else result.control,
        point=points.get(result.step, str(result.step)),
        level=None if is_for_all_levels(result.control) else result.level,
        realised=result.kept / result.prunable if result.prunable else 0.0,
        layers=_layers_name(each.seed, key) if key in each.layers and has_level_mask(result.control) else "",
    )


def _layers_name(replicate: int, key: tuple[int, ...]) -> str:
    return "-".join(map(str, (replicate, *key)))
