"""Who trained what when: the gang's timeline, from the telemetry of its processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lottery.run.results import TicketResult
from lottery.run.run_directory import DENSE

_BREAK = 900.0  # seconds without any training after which nobody was at work; shorter gaps are time that was lost
_SAME_PROCESS = 5.0  # seconds between two rows of one process at most: rows are measured and stamped apart


@dataclass(frozen=True)
class Span:
    """A process at work: it trained a bundle from `begin` to `end`, seconds since 1970."""

    replicate: int
    bundle: str  # the name of its first training
    trainings: int | None  # in the bundle; None if not known
    executor: str  # address; empty if not known
    task: int | None  # None if not known
    begin: float
    end: float
    again: bool = False  # whether it went on with a bundle that an earlier process had left

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin

    @property
    def is_dense(self) -> bool:
        """Whether it is of the dense run."""
        return self.bundle == DENSE

    @property
    def work(self) -> str:
        """What it trained, for people."""
        others = 0 if self.trainings is None else self.trainings - 1
        return f"{self.bundle} and {others} more" if others > 0 else self.bundle

    @property
    def place(self) -> str:
        """Its task and executor, for people."""
        task = "task ?" if self.task is None else f"task {self.task}"
        return f"{task} on {self.executor}" if self.executor else task


def spans(
    replicate: int, telemetry: Mapping[str, Sequence[Mapping[str, Any]]], results: Iterable[TicketResult]
) -> list[Span]:
    """The spans of a replicate, by their beginning.

    Args:
        telemetry: rows by bundle, each of the time since the one before it. Rows of earlier versions do not say who
            wrote them; the bundle's first training does, if it has a result.
    """
    ended = {result.ticket.name: result for result in results}
    found: list[Span] = []
    for bundle, rows in telemetry.items():
        result, last = ended.get(bundle), None
        for row in sorted(rows, key=lambda row: float(row["time"])):
            end = float(row["time"])
            span = Span(
                replicate,
                bundle,
                row.get("trainings"),
                str(row.get("executor") or (result.executor if result else "")),
                row.get("task", result.task if result else None),
                end - float(row["seconds"]),
                end,
                again=last is not None,
            )
            if last is not None and _is_same_process(last, span):
                last = replace(last, end=span.end)
                found[-1] = last
            else:
                last = span
                found.append(span)
    return sorted(found, key=lambda span: (span.begin, span.bundle))


def _is_same_process(last: Span, span: Span) -> bool:
    return last.place == span.place and abs(span.begin - last.end) <= _SAME_PROCESS


class Clock:
    """Time since the sweep began, without the breaks in which nobody was at work."""

    def __init__(self, intervals: Iterable[tuple[float, float]]) -> None:
        """Takes the begin and end of all work, seconds since 1970."""
        self._shifts: list[tuple[float, float]] = []  # (end of a break, seconds to take off from there on)
        self.breaks: list[tuple[float, float]] = []  # (elapsed seconds, how long nobody was at work)
        self.total = 0.0  # seconds that the sweep was at work
        latest: float | None = None
        off = 0.0
        for begin, end in sorted(intervals):
            if latest is None:
                off = begin
                self._shifts.append((begin, off))
            elif begin - latest > _BREAK:
                self.breaks.append((latest - off, begin - latest))
                off += begin - latest
                self._shifts.append((begin, off))
            latest = end if latest is None else max(latest, end)
            self.total = latest - off

    def elapsed(self, moment: float) -> float:
        """Seconds of work before a moment (seconds since 1970)."""
        off = next((off for begin, off in reversed(self._shifts) if moment >= begin), None)
        if off is not None:
            return min(moment - off, self.total)
        return 0.0


@dataclass(frozen=True)
class Speedup:
    """How much faster a gang was than one task would have been, as measured."""

    tasks: int  # the most that were at work at once
    busy: float  # seconds, of all tasks together
    wall: float  # seconds from the first to the last, without breaks

    @property
    def speedup(self) -> float:
        """S: how long one task would have taken, at the tasks' own speed, to how long the gang took."""
        return self.busy / self.wall

    @property
    def efficiency(self) -> float:
        """E: the speedup per task."""
        return self.speedup / self.tasks


def speedup(found: Sequence[Span]) -> Speedup | None:
    """The speedup over these spans, such as those of all tickets; None if there are none."""
    wall = Clock((span.begin, span.end) for span in found).total
    if wall <= 0:
        return None
    edges = sorted([(span.begin, 1) for span in found] + [(span.end, -1) for span in found])
    at_work = most = 0
    for _, change in edges:
        at_work += change
        most = max(most, at_work)
    return Speedup(most, sum(span.seconds for span in found), wall)
