"""The frontier search: at each reset point, the sparsest level that still does as well as the dense network.

A level is *within the margin* if its mean difference to the dense network over the seeds, paired by seed, is at least
-margin. The search bisects the levels of each reset point, all of them in the same rounds. A round depends only on the
results of the rounds before it, so that it is the same however often the search was interrupted, and whatever else is
trained. Pure functions.

- A level is tried on one seed (in the first round on two, which shows how much seeds differ). If it is not far from the
  margin, it is tried on 2, 4, 8, ... of the seeds before the bisection goes on.
- Far is told by a t test, with the spread pooled over levels and reset points. Its level is divided by all the looks
  that the bisection of a reset point can take: the probability that any of them errs is at most `Rules.level`.
- The answer and the next sparser level, which is outside the margin, are tried on all seeds before the search ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

# Ticket less dense network, in points, of one seed after another; -inf if the ticket diverged.
Differences = tuple[float, ...]

# Dense networks and tickets vary about as much, so two differences that share a dense run correlate by 1/2.
_CORRELATION = 0.5
_COLLAPSED = 5.0  # points below the margin, where seeds differ by ten and tell nothing of those near it


@dataclass(frozen=True, order=True)
class Probe:
    """What a round asks for: the ticket of a reset point and a level, in one replicate."""

    step: int
    level: int
    replicate: int  # index


@dataclass(frozen=True)
class Rules:
    """What a search is held to."""

    levels: int  # densest first
    seeds: int
    margin: float  # how many points below the dense network still do
    level: float  # the chance that any early decision on a reset point is wrong, at most
    image: float = 0.0  # points that one image of the evaluation split counts; no spread is taken to be smaller

    @property
    def most_probes(self) -> int:
        """How many levels the bisection of a reset point tries, at most."""
        return self.levels.bit_length()

    @property
    def fewest_probes(self) -> int:
        """How many levels the bisection of a reset point tries, at least."""
        return (self.levels + 1).bit_length() - 1

    @property
    def looks(self) -> tuple[int, ...]:
        """On how many seeds a level is tried, until it is far from the margin: 1, 2, 4, ..., all."""
        return (*(2**power for power in range((self.seeds - 1).bit_length())), self.seeds)

    @property
    def error(self) -> float:
        """The probability of a wrong decision that one look may have."""
        return self.level / (self.most_probes * len(self.looks))

    @property
    def bounds(self) -> tuple[int, int]:
        """How many tickets are trained for a reset point, at least (unless they diverge) and at most.

        More only if a level that was far from the margin turns out on all seeds to be on its other side.
        """
        others = min(self.seeds, 2) + self.fewest_probes - 2 if self.fewest_probes > 1 else 0
        return self.seeds + others, self.most_probes * self.seeds


@dataclass(frozen=True)
class Answer:
    """What is known of a reset point: its frontier lies between two levels that were tried."""

    step: int
    level: int | None  # the sparsest that was tried and is within the margin; None if none is
    beyond: int | None  # the next sparser one that was tried, and is outside; None if there is none
    densest: int | None  # the sparsest level that is told to be within the margin; None if none is
    sparsest: int  # the last level before the first that is told to be outside; -1 if that is level 0
    tried: Mapping[int, Differences]  # by level; fewer values than seeds if it is far from the margin
    is_final: bool
    failed: bool  # whether a training failed, so that the search of this reset point has stopped


@dataclass(frozen=True)
class Search:
    """How far a search has got."""

    rounds: int  # that are over
    asked: tuple[Probe, ...]  # of the next round
    missing: tuple[Probe, ...]  # those of them that have no result; without any, the search is over
    answers: tuple[Answer, ...]  # one for each reset point
    failed: tuple[Probe, ...]  # those of the rounds that are over whose training failed


def search(rules: Rules, steps: Sequence[int], results: Mapping[Probe, float | None]) -> Search:
    """Goes through the rounds until one lacks a result; results that no round asks for are not looked at.

    Args:
        steps: the reset points.
        results: ticket less dense network, in points; -inf for a ticket that diverged, which is thus outside the
            margin; None for one that failed.
    """
    tried: dict[int, dict[int, Differences]] = {step: {} for step in steps}
    failed: dict[int, list[Probe]] = {}
    rounds = 0
    while True:
        active = [step for step in steps if step not in failed]
        asked = tuple(_round(rules, {step: tried[step] for step in active}, _noise(rules, tried)))
        missing = tuple(probe for probe in asked if probe not in results)
        if missing or not asked:
            break
        for probe in asked:
            difference = results[probe]
            if difference is None:
                failed.setdefault(probe.step, []).append(probe)
            else:
                cell = tried[probe.step].get(probe.level, ())
                tried[probe.step][probe.level] = (*cell, difference)
        rounds += 1
    waits = {probe.step for probe in asked}
    noise = _noise(rules, tried)
    answers = (_answer(rules, step, tried[step], noise, step not in waits, step in failed) for step in steps)
    failures = tuple(probe for probes in failed.values() for probe in probes)
    return Search(rounds, asked, missing, tuple(answers), failures)


@dataclass(frozen=True)
class _Noise:
    """How much the differences of one level vary over seeds."""

    deviation: float  # points
    freedom: float  # of the t test

    def tells(self, cell: Differences, margin: float, error: float) -> bool:
        """Whether seeds tell on which side of the margin a level is, with at most this probability of an error."""
        quantile = -float(stdtrit(self.freedom, error))
        return abs(_mean(cell) + margin) * math.sqrt(len(cell)) >= quantile * self.deviation


def _noise(rules: Rules, tried: Mapping[int, Mapping[int, Differences]]) -> _Noise | None:
    """The spread pooled over levels and reset points; None as long as none was tried on two seeds.

    The degrees of freedom are Satterthwaite's (1946), since differences of one replicate share its dense run.
    """
    cells = [cell for levels in tried.values() for cell in levels.values() if len(cell) > 1 and not _diverged(cell)]
    near = [cell for cell in cells if _mean(cell) > -rules.margin - _COLLAPSED]
    if not cells:
        return None
    freedoms, squares = [], 0.0
    for cell in near or cells:
        mean = _mean(cell)
        freedoms.append(len(cell) - 1)
        squares += sum((value - mean) ** 2 for value in cell)
    total = sum(freedoms)
    shared = sum(free * (2 * above + 1) for above, free in enumerate(sorted(freedoms, reverse=True)))
    deviation = max(math.sqrt(squares / total), rules.image, 1e-9)
    return _Noise(deviation, total**2 / (total + _CORRELATION**2 * (shared - total)))


def _round(rules: Rules, tried: Mapping[int, Mapping[int, Differences]], noise: _Noise | None) -> list[Probe]:
    """The trainings of the next round; none if all reset points have their answer."""
    return [
        Probe(step, level, replicate)
        for step, levels in tried.items()
        for level, seeds in _wanted(rules, levels, noise).items()
        for replicate in range(len(levels.get(level, ())), seeds)
    ]


def _wanted(rules: Rules, levels: Mapping[int, Differences], noise: _Noise | None) -> dict[int, int]:
    """The levels of a reset point to try next, and each one's number of seeds."""
    if not levels:
        return {(rules.levels - 1) // 2: min(rules.seeds, 2)}
    below, above = _bracket(rules, levels)
    more = {}
    for level in (below, above):
        cell = levels.get(level, ())
        if not cell or len(cell) == rules.seeds or _diverged(cell):
            continue
        if above - below == 1:
            more[level] = rules.seeds
        elif noise is None or not noise.tells(cell, rules.margin, rules.error):
            more[level] = next(look for look in rules.looks if look > len(cell))
    if more or above - below == 1:
        return more
    return {(below + above) // 2: 1}


def _bracket(rules: Rules, levels: Mapping[int, Differences]) -> tuple[int, int]:
    """The sparsest level within the margin and the next that was tried; -1 and the number of levels if there is none.

    It is the cut at which the sum of all differences above -margin is largest. So the answer is that of an isotonic
    regression, and one level that is out of order by chance does not decide.
    """
    order = sorted(levels)
    total, best, cut = 0.0, 0.0, -1
    for level in order:
        total += sum(levels[level]) + len(levels[level]) * rules.margin
        if total >= best - 1e-9:
            best, cut = max(best, total), level
    return cut, next((level for level in order if level > cut), rules.levels)


def _answer(
    rules: Rules,
    step: int,
    levels: Mapping[int, Differences],
    noise: _Noise | None,
    is_final: bool,
    failed: bool,
) -> Answer:
    if not levels:
        return Answer(step, None, None, None, rules.levels - 1, {}, False, failed)
    below, above = _bracket(rules, levels)
    error = rules.level / rules.most_probes
    told = [
        level
        for level, cell in levels.items()
        if _diverged(cell) or (noise is not None and noise.tells(cell, rules.margin, error))
    ]
    within = [level for level in told if level <= below and _mean(levels[level]) >= -rules.margin]
    outside = [level for level in told if level >= above and _mean(levels[level]) < -rules.margin]
    return Answer(
        step,
        level=below if below >= 0 else None,
        beyond=above if above < rules.levels else None,
        densest=max(within, default=None),
        sparsest=min(outside, default=rules.levels) - 1,
        tried=dict(sorted(levels.items())),
        is_final=is_final and not failed,
        failed=failed,
    )


def _diverged(cell: Differences) -> bool:
    return -math.inf in cell


def _mean(cell: Differences) -> float:
    return sum(cell) / len(cell)
