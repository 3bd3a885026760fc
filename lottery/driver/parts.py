"""In which parts a sweep is done: at once, or in the rounds of a search."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lottery.driver.prepare import Sweep
from lottery.run.search_state import SearchState, read_search
from lottery.tickets.tickets import NO_CONTROL, Training

logger = logging.getLogger(__name__)


def next_part(sweep: Sweep) -> Sweep | None:
    """What is to be done next: all of a sweep, or the next round of its search. None: nothing is left."""
    if sweep.experiment.search == "grid":
        return None if is_finished(sweep) else sweep
    state = state_of(sweep)
    part = round_of(sweep, state, sweep.trainings_left())
    if part is not None:
        logger.info(round_line(part, state))
    return part


def is_finished(sweep: Sweep) -> bool:
    """Whether nothing is left of a sweep, or of a part of one."""
    if sweep.experiment.search == "frontier" and sweep.asked is None:
        return round_of(sweep, state_of(sweep), sweep.trainings_left()) is None
    return not sweep.dense_runs_left() and not sweep.trainings_left()


def to_retry(sweep: Sweep) -> list[Training]:
    """The failed trainings that are tried again: all of them, or those that the search has asked for."""
    failed = sweep.trainings_failed()
    if sweep.experiment.search == "grid" or not failed:
        return failed
    state = state_of(sweep)
    wanted = {*state.trainings((*state.search.failed, *state.search.missing)), *state.controls(sweep.tickets)}
    return [training for training in failed if training in wanted]


def state_of(sweep: Sweep, retries: bool = False) -> SearchState:
    """How far the search of a sweep has got; see `read_search`."""
    runs = [replicate.run for replicate in sweep.replicates]
    return read_search(sweep.experiment, sweep.timeline.trellis, runs, retries)


def round_of(sweep: Sweep, state: SearchState, left: Iterable[Training]) -> Sweep | None:
    """The sweep with only what the next round of its search asks for; at the end, the controls. None: all is done.

    `left` are the trainings of the sweep that have no result.
    """
    missing = state.trainings(state.search.missing)
    if missing:
        return sweep.asking(missing)
    wanted = set(state.controls(sweep.tickets))
    controls = [training for training in left if training in wanted]
    return sweep.asking(controls) if controls else None


def round_line(part: Sweep, state: SearchState) -> str:
    """A line on a round."""
    asked = part.asked or frozenset()
    count = f"{len(asked)} training{'s' if len(asked) > 1 else ''}"
    if not state.search.missing:
        return f"search: {count} of controls, for its answers"
    points = len({training.ticket.step for training in asked})
    return f"search: round {state.search.rounds + 1}, {count} at {points} reset point{'s' if points > 1 else ''}"


def cost_line(sweep: Sweep, state: SearchState) -> str:
    """A line on how much of the grid a search trains in all."""
    points, seeds = len(sweep.timeline.trellis), len(sweep.experiment.tickets.seeds)
    tickets = sum(ticket.control == NO_CONTROL for ticket in sweep.tickets)
    grid = tickets * state.rules.seeds
    least, most = (min(points * seeds * count, grid) for count in state.rules.bounds)
    line = f"search: {least:,} to {most:,} of the grid's {grid:,} tickets ({least / grid:.0%} to {most / grid:.0%})"
    if len(sweep.tickets) > tickets:
        kinds = len({ticket.control for ticket in sweep.tickets}) - 1
        controls = (len(sweep.tickets) - tickets) * state.rules.seeds
        most = min(points * seeds * kinds * state.rules.seeds, controls)
        line += f", and at most {most:,} of its {controls:,} controls"
    return line
