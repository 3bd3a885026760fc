"""A snapshot as rich shows it on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lottery.status.schema import Snapshot
from lottery.status.text import columns_within, fault_line, head

_GAP = 1
_FAULTS = 5  # the latest
_STYLES = {"running": "green", "done": "bold green", "stopped": "yellow", "dead": "bold red"}


def table(snapshot: Snapshot, width: int) -> RenderableType:
    """The snapshot for a terminal of this many columns; narrow ones get fewer columns of the table."""
    first, *rest = head(snapshot)
    parts: list[RenderableType] = [Text(first, style=_STYLES[snapshot.state])]
    counts = snapshot.trainings
    bar = ProgressBar(total=max(1, counts.total), completed=counts.done, width=min(width, 60))
    parts.append(Padding(bar, 0))  # a bar alone does not end its line
    parts += map(Text, rest)
    parts += (Text(fault_line(fault), style="red") for fault in snapshot.faults[-_FAULTS:])
    parts += (Text(f"warning: {warned.message}", style="yellow") for warned in snapshot.warnings[-_FAULTS:])
    if snapshot.tasks:
        parts.append(_tasks(snapshot, width))
    return Group(*parts)


def _tasks(snapshot: Snapshot, width: int) -> Table:
    made = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    columns = columns_within(snapshot.tasks, width, _GAP)
    for column in columns:
        made.add_column(column.name, justify="left" if column.is_text else "right", overflow="ellipsis", no_wrap=True)
    for task in snapshot.tasks:
        made.add_row(*(Text(column.cell(task)) for column in columns))
    return made
