"""What came of each mask: the chosen reset point, its gain, the controls and the verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lottery.experiment import sections
from lottery.run.results import DenseResult, TicketResult
from lottery.statistics.images import ImageComparison, compare_images
from lottery.statistics.seeds import Accuracy, Estimate, estimate, paired_differences
from lottery.statistics.verdicts import Verdict, verdicts
from lottery.tickets.controls import is_for_all_levels
from lottery.tickets.tickets import NO_CONTROL

BySeed = dict[int, Accuracy]
# Which images the dense network (None) or a ticket of the only seed gets right, bool [images]; None if it is not known.
Answers = Callable[[TicketResult | None], NDArray[np.bool_] | None]


@dataclass(frozen=True)
class Level:
    """What came of one mask. Accuracies and differences are fractions, over the seeds (replicates); None if not known.

    A training that diverged leaves no mean: one over the seeds that survived would flatter.
    """

    level: int
    density: float
    kept: int  # weights
    resets: int  # reset points that were trained, of which one was chosen
    first: Estimate | None  # accuracy of the ticket that is reset to step 0
    step: int | None  # the chosen reset point; None if no ticket was trained to its end
    best: Estimate | None  # accuracy of the ticket with the chosen reset point
    gain: Estimate | None  # that less `first`, paired by seed
    controls: Mapping[str, Estimate]  # accuracy of each kind of control
    over_controls: Mapping[str, Estimate]  # `best` less that, paired by seed
    verdict: Verdict  # the chosen ticket against the dense network
    images: ImageComparison | None  # of a single seed and ticket: the chosen ticket against the dense network
    gain_images: ImageComparison | None  # of a single seed and ticket: the chosen ticket against `first`


@dataclass(frozen=True)
class _Scores:
    """One level's accuracies by seed."""

    members: Sequence[TicketResult]
    tickets: Mapping[int, BySeed]  # by reset point
    controls: Mapping[str, BySeed]
    step: int | None  # the chosen reset point

    @property
    def best(self) -> BySeed:
        return {} if self.step is None else self.tickets[self.step]


def levels(
    dense: Mapping[int, DenseResult],
    results: Mapping[int, Sequence[TicketResult]],
    verdict: sections.Verdict,
    select: bool = False,
    answers: Answers | None = None,
) -> list[Level]:
    """One row a mask, densest first.

    The chosen reset point has the highest mean accuracy over seeds, of those that were trained on the most seeds; of
    equal ones it is the earliest.

    Args:
        dense: the dense run's result by seed (of a replicate).
        results: those of tickets and controls by seed.
        verdict: the margin and the level of significance.
        select: whether to choose by the accuracy on the selection split.
        answers: used if there is one seed.
    """
    by_level: dict[int, list[tuple[int, TicketResult]]] = defaultdict(list)
    of_all: list[tuple[int, TicketResult]] = []
    for seed, each in results.items():
        for result in each:
            (of_all if is_for_all_levels(result.control) else by_level[result.level]).append((seed, result))
    found = [_scores(members, of_all, select) for _, members in sorted(by_level.items())]
    dense_scores = {seed: result.top1 for seed, result in dense.items()}
    judged = verdicts(
        [_against_dense(scores, dense_scores) for scores in found],
        verdict.margin,
        verdict.level,
        [max(len(scores.tickets), 1) for scores in found],
    )
    single = answers if len(dense) == 1 else None
    return [_level(scores, each, single) for scores, each in zip(found, judged, strict=True)]


def by_seed(members: Iterable[tuple[int, TicketResult]], field: str = "top1") -> BySeed:
    """The accuracy of (seed, result) pairs by seed: the mean over the ticket's own seeds, None if one is not known."""
    values: dict[int, list[Accuracy]] = defaultdict(list)
    for seed, result in members:
        values[seed].append(getattr(result, field))
    means = {seed: estimate(each) for seed, each in values.items()}
    return {seed: None if mean is None else mean.mean for seed, mean in means.items()}


def _scores(
    members: Sequence[tuple[int, TicketResult]], of_all: Sequence[tuple[int, TicketResult]], select: bool
) -> _Scores:
    tickets = [(seed, result) for seed, result in members if result.control == NO_CONTROL]
    controls = [(seed, result) for seed, result in (*members, *of_all) if result.control != NO_CONTROL]
    steps = sorted({result.step for _, result in tickets})
    of_step = {step: [pair for pair in tickets if pair[1].step == step] for step in steps}
    ranks = {
        step: estimate(list(by_seed(pairs, "select_top1" if select else "top1").values()))
        for step, pairs in of_step.items()
    }
    known = {step: rank for step, rank in ranks.items() if rank is not None}
    most = max((rank.count for rank in known.values()), default=0)  # a search tries some points on fewer seeds
    means = {step: rank.mean for step, rank in known.items() if rank.count == most}
    return _Scores(
        [result for _, result in members],
        {step: by_seed(pairs) for step, pairs in of_step.items()},
        {
            name: by_seed(pair for pair in controls if pair[1].control == name)
            for name in sorted({result.control for _, result in controls})
        },
        max(means, key=lambda step: (means[step], -step), default=None),
    )


def _against_dense(scores: _Scores, dense: BySeed) -> list[Accuracy]:
    if scores.step is None and scores.tickets:
        return [None]  # they diverged
    return paired_differences(scores.best, dense)


def _level(scores: _Scores, verdict: Verdict, answers: Answers | None) -> Level:
    first, best = scores.tickets.get(0, {}), scores.best
    gain = paired_differences(best, first)
    controls = {name: estimate(list(each.values())) for name, each in scores.controls.items()}
    over = {name: estimate(paired_differences(best, each)) for name, each in scores.controls.items()}
    one = min(scores.members, key=lambda result: result.control != NO_CONTROL)  # a control may have another mask
    chosen, zero = (_only_ticket(scores.members, step) for step in (scores.step, 0))
    return Level(
        level=one.level,
        density=one.density,
        kept=one.kept,
        resets=len(scores.tickets),
        first=estimate(list(first.values())),
        step=scores.step,
        best=estimate(list(best.values())),
        gain=estimate(gain),
        controls={name: each for name, each in controls.items() if each is not None},
        over_controls={name: each for name, each in over.items() if each is not None},
        verdict=verdict,
        images=_compare(answers, chosen, None) if chosen else None,
        gain_images=_compare(answers, chosen, zero) if chosen and zero and chosen != zero else None,
    )


def _only_ticket(members: Sequence[TicketResult], step: int | None) -> TicketResult | None:
    """The ticket of a reset point; None if there are several with other orders of images, or it did not end."""
    found = [each for each in members if each.control == NO_CONTROL and each.step == step]
    return found[0] if len(found) == 1 and found[0].top1 is not None else None


def _compare(answers: Answers | None, first: TicketResult, second: TicketResult | None) -> ImageComparison | None:
    if answers is None:
        return None
    ours, theirs = answers(first), answers(second)
    return None if ours is None or theirs is None else compare_images(ours, theirs)
