"""What a frontier search has found, as lines of text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lottery.run.origin import Origin
from lottery.run.results import DenseResult, TicketResult
from lottery.run.search_state import SearchState, search_state
from lottery.statistics.seeds import estimate
from lottery.tickets.frontier import Answer
from lottery.tickets.tickets import NO_CONTROL, Ticket, all_tickets

_HEADS = ("reset", "sparsest level", "density", "less dense", "seeds", "told apart", "trained at levels")


def search_lines(
    origin: Origin, replicates: Sequence[tuple[DenseResult | None, Collection[TicketResult]]]
) -> list[str]:
    """A table of the answers of a sweep's search, and what it has left out of the grid; empty if it does not search.

    Args:
        replicates: the results so far, for each of the experiment's seeds.
    """
    if origin.experiment.search == "grid":
        return []
    state = search_state(origin.experiment, origin.timeline.trellis, replicates)
    tickets = all_tickets(origin.experiment, origin.timeline)
    done = [result.ticket for _, results in replicates for result in results]
    return ["", *_answers(state, origin), *_left_out(state.rules.seeds, tickets, done)]


def _answers(state: SearchState, origin: Origin) -> list[str]:
    points = origin.reset_points
    rules = state.rules
    count = f"on {rules.seeds} seeds" if rules.seeds > 1 else "on one seed"
    rows = [_HEADS, *(_row(state, origin, answer, points[answer.step]) for answer in state.search.answers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"search: the sparsest level that is at most {rules.margin:g} points below the dense network, {count}"]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if rules.seeds > 1:
        lines.append(
            "told apart: the levels among which the last one within the margin lies, with a probability of at least "
            f"{1 - rules.level:g}"
        )
    else:
        lines.append("one seed: not a verdict; give seeds, such as [0, 1, 2], to learn how sure this is")
    stopped = [points[answer.step] for answer in state.search.answers if answer.failed]
    if stopped:
        lines.append(f"stopped at reset {', '.join(stopped)}: a ticket failed; the same command tries it again")
    if state.search.missing:
        lines.append(f"the search is not over: {len(state.search.missing)} tickets of its next round are not trained")
    return lines


def _row(state: SearchState, origin: Origin, answer: Answer, name: str) -> tuple[str, ...]:
    levels = [str(state.levels[level]) for level in answer.tried]
    if answer.level is None:
        found = ("none", "-", "-", "-") if answer.is_final else ("-", "-", "-", "-")
    else:
        level = state.levels[answer.level]
        values = answer.tried[answer.level]
        found = (str(level), f"{origin.experiment.masks.levels[level]:.2%}", _points(values), str(len(values)))
    if not answer.is_final:
        found = ("not known yet", *found[1:])
    return (name, *found, _interval(state, answer), ", ".join(levels) or "-")


def _points(values: Sequence[float]) -> str:
    """The mean of differences in points, with its interval if there is one."""
    found = estimate(values)
    if found is None:
        return "-"
    ends = "" if found.interval is None else f" ±{found.interval[1] - found.mean:.2f}"
    return f"{found.mean:+.2f}{ends}"


def _interval(state: SearchState, answer: Answer) -> str:
    """The levels among which the last one within the margin may lie; `none` stands for no level."""
    if state.rules.seeds == 1 or not answer.tried:
        return "-"
    first = -1 if answer.densest is None else answer.densest
    ends = ["none" if level < 0 else str(state.levels[level]) for level in (first, answer.sparsest)]
    return ends[0] if first == answer.sparsest else " to ".join(ends)


def _left_out(seeds: int, tickets: Sequence[Ticket], trained: Sequence[Ticket]) -> list[str]:
    """Lines on how much of the grid was trained."""
    counts = []
    for name, wanted in (("tickets", True), ("controls", False)):
        whole = seeds * sum((ticket.control == NO_CONTROL) is wanted for ticket in tickets)
        done = sum((ticket.control == NO_CONTROL) is wanted for ticket in trained)
        if whole:
            counts.append((done, whole, name))
    lines = [f"trained: {', '.join(f'{done} of {whole} {name}' for done, whole, name in counts)} of the grid"]
    if any(done < whole for done, whole, _ in counts):
        lines.append("the other levels were not trained; --set search=grid trains them too, in the same run directory")
    return lines
