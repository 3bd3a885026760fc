"""The methods that make masks, without TensorFlow: budgets, ranking and synaptic flow, against small cases by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery.experiment import config
from lottery.experiment.smoke import shrink
from lottery.experiment.steps import timeline
from lottery.tickets import mask_methods, masks
from lottery.tickets.budgets import erdos_renyi_kernel, layerwise
from lottery.tickets.synflow import synflow_mask
from preprocessing.common.errors import InputError
from tests.lottery.paths import DIGITS

SHAPES = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6).map(
    lambda shapes: {f"layer{index}/kernel": shape for index, shape in enumerate(shapes)}
)
DENSITY = st.floats(0, 1, exclude_min=True)
BUDGETS = [layerwise, erdos_renyi_kernel]


def sizes(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


def test_layerwise_keeps_the_same_fraction_of_each_kernel_by_largest_remainder():
    # .3 of 10, 4 and 7: 3.0, 1.2 and 2.1, together 6 of 6.3.
    assert layerwise({"a": (10,), "b": (2, 2), "c": (7,)}, 0.3) == {"a": 3, "b": 1, "c": 2}
    # .45: 4.5, 1.8 and 3.15, together 9 of 9.45: the remainder goes to .8.
    assert layerwise({"a": (10,), "b": (2, 2), "c": (7,)}, 0.45) == {"a": 4, "b": 2, "c": 3}
    # At a tie the first: .5 of 3 and of 3, together 3.
    assert layerwise({"a": (3,), "b": (3,)}, 0.5) == {"a": 2, "b": 1}


def test_erdos_renyi_kernel_is_the_papers_and_full_kernels_leave_the_rest_to_others():
    # Axes add up to 20 and 110, so of 110 (10% of 1,100) the small kernel gets 16.9 and the large one 93.1.
    assert erdos_renyi_kernel({"small": (10, 10), "large": (10, 100)}, 0.1) == {"small": 17, "large": 93}
    # Of 660 its share would be 101.5, more than its 100: it stays dense.
    assert erdos_renyi_kernel({"small": (10, 10), "large": (10, 100)}, 0.6) == {"small": 100, "large": 560}
    # A convolution: 3 + 3 + 4 + 8 = 18 of 288 against 40 of 400; of 172 weights 53.4 and 118.6.
    assert erdos_renyi_kernel({"conv": (3, 3, 4, 8), "dense": (20, 20)}, 0.25) == {"conv": 53, "dense": 119}


@pytest.mark.parametrize("budget", BUDGETS)
@given(shapes=SHAPES, density=DENSITY)
@settings(deadline=None)
def test_a_budget_adds_up_to_the_density_and_never_exceeds_a_kernel(budget, shapes, density):
    counts = budget(shapes, density)
    assert sum(counts.values()) == masks.kept_weights(density, sum(sizes(shapes).values()))
    assert counts.keys() == shapes.keys()
    assert all(0 <= counts[name] <= size for name, size in sizes(shapes).items())


@given(shapes=SHAPES, density=DENSITY)
@settings(deadline=None)
def test_layerwise_is_within_a_weight_of_the_fraction(shapes, density):
    for name, count in layerwise(shapes, density).items():
        assert abs(count - density * sizes(shapes)[name]) < 1 + 1e-9


@pytest.mark.parametrize("budget", [None, *BUDGETS])
@given(shapes=SHAPES, density=DENSITY, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_density_is_exact_and_the_highest_scores_are_kept_for_every_ranking_and_shape(budget, shapes, density, seed):
    """Scores without ties, with many ties, and of both signs, as GraSP's are."""
    random = np.random.default_rng(seed)
    for scores in (
        {name: random.integers(0, 3, shape).astype(np.float32) for name, shape in shapes.items()},
        {name: random.integers(-2, 3, shape).astype(np.float32) for name, shape in shapes.items()},
        mask_methods.random_scores(shapes, seed),
    ):
        (mask,) = mask_methods.masks_of(scores, [density], budget)
        assert masks.kept(mask) == masks.kept_weights(density, masks.prunable_weights(mask))
        assert {name: kept.shape for name, kept in mask.items()} == shapes
        ranked = [[name] for name in shapes] if budget else [list(shapes)]
        for names in ranked:
            kept, pruned = (
                np.concatenate([scores[name][mask[name] == chosen] for name in names]) for chosen in (True, False)
            )
            assert kept.min(initial=np.inf) >= pruned.max(initial=-np.inf)


@given(shapes=SHAPES, density=DENSITY)
@settings(deadline=None, max_examples=30)
def test_synflows_density_is_exact_too(shapes, density):
    random = np.random.default_rng(0)
    weights = {name: random.random(shape) for name, shape in shapes.items()}
    mask = synflow_mask(lambda mask: {name: weights[name] * mask[name] for name in mask}, shapes, density, rounds=7)
    assert masks.kept(mask) == masks.kept_weights(density, masks.prunable_weights(mask))


@given(shapes=SHAPES, densities=st.lists(DENSITY, min_size=2, max_size=4))
@settings(deadline=None)
def test_sparser_masks_are_subsets_except_for_a_weight_per_kernel_of_a_budget(shapes, densities):
    scores, falling = mask_methods.random_scores(shapes, 1), sorted(densities, reverse=True)
    for budget, allowed in ((None, 0), *((budget, 1) for budget in BUDGETS)):
        for denser, sparser in itertools.pairwise(mask_methods.masks_of(scores, falling, budget)):
            assert all(np.count_nonzero(sparser[name] & ~denser[name]) <= allowed for name in denser)


