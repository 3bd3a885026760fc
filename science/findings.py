"""From accuracies to findings: what is expected, the differences over replicates, and whether they show it. Pure.

A comparison is between two networks with the same seed. Its p is that of the one-sided paired t test of what is
expected, Holm-corrected over the comparisons of the finding. It is *shown* if p is at most LEVEL: 2.5%, the one-sided
level of the two-sided interval of 95% which is given beside it, uncorrected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from lottery.statistics.seeds import Accuracy, estimate, paired_differences
from lottery.statistics.verdicts import holm, non_inferiority_p
from lottery.tickets.tickets import NO_CONTROL
from science.study import Outcome

LEVEL = 0.025
MARGIN = 0.5  # points below which "not worse" holds
DROP = 1.0  # points below the dense network: "equal accuracy" of the comparison of densities
HIGH_SPARSITY = 1 / 16  # the largest density of "high sparsity"

FEWER = 1 / 3  # the largest share of the grid's trainings that a frontier search may need

Unit = Literal["points", "halvings", "levels", "of the grid"]


class Line(msgspec.Struct, frozen=True):
    """A line of the picture: accuracies in percent, by density the values of all replicates."""

    label: str
    points: list[tuple[float, list[float]]]


class Comparison(msgspec.Struct, frozen=True):
    """One network less another, paired by replicate; or a figure of the whole, which is held to a bound, not tested."""

    what: str
    unit: Unit
    margin: float  # expected is a difference above -margin
    differences: list[float | None]  # by rising seed; None if a training did not end
    bound: float | None = None  # expected is, without a test, a figure between -bound and bound
    density: float | None = None  # at which accuracies are compared
    mean: float | None = None
    low: float | None = None  # of the interval of 95%, uncorrected
    high: float | None = None
    p: float | None = None  # one-sided, Holm-corrected over the finding
    shown: bool = False


class Finding(msgspec.Struct, frozen=True):
    """A known answer, and whether it was found again."""

    name: str
    expected: str
    paper: str
    experiments: list[str]
    comparisons: list[Comparison]
    lines: list[Line] = []

    @property
    def verdict(self) -> str:
        """In words."""
        shown = sum(each.shown for each in self.comparisons)
        if shown == len(self.comparisons):
            return "shown"
        return f"shown in {shown} of {len(self.comparisons)} comparisons" if shown else "not shown"


def findings(outcomes: Mapping[str, Outcome]) -> list[Finding]:
    """Every finding whose studies are there, by their names in science.study.STUDIES."""
    makers = (
        (_late_resetting, ("resnet",)),
        (_first_weights, ("resnet",)),
        (_learning_rate, ("resnet", "resnet_learning_rate")),
        (_controls, ("lenet",)),
        (_iterative, ("lenet", "lenet_iterative")),
        (_initialisation, ("lenet_snip", "lenet_synflow", "lenet_random")),
        (_frontier, ("digits", "digits_frontier")),
    )
    return [
        _judged(make(*(outcomes[name] for name in names))) for make, names in makers if outcomes.keys() >= set(names)
    ]


def _late_resetting(resnet: Outcome) -> Finding:
    late, name = resnet.last_reset, resnet.points[resnet.last_reset]
    comparisons = [
        _points(f"reset {name} less reset 0", resnet.top1(level, late), resnet.top1(level, 0), density)
        for level, density in enumerate(resnet.densities)
    ]
    first = resnet.densities[0]
    against_dense = _points(f"reset {name} less dense", resnet.top1(0, late), resnet.dense, first, MARGIN)
    return Finding(
        name="late resetting",
        expected=f"Reset to step {name}, tickets are better than reset to 0; the densest equals the dense network",
        paper="Frankle et al., 2020",
        experiments=[resnet.name],
        comparisons=[*comparisons, against_dense],
        lines=[
            *(_line(f"reset {point}", resnet, step) for step, point in resnet.points.items()),
            _line("reinit", resnet, 0, "reinit"),
            _dense_line(resnet),
        ],
    )


def _first_weights(resnet: Outcome) -> Finding:
    return Finding(
        name="first weights",
        expected="In this network the first weights are worth nothing: new weights are no worse than reset 0",
        paper="Frankle et al., 2020",
        experiments=[resnet.name],
        comparisons=[
            _points("reinit less reset 0", resnet.top1(level, 0, "reinit"), resnet.top1(level, 0), density, MARGIN)
            for level, density in enumerate(resnet.densities)
        ],
    )


def _learning_rate(weights: Outcome, rates: Outcome) -> Finding:
    return Finding(
        name="learning-rate rewinding",
        expected="Learning-rate rewinding does no worse than weight rewinding",
        paper="Renda et al., 2020",
        experiments=[rates.name, weights.name],
        comparisons=[
            _points(
                f"learning rate less weights, to {name}", rates.top1(level, to), weights.top1(level, to), at, MARGIN
            )
            for to, name in rates.points.items()
            for level, at in enumerate(rates.densities)
        ],
        lines=[
            *(_line(f"learning rate to {name}", rates, step) for step, name in rates.points.items()),
            *(_line(f"weights to {name}", weights, step) for step, name in rates.points.items()),
            _dense_line(weights),
        ],
    )


def _controls(lenet: Outcome) -> Finding:
    return Finding(
        name="tickets against controls",
        expected="At high sparsity tickets beat their masks on new weights, and their masks shuffled within layers",
        paper="Frankle and Carbin, 2019; Frankle et al., 2021",
        experiments=[lenet.name],
        comparisons=[
            _points(f"ticket less {control}", lenet.top1(level, 0), lenet.top1(level, 0, control), density)
            for control in ("reinit", "shuffle")
            for level, density in enumerate(lenet.densities)
            if density <= HIGH_SPARSITY
        ],
        lines=[
            _line("ticket", lenet, 0),
            *(_line(control, lenet, 0, control) for control in ("reinit", "shuffle")),
            _dense_line(lenet),
        ],
    )


def _iterative(one_shot: Outcome, iterative: Outcome) -> Finding:
    theirs, ours = (_lowest_densities(each, one_shot.dense) for each in (one_shot, iterative))
    halvings = [_halvings(theirs[seed], ours[seed]) for seed in sorted(one_shot.dense)]
    reached = Comparison(f"density at dense less {DROP:g} point, one-shot over iterative", "halvings", 0.0, halvings)
    return Finding(
        name="iterative pruning",
        expected="Iterative pruning reaches a lower density than one-shot pruning at equal accuracy",
        paper="Frankle and Carbin, 2019",
        experiments=[iterative.name, one_shot.name],
        comparisons=[
            reached,
            *(
                _points("iterative less one-shot", iterative.top1(ours, 0), one_shot.top1(theirs, 0), density)
                for ours, density in enumerate(iterative.densities)
                for theirs, same in enumerate(one_shot.densities)
                if density == same and density <= HIGH_SPARSITY
            ),
        ],
        lines=[_line("iterative", iterative, 0), _line("one-shot", one_shot, 0), _dense_line(one_shot)],
    )


def _initialisation(snip: Outcome, synflow: Outcome, random: Outcome) -> Finding:
    methods = (("SNIP", snip), ("SynFlow", synflow))
    return Finding(
        name="pruning at initialisation",
        expected="Masks of SNIP and SynFlow, made before training, beat random ones",
        paper="Lee et al., 2019; Tanaka et al., 2020",
        experiments=[snip.name, synflow.name, random.name],
        comparisons=[
            _points(f"{label} less random", method.top1(level, 0), random.top1(level, 0), density)
            for label, method in methods
            for level, density in enumerate(random.densities)
        ],
        lines=[*(_line(label, each, 0) for label, each in (*methods, ("random", random))), _dense_line(random)],
    )


def _frontier(grid: Outcome, searched: Outcome) -> Finding:
    answers = searched.frontier or {}
    share = searched.trainings / grid.trainings
    return Finding(
        name="frontier search",
        expected=f"At each reset point it ends within one level of the grid's sparsest ticket that is at most "
        f"{grid.margin:g} points below the dense network, after at most a third of the trainings",
        paper="this suite",
        experiments=[searched.name],
        comparisons=[
            *(
                Comparison(
                    f"search less grid, reset {name}", "levels", 0, [answers[to] - grid_answer(grid, to)], bound=1
                )
                for to, name in grid.points.items()
            ),
            Comparison(f"trainings: {searched.trainings} of {grid.trainings}", "of the grid", 0, [share], bound=FEWER),
        ],
        lines=[*(_line(f"reset {name}", grid, step) for step, name in grid.points.items()), _dense_line(grid)],
    )


def grid_answer(grid: Outcome, step: int) -> int:
    """The sparsest level whose mean difference to the dense network is at least -margin; -1 if there is none.

    Levels are listed by falling density.
    """
    found = -1
    for level in range(len(grid.densities)):
        difference = estimate(paired_differences(grid.top1(level, step), grid.dense))
        if difference is not None and 100 * difference.mean >= -grid.margin:
            found = level
    return found


def lowest_density(densities: Sequence[float], top1: Sequence[Accuracy], least: float) -> float | None:
    """The density down to which accuracy is at least `least`, on straight lines over the logarithm of the density.

    The sparsest one if accuracy never falls below; None if it is below at the densest, or a training did not end.

    Args:
        densities: falling.
        top1: the accuracies there, fractions.
    """
    known = [value for value in top1 if value is not None]
    if len(known) < len(top1) or not known or known[0] < least:
        return None
    for place in range(1, len(known)):
        if known[place] < least:
            share = (known[place - 1] - least) / (known[place - 1] - known[place])
            ends = math.log2(densities[place - 1]), math.log2(densities[place])
            return float(2 ** (ends[0] + share * (ends[1] - ends[0])))
    return densities[-1]


def _halvings(density: float | None, lower: float | None) -> float | None:
    return None if density is None or lower is None else math.log2(density / lower)


def _lowest_densities(outcome: Outcome, dense: Mapping[int, Accuracy]) -> dict[int, float | None]:
    levels = [outcome.top1(level, 0) for level in range(len(outcome.densities))]
    return {
        seed: None
        if top1 is None
        else lowest_density(outcome.densities, [level.get(seed) for level in levels], top1 - DROP / 100)
        for seed, top1 in dense.items()
    }


def _points(
    what: str, first: Mapping[int, Accuracy], second: Mapping[int, Accuracy], density: float, margin: float = 0.0
) -> Comparison:
    """A comparison of accuracies, in points of percent."""
    differences = [None if each is None else 100 * each for each in paired_differences(first, second)]
    return Comparison(what, "points", margin, differences, density=density)


def _judged(finding: Finding) -> Finding:
    """The finding with means, intervals, p values and what is shown."""
    tested = [each for each in finding.comparisons if each.bound is None]
    corrected = iter(holm([_p(each) for each in tested]))
    judged = [
        _bounded(each) if each.bound is not None else _tested(each, next(corrected)) for each in finding.comparisons
    ]
    return msgspec.structs.replace(finding, comparisons=judged)


def _bounded(comparison: Comparison) -> Comparison:
    (figure,) = comparison.differences
    assert figure is not None
    assert comparison.bound is not None
    return msgspec.structs.replace(comparison, mean=round(figure, 6), shown=abs(figure) <= comparison.bound)


def _tested(comparison: Comparison, p: float) -> Comparison:
    found = estimate(comparison.differences)
    return msgspec.structs.replace(
        comparison,
        differences=[None if value is None else round(value, 6) for value in comparison.differences],
        mean=None if found is None else round(found.mean, 6),
        low=None if found is None or found.low is None else round(found.low, 6),
        high=None if found is None or found.high is None else round(found.high, 6),
        p=None if np.isnan(p) else float(f"{p:.4g}"),
        shown=bool(p <= LEVEL),
    )


def _p(comparison: Comparison) -> float:
    """One-sided; nan, which shows nothing, if a training did not end or there are fewer than two replicates."""
    known = [value for value in comparison.differences if value is not None]
    if len(known) < 2 or len(known) < len(comparison.differences):
        return math.nan
    return float(non_inferiority_p(np.array(known) / 100, comparison.margin))


def _line(label: str, outcome: Outcome, step: int, control: str = NO_CONTROL) -> Line:
    points = []
    for level, density in enumerate(outcome.densities):
        known = [round(100 * value, 6) for value in outcome.top1(level, step, control).values() if value is not None]
        if known:
            points.append((density, known))
    return Line(label, points)


def _dense_line(outcome: Outcome) -> Line:
    known = [round(100 * value, 6) for value in outcome.dense.values() if value is not None]
    return Line("dense", [(density, known) for density in outcome.densities])
