"""The outcome of a sweep in a sentence: which ticket wins, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.experiment.sections import Verdict
from lottery.report.levels import Level
from lottery.run.results import DenseResult
from lottery.statistics.seeds import Estimate, estimate
from lottery.tickets.tickets import Ticket


@dataclass(frozen=True)
class Headline:
    """The outcome: a sentence, the rule it was judged by, and the winner if there is one."""

    sentence: str
    rule: str = ""
    winner: Ticket | None = None


def headline(
    dense: Sequence[DenseResult], levels: Sequence[Level], points: Mapping[int, str], verdict: Verdict, order: int = 0
) -> Headline:
    """The headline of a sweep.

    The winner is the chosen ticket of the sparsest level that matches. One seed gives no verdict, so there it is that
    of the sparsest level whose accuracy is within the margin. If there is no such level, it is the most accurate one.

    Args:
        dense: the dense runs that have ended.
        levels: as `levels` made them.
        points: the reset points' names by step.
        order: of images, of the ticket that stands for the winner: one of `tickets.seeds`.
    """
    if not dense:
        return Headline("The dense run has not ended, so there is nothing to compare yet.")
    whole = estimate([result.top1 for result in dense])
    if whole is None:
        bad = next(result for result in dense if result.top1 is None)
        return Headline(f"A dense run {bad.status}: {bad.note}")
    trained = [level for level in levels if level.step is not None and level.best is not None]
    if not trained:
        return Headline(f"The dense network has {_percent(whole)}. No ticket has been trained to its end yet.")
    one = len(dense) == 1
    winners = [level for level in trained if _wins(level, whole, verdict, one)]
    level = min(winners, key=lambda each: each.density) if winners else max(trained, key=_accuracy)
    assert level.step is not None
    winner = Ticket(level.level, level.step, seed=order)
    said = (
        f"with {100 * level.density:.4g}% of the weights, the ticket reset to {points[level.step]} has "
        f"{_percent(level.best)}, the dense network {_percent(whole)}"
    )
    if one:
        return Headline(f"One seed, so not a verdict. {_first(winners)} {said}.", _rule_of_one(verdict), winner)
    sentence = f"Winner: {said}." if winners else f"No ticket is shown to match the dense network. The best: {said}."
    return Headline(sentence, _rule(verdict), winner)


def _wins(level: Level, whole: Estimate, verdict: Verdict, one: bool) -> bool:
    if one:
        return _accuracy(level) >= whole.mean - verdict.margin / 100
    return level.verdict.answer == "matches"


def _first(winners: Sequence[Level]) -> str:
    return "The sparsest ticket within the margin:" if winners else "No ticket is within the margin. The best:"


def _rule(verdict: Verdict) -> str:
    return (
        f"Rule: a ticket matches if it is shown to be less than {verdict.margin:g} points worse than the dense network "
        f"(non-inferiority test paired by seed, corrected for all levels, at {verdict.level:g}); the winner is the "
        "sparsest that does."
    )


def _rule_of_one(verdict: Verdict) -> str:
    return (
        f"Rule: within {verdict.margin:g} points of the dense network (verdict.margin). Several seeds, such as "
        "seeds: [0, 1, 2], give a verdict."
    )


def _accuracy(level: Level) -> float:
    return level.best.mean if level.best is not None else 0.0


def _percent(found: Estimate | None) -> str:
    return "-" if found is None else f"{100 * found.mean:.2f}%"
