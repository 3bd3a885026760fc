"""The columns of the page's table of tickets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lottery.report.record.ticket_rows import TicketRow


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what its column is sorted by: a number as text, or empty if there is none."""

    text: str
    value: str = ""


@dataclass(frozen=True)
class Column:
    """A column: `head` is short, `title` explains it. Columns of numbers are sorted by their values."""

    name: str
    head: str
    title: str
    cell: Callable[[TicketRow], Cell]
    number: bool = True


def _text(text: Callable[[TicketRow], str]) -> Callable[[TicketRow], Cell]:
    return lambda row: Cell(text(row))


def _number(value: Callable[[TicketRow], float | None], form: str) -> Callable[[TicketRow], Cell]:
    def cell(row: TicketRow) -> Cell:
        found = value(row)
        return Cell("", "") if found is None else Cell(format(found, form), repr(found))

    return cell


def _level(row: TicketRow) -> Cell:
    return Cell("all", "-1") if row.level is None else Cell(str(row.level), str(row.level))


def _percent(value: Callable[[TicketRow], float | None], form: str = ".4g") -> Callable[[TicketRow], Cell]:
    def scaled(row: TicketRow) -> float | None:
        found = value(row)
        return None if found is None else 100 * found

    return _number(scaled, form)


_REPLICATE = Column(
    "replicate", "seed", "the replicate: the seed of everything", _number(lambda row: row.replicate, "d")
)
_ORDER = Column(
    "order", "order", "the seed of its order of images within the replicate", _number(lambda row: row.result.seed, "d")
)
_COLUMNS = (
    Column("level", "level", "which mask, the densest first", _level),
    Column("kind", "kind", "a ticket, or the kind of control", _text(lambda row: row.kind), number=False),
    Column(
        "reset",
        "reset to",
        "the point of the trellis that its weights are reset to",
        lambda row: Cell(row.point, str(row.result.step)),
    ),
    Column("asked", "asked %", "the density that the experiment asks for", _percent(lambda row: row.result.density)),
    Column("realised", "kept %", "the density that its mask has", _percent(lambda row: row.realised)),
    Column("kept", "weights", "how many weights its mask keeps", _number(lambda row: row.result.kept, ",d")),
    Column("layers", "layers", "what its mask keeps in each layer", _text(lambda row: row.layers), number=False),
    Column("top1", "top-1 %", "images whose first guess is right", _percent(lambda row: row.result.top1, ".2f")),
    Column(
        "top5", "top-5 %", "images that are among the first five guesses", _percent(lambda row: row.result.top5, ".2f")
    ),
    Column("loss", "loss", "mean loss on the evaluation split", _number(lambda row: row.result.loss, ".4g")),
    Column("steps", "steps", "how many steps it trained", _number(lambda row: row.result.steps, ",d")),
    Column("seconds", "seconds", "how long its own steps took", _number(lambda row: row.result.seconds, ",.1f")),
    Column("status", "status", "done, diverged or failed", _text(lambda row: row.result.status), number=False),
    Column("executor", "executor", "where it was trained", _text(lambda row: row.result.executor), number=False),
    Column("note", "note", "why it ended, or a remark", _text(lambda row: row.result.note), number=False),
)


def columns(rows: list[TicketRow]) -> list[Column]:
    """The columns that tell these rows apart."""
    several = len({row.replicate for row in rows}) > 1
    orders = len({row.result.seed for row in rows}) > 1
    return [*([_REPLICATE] if several else []), *([_ORDER] if orders else []), *_COLUMNS]
