"""Intervals, verdicts and paired tests, and the verdicts' error rates by simulation."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import TTestPower

from lottery.statistics.images import compare_images
from lottery.statistics.seeds import Estimate, estimate, paired_differences
from lottery.statistics.verdicts import holm, non_inferiority_p, verdicts

MARGIN = 0.5  # points
SPREAD = 0.004  # standard deviation of a difference over seeds, a fraction
LEVEL = 0.05
DRAWS = 2_000
ERROR = math.sqrt(LEVEL * (1 - LEVEL) / DRAWS)  # standard error of an error rate that is LEVEL


@pytest.fixture(autouse=True, scope="module")
def fast_holm() -> Iterator[None]:
    """statsmodels' Holm collects garbage each time, which takes longer the more objects there are to visit."""
    gc.freeze()
    yield
    gc.unfreeze()


def noise(*shape: int, seed: int) -> NDArray[np.float64]:
    return SPREAD * np.random.default_rng(seed).standard_normal(shape)


def false_matches(differences: NDArray[np.float64], choices: int = 1) -> float:
    """The share of draws in which a level or more matches. `differences` is [draws, levels, seeds]."""
    p_values = np.minimum(non_inferiority_p(differences, MARGIN) * choices, 1.0)
    return float(np.mean([holm(family).min() <= LEVEL for family in p_values]))