def test_ranking_within_kernels_keeps_the_largest_of_each_and_the_first_at_a_tie():
    scores = {"a": np.array([3.0, 1.0, 2.0, 2.0]), "b": np.array([[0.1, 0.1], [0.3, 0.1]])}
    (mask,) = mask_methods.masks_of(scores, [0.5], layerwise)
    assert mask["a"].tolist() == [True, False, True, False]
    assert mask["b"].tolist() == [[True, False], [True, False]]


def test_random_scores_depend_on_the_seed_and_on_the_kernels_name_alone():
    one, other = mask_methods.random_scores({"a": (5,), "b": (5,)}, 0), mask_methods.random_scores({"b": (5,)}, 0)
    assert np.array_equal(one["b"], other["b"])
    assert not np.array_equal(one["a"], one["b"])
    assert not np.array_equal(one["a"], mask_methods.random_scores({"a": (5,)}, 1)["a"])


def flow_of_two_layers(first, second):
    """The synaptic flow of a linear network 1 -> first -> second -> sum, in closed form."""

    def flow(mask):
        one, two = first * mask["first"], second * mask["second"]
        into, out_of = one.sum(axis=0), two.sum(axis=1)  # through each hidden unit
        return {"first": one * out_of[None, :], "second": two * into[:, None]}

    return flow


def test_synflow_prunes_round_by_round_by_what_is_left():
    first, second = np.array([[4.0, 1.0, 0.5]]), np.array([[1.0], [2.0], [2.5]])
    flow, shapes = flow_of_two_layers(first, second), {"first": (1, 3), "second": (3, 1)}
    # Flows of all six: 4, 2 and 1.25, in either layer (what comes into a unit leaves it). One round keeps the first 3.
    assert synflow_mask(flow, shapes, 0.5, rounds=1)["first"].tolist() == [[True, True, False]]
    assert synflow_mask(flow, shapes, 0.5, rounds=1)["second"].ravel().tolist() == [True, False, False]
    # Round by round the smallest goes first, and then what led to it has no flow: whole paths remain.
    mask = synflow_mask(flow, shapes, 1 / 3)
    assert mask["first"].ravel().tolist() == mask["second"].ravel().tolist() == [True, False, False]


def test_synflow_empties_no_layer_though_one_has_all_the_small_flows():
    """The paper's point: global one-shot ranking would empty the wide layer, where flow is shared by many weights."""
    first, second = np.full((50, 2), 1.0), np.full((2, 1), 1.0)
    flow, shapes = flow_of_two_layers(first, second), {"wide": (50, 2), "narrow": (2, 1)}

    def named(mask):
        found = flow({"first": mask["wide"], "second": mask["narrow"]})
        return {"wide": found["first"], "narrow": found["second"]}

    one_shot, iterative = synflow_mask(named, shapes, 2 / 102, rounds=1), synflow_mask(named, shapes, 2 / 102)
    assert masks.empty_kernels(one_shot) == ["wide"]
    assert masks.empty_kernels(iterative) == []


def experiment(*overrides):
    return config.load(DIGITS, overrides)


def check(*overrides):
    chosen = experiment(*overrides)
    mask_methods.check(chosen, timeline(chosen, 1437), 1437)
    return chosen


@pytest.mark.parametrize("method", sorted(mask_methods.METHODS))
def test_every_method_is_taken_by_name(method):
    chosen = check(f"masks.method={method}")
    at_end = method in ("global_magnitude", "layerwise_magnitude", "erk_magnitude", "random", "erk_random")
    total = timeline(chosen, 1437).total
    assert mask_methods.scored_step(chosen, timeline(chosen, 1437)) == (total if at_end else 0)


@pytest.mark.parametrize(("at", "step"), [("1ep", 44), ("0ep", 0), ("10ep", 440)])
def test_any_trellis_point_and_the_end_can_be_scored(at, step):
    chosen = check("masks.method=snip", f"masks.at={at}")
    assert mask_methods.scored_step(chosen, timeline(chosen, 1437)) == step


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["masks.method=magic"], "masks.method: magic is not a known method; give global_magnitude, "),
        (['masks.method="magic:"'], "masks.method: magic: is not a known method; give global_magnitude, "),
        (["masks.method=no_such_module:f"], "masks.method: no module no_such_module to import f from; put it on "),
        (["masks.at=3ep"], "masks.at: 3ep is step 132, whose weights are not kept; add it to the trellis, or give "),
        (["masks.method=random", "masks.at=1ep"], "masks.at: random does not look at weights; leave the key out"),
        (["masks.method=synflow", "masks.images=9"], "masks.images: synflow does not look at images; leave the key "),
        (["masks.method=snip", "masks.images=1438"], "masks.images: 1438 is more than the 1437 training images; "),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(overrides, said):
    with pytest.raises(InputError) as error:
        check(*overrides)
    assert type(error.value) is InputError
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("overrides", [["masks.at=4ep"], ["masks.method=snip", "masks.images=500"]])
def test_a_smoke_test_shrinks_them(overrides):
    small = shrink(experiment(*overrides))
    mask_methods.check(small, timeline(small, 100), 100)


def test_defaults_leave_identities_as_they_are():
    same = experiment("masks.method=global_magnitude", "masks.exclude=[]", "masks.at=", "masks.images=")
    assert config.identity(same, "0" * 64) == config.identity(experiment(), "0" * 64) == "b66f275a802a"


@pytest.mark.parametrize("override", ["masks.method=snip", "masks.at=0ep", "masks.images=3", "masks.exclude=[a]"])
def test_what_changes_a_mask_is_in_the_identity(override):
    assert config.identity(experiment(override), "0" * 64) != config.identity(experiment(), "0" * 64)
