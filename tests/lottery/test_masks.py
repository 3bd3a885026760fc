import itertools

import numpy as np
import pytest

from lottery.run import blobs
from lottery.tickets import masks
from preprocessing.common.errors import InputError

DENSITIES = [0.4, 0.35, 0.3, 0.25, 0.2, *(round(0.15 - 0.01 * i, 2) for i in range(15))]


def kernels(seed=0):
    random = np.random.default_rng(seed)
    return {
        "conv/kernel": random.normal(size=(3, 3, 3, 8)).astype(np.float32),
        "dense/kernel": 0.1 * random.normal(size=(40, 11)).astype(np.float32),
    }


@pytest.mark.parametrize("density", [*DENSITIES, 1.0, 0.001])
def test_density_is_met_to_the_weight(density):
    weights = kernels()
    (mask,) = masks.global_magnitude_masks(weights, [density])
    assert masks.kept(mask) == round(density * masks.prunable_weights(weights))


def test_exact_at_ties_and_first_in_order_wins():
    weights = {"a": np.ones((4, 4), np.float32), "b": -np.ones(9, np.float32)}
    (mask,) = masks.global_magnitude_masks(weights, [0.5])
    assert masks.kept(mask) == round(0.5 * 25)
    assert mask["a"].ravel().tolist() == [True] * 12 + [False] * 4
    assert not mask["b"].any()


def test_ranks_over_all_kernels_at_once():
    weights = kernels()
    (mask,) = masks.global_magnitude_masks(weights, [0.3])
    threshold = min(np.abs(weights[name][mask[name]]).min() for name in weights)
    assert all((np.abs(weights[name][~mask[name]]) <= threshold).all() for name in weights)
    # The small kernel loses more: a quantile per layer would keep 30% of each.
    assert mask["dense/kernel"].mean() < 0.1 < 0.5 < mask["conv/kernel"].mean()


def test_sparser_masks_are_subsets():
    found = masks.global_magnitude_masks(kernels(), DENSITIES)
    for denser, sparser in itertools.pairwise(found):
        assert all((denser[name] | ~sparser[name]).all() for name in denser)


def test_weights_that_are_not_finite_are_refused_by_name():
    weights = kernels()
    weights["dense/kernel"][3, 3] = np.nan
    with pytest.raises(ValueError, match="dense/kernel"):
        masks.global_magnitude_masks(weights, [0.5])


def test_packed_mask_comes_back_and_takes_a_bit_a_weight():
    (mask,) = masks.global_magnitude_masks({"k": np.random.default_rng(1).normal(size=(100, 81))}, [0.37])
    blob = blobs.pack_mask(mask)
    assert len(blob) < 100 * 81 / 8 + 300
    assert np.array_equal(blobs.unpack_mask(blob)["k"], mask["k"])


def test_truncated_mask_is_refused():
    blob = blobs.pack_mask(masks.global_magnitude_masks(kernels(), [0.5])[0])
    with pytest.raises(ValueError, match="whole"):
        blobs.unpack_mask(blob[:-5])


def test_kernels_left_without_weights_are_named():
    weights = {"strong": np.full(50, 2.0), "weak": np.full(50, 1.0)}
    (mask,) = masks.global_magnitude_masks(weights, [0.5])
    assert masks.empty_kernels(mask) == ["weak"]


def test_excluded_kernels_are_matched_by_pattern():
    paths = ["net/conv1/kernel", "net/conv2/kernel", "net/classifier/kernel"]
    assert masks.without_excluded(paths, []) == paths
    assert masks.without_excluded(paths, ["*/conv1/*", "net/class*"]) == ["net/conv2/kernel"]


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["*/conv1/*", "conv2"], "masks.exclude: conv2 matches no prunable kernel; there are net/conv1/kernel, net/c2"),
        (["net/*"], "masks.exclude: net/* leaves no kernel to prune; there are net/conv1/kernel, net/c2"),
    ],
)
def test_a_pattern_that_excludes_nothing_or_everything_is_refused(patterns, said):
    with pytest.raises(InputError) as error:
        masks.without_excluded(["net/conv1/kernel", "net/c2"], patterns)
    assert type(error.value) is InputError
    assert str(error.value) == said