def chosen(values: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reset point whose mean over seeds is best: [draws, levels, seeds] of [draws, levels, resets, seeds]."""
    best = by.mean(axis=-1).argmax(axis=-1)
    found: NDArray[np.float64] = np.take_along_axis(values, best[..., None, None], axis=2)[:, :, 0]
    return found


def two_splits(luck: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences of 3 levels x 5 reset points x 5 seeds on two splits, all truly worse by the margin.

    `luck` is the share of the variance that belongs to the training, not to a split's images: both splits see it.
    """
    trained = math.sqrt(luck) * noise(DRAWS, 3, 5, 5, seed=seed)
    first, second = (math.sqrt(1 - luck) * noise(DRAWS, 3, 5, 5, seed=seed + each) for each in (1, 2))
    return trained + first - MARGIN / 100, trained + second - MARGIN / 100


def test_the_estimate_is_that_of_the_t_distribution() -> None:
    found = estimate([0.70, 0.72, 0.74])
    assert found is not None
    assert (found.count, found.mean, found.deviation) == (3, pytest.approx(0.72), pytest.approx(0.02))
    # By hand: 4.3027 is the 97.5% quantile of t with 2 degrees of freedom.
    assert found.interval == (pytest.approx(0.72 - 4.3027 * 0.02 / 3**0.5, abs=1e-5), pytest.approx(0.76968, abs=1e-5))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert estimate([0.7]) == Estimate(1, 0.7, None, None, None)


def test_equal_values_have_no_interval() -> None:
    found = estimate([0.7, 0.7])
    assert found == Estimate(2, 0.7, 0.0, None, None)
    assert found.interval is None


@pytest.mark.parametrize("values", [[], [None], [0.7, None]])
def test_a_replicate_that_diverged_leaves_no_mean(values: list[float | None]) -> None:
    assert estimate(values) is None


def test_differences_are_paired_by_seed() -> None:
    ticket, dense = {2: 0.5, 1: 0.75, 4: None, 5: 0.5}, {1: 0.5, 2: 0.75, 3: 0.75, 4: 0.75, 5: None}
    assert paired_differences(ticket, dense) == [0.25, -0.25, None, None]


def test_the_test_is_that_of_a_textbook() -> None:
    # Mean -.1 points, deviation .2, 4 seeds: t = (-.1 + .5) / (.2 / 2) = 4, of 3 degrees of freedom.
    differences = [-0.001 + 0.002 * each for each in (-1.0, -0.5, 0.5, 1.0)]
    scale = 0.002 / float(np.std(differences, ddof=1))
    differences = [-0.001 + (each + 0.001) * scale for each in differences]
    assert float(non_inferiority_p(differences, MARGIN)) == pytest.approx(0.01400, abs=1e-5)


def test_holm_is_that_of_a_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_level_without_a_verdict_makes_no_other_one_easier() -> None:
    assert holm([0.02, np.nan]).tolist() == pytest.approx([0.04, np.nan], nan_ok=True)


def test_the_three_answers() -> None:
    near = [0.0001, -0.0002, 0.0003, 0.0]
    found = verdicts([near, [each - 0.02 for each in near], [0.01, -0.02, 0.01, -0.02]], MARGIN, LEVEL)
    assert [verdict.answer for verdict in found] == ["matches", "worse", "undecided"]
    assert found[0].difference == estimate(near)


@pytest.mark.parametrize(
    ("differences", "why"),
    [
        ([], "not trained"),
        ([0.1], "one seed: not a verdict"),
        ([0.1, None], "a training did not end"),
        ([None, None], "a training did not end"),
        ([0.1, 0.1], "all seeds differ by the same: no measure of chance"),
        # Equal, but for the rounding of a subtraction.
        ([0.7 - 0.6, 0.3 - 0.2], "all seeds differ by the same: no measure of chance"),
    ],
)
def test_what_gives_no_verdict(differences: list[float | None], why: str) -> None:
    (found,) = verdicts([differences], MARGIN, LEVEL)
    assert (found.answer, found.why, found.p_matches, found.p_worse) == (None, why, None, None)


def test_a_choice_among_several_tickets_is_paid_for() -> None:
    differences = [0.0001, -0.0012, 0.0023, -0.001]
    one, five = (verdicts([differences], MARGIN, LEVEL, [number])[0] for number in (1, 5))
    assert one.p_matches is not None
    assert five.p_matches == pytest.approx(5 * one.p_matches)


def test_no_levels_have_no_verdicts() -> None:
    assert verdicts([], MARGIN, LEVEL) == []


def test_at_the_margin_a_family_errs_as_often_as_stated() -> None:
    rate = false_matches(noise(DRAWS, 6, 5, seed=1) - MARGIN / 100)
    assert abs(rate - LEVEL) < 3 * ERROR


def test_levels_that_share_a_dense_run_err_no_more_often() -> None:
    tickets, dense = noise(DRAWS, 6, 5, seed=2), noise(DRAWS, 1, 5, seed=3)
    assert false_matches(tickets - dense - MARGIN / 100) < LEVEL + 3 * ERROR


def test_a_worse_ticket_is_called_worse_no_more_often_than_stated() -> None:
    """At the margin, from the other side."""
    p_values = non_inferiority_p(MARGIN / 100 - noise(DRAWS, 5, seed=4), -MARGIN)
    assert abs(float(np.mean(p_values <= LEVEL)) - LEVEL) < 3 * ERROR


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_power_without_a_difference_is_the_noncentral_t(seeds: int) -> None:
    effect = MARGIN / 100 / SPREAD
    power = float(TTestPower().power(effect, seeds, LEVEL, alternative="larger"))
    assert power == pytest.approx(
        stats.nct.sf(stats.t.ppf(1 - LEVEL, seeds - 1), seeds - 1, effect * seeds**0.5), abs=1e-6
    )
    rate = float(np.mean(non_inferiority_p(noise(DRAWS, seeds, seed=5), MARGIN) <= LEVEL))
    assert abs(rate - power) < 3 * math.sqrt(power * (1 - power) / DRAWS)


def test_a_choice_on_the_same_images_errs_far_more_often_than_stated() -> None:
    values, _ = two_splits(luck=0, seed=10)
    assert false_matches(chosen(values, by=values)) > 3 * LEVEL


def test_a_choice_on_other_images_errs_as_stated_if_only_the_images_are_chance() -> None:
    values, selection = two_splits(luck=0, seed=20)
    assert abs(false_matches(chosen(values, by=selection)) - LEVEL) < 3 * ERROR


def test_a_choice_on_other_images_flatters_if_the_training_is_chance() -> None:
    """Hence the correction for the choice: a lucky training is good on both splits."""
    values, selection = two_splits(luck=0.8, seed=30)
    assert false_matches(chosen(values, by=selection)) > 2 * LEVEL


@pytest.mark.parametrize("luck", [0, 0.8, 1])
@pytest.mark.parametrize("same", [False, True], ids=["other split", "same split"])
def test_the_whole_procedure_errs_no_more_often_than_stated(luck: float, same: bool) -> None:
    values, selection = two_splits(luck, seed=40)
    assert false_matches(chosen(values, by=values if same else selection), choices=5) < LEVEL + 3 * ERROR


def test_the_simulated_procedure_is_that_of_verdicts() -> None:
    values, selection = two_splits(luck=0.8, seed=50)
    for family in chosen(values, by=selection)[:20]:
        expected = holm(np.minimum(5 * non_inferiority_p(family, MARGIN), 1.0))
        found = verdicts(family.tolist(), MARGIN, LEVEL, [5] * len(family))
        assert [verdict.p_matches for verdict in found] == pytest.approx(expected.tolist())
        assert [verdict.answer == "matches" for verdict in found] == [p <= LEVEL for p in expected]


def test_two_networks_on_the_same_images() -> None:
    first = np.repeat([True, True, False, False], [70, 12, 3, 15])
    second = np.repeat([True, False, True, False], [70, 12, 3, 15])
    found = compare_images(first, second)
    assert (found.images, found.first_only, found.second_only) == (100, 12, 3)
    assert found.p == pytest.approx(2 * sum(math.comb(15, k) for k in range(4)) / 2**15)
    # By hand: the 15 differences are +1 or -1, and 1.9842 is the 97.5% quantile of t with 99 degrees of freedom.
    half = 1.9842 * math.sqrt((0.15 - 0.09**2) / 99)
    assert found.difference.interval == (pytest.approx(0.09 - half, abs=1e-5), pytest.approx(0.09 + half, abs=1e-5))
    turned = compare_images(second, first)
    assert (turned.difference.mean, turned.p) == (-found.difference.mean, found.p)


def test_networks_that_agree_differ_by_nothing() -> None:
    same = np.array([True, False, True])
    found = compare_images(same, same)
    assert (found.difference.mean, found.difference.interval, found.p) == (0.0, None, 1.0)


def test_on_the_same_images_the_paired_test_errs_no_more_often_than_stated() -> None:
    draws = np.random.default_rng(6)
    rejected = [compare_images(*(draws.random((2, 300)) < 0.8)).p < LEVEL for _ in range(300)]
    assert np.mean(rejected) < LEVEL + 3 * math.sqrt(LEVEL / 300)


@pytest.mark.parametrize(("first", "second"), [(3, 4), (0, 0)])
def test_other_images_are_refused(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="not the same") as caught:
        compare_images(np.zeros(first, bool), np.zeros(second, bool))
    assert type(caught.value) is ValueError
