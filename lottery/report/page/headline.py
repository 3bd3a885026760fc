"""The outcome of a sweep in a sentence: which ticket wins, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.report.publish import Level, standard_error
from lottery.run.results import DenseResult
from lottery.tickets.tickets import Ticket


@dataclass(frozen=True)
class Headline:
    """The outcome: a sentence, the rules it was judged by, and the winner if there is one."""

    sentence: str
    rules: tuple[str, ...] = ()
    winner: Ticket | None = None


def headline(dense: DenseResult | None, levels: Sequence[Level], points: Mapping[int, str], seeds: int) -> Headline:
    """The headline of a sweep with these levels, densest first.

    The winner is the best ticket of the sparsest level that matches; if none does, the best of all tickets.
    """
    if dense is None:
        return Headline("The dense run has not ended, so there is nothing to compare yet.")
    if dense.top1 is None:
        return Headline(f"The dense run {dense.status}: {dense.note}")
    trained = [level for level in levels if level.step is not None and level.top1 is not None]
    if not trained:
        return Headline(f"The dense network has {_percent(dense.top1)}. No ticket has been trained to its end yet.")
    matching = [level for level in trained if level.matches]
    level = matching[-1] if matching else max(trained, key=lambda each: each.top1 or 0.0)
    assert level.step is not None
    assert level.top1 is not None
    said = (
        f"the ticket reset to {points[level.step]} has {_percent(level.top1)}, the dense network {_percent(dense.top1)}"
    )
    sentence = (
        f"Winner: with {100 * level.density:.4g}% of the weights, {said}."
        if matching
        else f"No ticket matches the dense network. The best: with {100 * level.density:.4g}% of the weights, {said}."
    )
    one = " One seed: not a verdict on the method." if seeds == 1 else ""
    rule = (
        "Rule: a ticket matches if its accuracy is at most one standard error of the dense accuracy "
        f"({100 * standard_error(dense):.2f} points) below it; the winner is the sparsest that does.{one}"
    )
    return Headline(sentence, (rule,), Ticket(level.level, level.step))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"
