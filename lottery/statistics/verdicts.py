"""Whether tickets match the dense network: non-inferiority tests paired by seed, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lottery.statistics.seeds import Accuracy, Estimate, estimate, is_constant

Answer = Literal["matches", "worse", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of one level's ticket against the dense network."""

    answer: Answer | None  # None: no verdict
    why: str  # why there is no verdict; empty if there is one
    difference: Estimate | None  # ticket less dense, a fraction, with its uncorrected interval; None as `estimate` is
    p_matches: float | None  # corrected p of "at least `margin` worse"; small: the ticket matches
    p_worse: float | None  # corrected p of "at most `margin` worse"; small: it is shown to be worse than that


def non_inferiority_p(differences: ArrayLike, margin: float) -> NDArray[np.float64]:
    """One-sided p of the paired t test of "on average, the ticket is worse by `margin` or more".

    A small p shows that the ticket is at most `margin` worse: that it matches. To show the contrary, negate both
    arguments.

    Args:
        differences: ticket less dense, float [..., seeds], fractions; at least two seeds.
        margin: points of accuracy (percent).

    Returns:
        float [...]; nan for differences that are all equal, which give no measure of chance.
    """
    values = np.asarray(differences, np.float64)
    constant = np.ptp(values, axis=-1) < 1e-12
    with np.errstate(all="ignore"):
        found = stats.ttest_1samp(values, -margin / 100, axis=-1, alternative="greater").pvalue
    return np.where(constant, np.nan, found)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values [tests], corrected by Holm's method; of families, at most a share p has a true hypothesis at or below p.

    nan stays nan. It counts as a test all the same, so that a level without a verdict makes no other one easier.
    """
    given = np.asarray(p_values, np.float64)
    if not given.size:
        return given
    corrected = multipletests(np.where(np.isnan(given), 1.0, given), method="holm")[1]
    return np.where(np.isnan(given), np.nan, corrected)


def verdicts(
    levels: Sequence[Sequence[Accuracy]], margin: float, level: float, choices: Sequence[int] | None = None
) -> list[Verdict]:
    """One verdict for each level of density, Holm-corrected over all of them.

    *matches*: shown to be at most `margin` worse than the dense network. *worse*: shown to be more than that worse.
    *undecided*: neither, so more seeds are needed. In a family of levels, the chance of one or more false *matches* is
    at most `level`; the same holds of false *worse*.

    There is no verdict on a level with fewer than two seeds, with a training that did not end (never a better one), or
    with differences that are all equal.

    Args:
        levels: for each level the differences of `paired_differences`, fractions.
        margin: points of accuracy (percent), positive.
        level: of significance, such as 0.05.
        choices: for each level, from how many tickets the one that is judged was chosen by its accuracy; by default 1.
            Its p is multiplied by this. Choosing on another split does not make this needless: a training that had luck
            is good on both splits.
    """
    tried = [1] * len(levels) if choices is None else list(choices)
    problems = [_no_verdict(differences) for differences in levels]

    def corrected(sign: int) -> NDArray[np.float64]:
        found = [
            np.nan if why else float(non_inferiority_p(sign * np.array(differences, np.float64), sign * margin))
            for differences, why in zip(levels, problems, strict=True)
        ]
        return holm(np.minimum(np.array(found, np.float64) * tried, 1.0))

    judged = zip(levels, problems, corrected(1), corrected(-1), strict=True)
    return [
        Verdict(None, why, estimate(differences), None, None)
        if why
        else Verdict(_answer(matches, worse, level), "", estimate(differences), float(matches), float(worse))
        for differences, why, matches, worse in judged
    ]


def _answer(p_matches: float, p_worse: float, level: float) -> Answer:
    if p_matches <= level:
        return "matches"
    return "worse" if p_worse <= level else "undecided"


def _no_verdict(differences: Sequence[Accuracy]) -> str:
    known = [difference for difference in differences if difference is not None]
    if not differences:
        return "not trained"
    if len(known) < len(differences):
        return "a training did not end"
    if len(known) == 1:
        return "one seed: not a verdict"
    if is_constant(known):
        return "all seeds differ by the same: no measure of chance"
    return ""
