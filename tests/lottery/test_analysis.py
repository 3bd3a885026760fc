"""The pure part of `analyze`: overlap, layers, distance, barriers, agreement."""

import io
import math
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lottery.analysis.agreement import agreement
from lottery.analysis.connectivity import Barrier, LinePoint, barrier, positions
from lottery.analysis.distance import Distance, distances, whole_distance
from lottery.analysis.layers import Layer, layers
from lottery.analysis.overlap import Overlap, layer_overlaps, whole_overlap, whole_overlap_by_layer
from lottery.analysis.parquet import parquet
from lottery.analysis.pictures import barrier_picture
from lottery.analysis.rows import BarrierRow
from lottery.analysis.text import barrier_table

BITS = st.tuples(*[arrays(bool, shape) for shape in ((3, 4), (2, 2, 3, 2))])


def mask(bits):
    return {"a/kernel": bits[0], "b/kernel": bits[1]}


@given(BITS, BITS)
def test_overlap_does_not_depend_on_the_order_of_the_masks(one, other):
    there = layer_overlaps(mask(one), mask(other))
    back = layer_overlaps(mask(other), mask(one))
    for path, found in there.items():
        swapped = back[path]
        assert (found.both, found.one, found.other) == (swapped.both, swapped.other, swapped.one)
        assert found.expected == pytest.approx(swapped.expected)
        assert found.deviation == pytest.approx(swapped.deviation)
    assert whole_overlap(there).both == sum(found.both for found in there.values())


@given(BITS)
def test_a_mask_overlaps_itself_wholly_and_its_complement_not_at_all(bits):
    same = whole_overlap(layer_overlaps(mask(bits), mask(bits)))
    assert same.both == same.one == same.other
    assert same.jaccard == (1 if same.one else None)
    apart = whole_overlap(layer_overlaps(mask(bits), mask([~part for part in bits])))
    assert (apart.both, apart.jaccard) == (0, 0)
    assert apart.z is None or apart.z < 0


@given(st.integers(1, 10**9), st.data())
def test_expectation_and_deviation_are_the_hypergeometric_ones_at_any_size(weights, data):
    one, other = (data.draw(st.integers(0, weights)) for _ in range(2))
    found = whole_overlap({"kernel": Overlap(weights, one, other, 0, expected=0, deviation=0)})
    exact = Fraction(one * other, weights)
    variance = exact * (weights - one) * (weights - other) / (weights * max(weights - 1, 1))
    assert found.expected == pytest.approx(float(exact))
    assert found.deviation == pytest.approx(math.sqrt(variance))


def test_expectation_is_the_mean_over_all_masks_that_chance_may_draw():
    one = {"kernel": np.arange(6).reshape(2, 3) < 3}
    counts = []
    for number in range(64):
        other = np.array([number >> bit & 1 for bit in range(6)], bool)
        if other.sum() == 2:
            counts.append(layer_overlaps(one, {"kernel": other.reshape(2, 3)})["kernel"].both)
    found = layer_overlaps(one, {"kernel": np.arange(6).reshape(2, 3) < 2})["kernel"]
    assert found.expected == pytest.approx(np.mean(counts))
    assert found.deviation == pytest.approx(np.std(counts))
    assert found.z == pytest.approx((2 - np.mean(counts)) / np.std(counts))


def test_masks_drawn_by_chance_lie_within_what_chance_says():
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        one, other = ({"kernel": random.permutation(400).reshape(20, 20) < 100} for _ in range(2))
        found.append(layer_overlaps(one, other)["kernel"].z)
    assert np.mean(found) == pytest.approx(0, abs=0.2)
    assert np.std(found) == pytest.approx(1, abs=0.15)


def test_densities_of_layers_explain_overlap_by_layer_and_not_as_a_whole():
    random = np.random.default_rng(1)

    def drawn():
        return {
            "dense/kernel": random.permutation(1000).reshape(10, 100) < 900,
            "sparse/kernel": random.permutation(9000).reshape(90, 100) < 90,
        }

    found = layer_overlaps(drawn(), drawn())
    assert whole_overlap(found).over_chance > 5
    assert whole_overlap_by_layer(found).over_chance == pytest.approx(1, abs=0.05)
    assert abs(whole_overlap_by_layer(found).z) < 3
    assert whole_overlap(found).both == whole_overlap_by_layer(found).both


def test_jaccard_and_ratio_to_chance_by_hand():
    found = Overlap(weights=100, one=20, other=30, both=12, expected=6.0, deviation=2.0)
    assert found.jaccard == pytest.approx(12 / 38)
    assert found.expected_jaccard == pytest.approx(6 / 44)
    assert (found.over_chance, found.z) == (2, 3)


def test_masks_of_other_kernels_are_not_compared():
    with pytest.raises(ValueError, match=r"b has shape None in one and \(2, 2\) in the other"):
        layer_overlaps({"a": np.ones((1, 1), bool)}, {"a": np.ones((1, 1), bool), "b": np.ones((2, 2), bool)})


def test_a_kernel_of_one_weight_leaves_chance_no_choice():
    one = {"kernel": np.ones((1, 1), bool)}
    found = layer_overlaps(one, one)["kernel"]
    assert (found.expected, found.deviation, found.z) == (1, 0, None)


def test_inputs_and_outputs_without_weights_are_counted_by_kernel():
    kept = np.ones((3, 3, 4, 5), bool)
    kept[:, :, 1, :] = False  # nothing comes from channel 1
    kept[..., 2:4] = False  # nothing goes to channels 2 and 3
    kept[1:, :, :, 0] = False  # channel 0 keeps some
    dense = np.zeros((2, 3), bool)
    found = layers({"conv/kernel": kept, "dense/kernel": dense})
    assert found["conv/kernel"] == Layer(180, int(kept.sum()), 4, 1, 5, 2)
    assert found["dense/kernel"] == Layer(6, 0, 2, 2, 3, 3)
    assert found["dense/kernel"].density == 0


def test_channels_of_a_depthwise_kernel_are_its_inputs():
    kept = np.ones((3, 3, 4, 1), bool)
    kept[:, :, 2] = False
    assert layers({"depthwise/kernel": kept})["depthwise/kernel"] == Layer(36, 27, 4, 1, 1, 0)


def test_distance_is_over_kept_weights_alone():
    start = {"a": np.float32([[3, 4], [100, 0]]), "b": np.float32([[12]])}
    final = {"a": np.float32([[3, 7], [-100, 0]]), "b": np.float32([[8]])}
    kept = {"a": np.array([[True, True], [False, False]]), "b": np.ones((1, 1), bool)}
    found = distances(start, final, kept)
    assert found == {"a": Distance(5, 3), "b": Distance(12, 4)}
    assert whole_distance(found.values()) == Distance(13, 5)
    assert whole_distance(found.values()).relative == pytest.approx(5 / 13)


def test_distance_from_nothing_has_no_ratio():
    assert Distance(0, 2).relative is None
    assert whole_distance([]) == Distance(0, 0)


def line(*errors, loss=1.0):
    return [LinePoint(place, error, loss * error) for place, error in zip(positions(len(errors)), errors, strict=True)]


def test_a_barrier_is_the_highest_point_less_the_mean_of_the_ends():
    assert barrier(line(0.1, 0.5, 0.3, loss=2)) == Barrier(pytest.approx(0.3), pytest.approx(0.6))
    assert barrier(line(0.1, 0.15, 0.3)).error == pytest.approx(0.1)  # half the difference of the ends
    assert barrier(line(0.2, 0.1, 0.2)).error == 0


def test_a_loss_that_is_not_finite_leaves_the_errors_barrier_and_is_counted():
    points = [LinePoint(0, 0.1, 0.2), LinePoint(0.5, 0.5, None), LinePoint(1, 0.3, 0.2)]
    assert barrier(points) == Barrier(pytest.approx(0.3), None)

    def row(order, error, loss):
        ends = (0, "ticket", 1, 0.5, 0, "0", 0, order)
        return BarrierRow(*ends, "interpolated", 0.1, 0.1, 0.5, error, loss, 3, 160)

    both = "\n".join(barrier_table([row(1, 0.3, None), row(2, 0.1, 2.0)]))
    assert "20.00 (2.000)" in both
    assert "On 1 of 2 lines a loss is not finite" in both
    assert "30.00 (-)" in "\n".join(barrier_table([row(1, 0.3, None)]))
    table = pq.read_table(io.BytesIO(parquet(BarrierRow, [row(1, 0.3, None)]))).to_pylist()
    assert (table[0]["barrier"], table[0]["loss_barrier"]) == (0.3, None)
    assert barrier_picture("a sweep", [row(1, 0.3, None)]).startswith(b"\x89PNG")


@given(st.integers(0, 10_000), st.floats(0, 100), st.integers(2, 30))
def test_a_line_of_equal_networks_has_a_barrier_of_exactly_zero(wrong, loss, points):
    found = barrier([LinePoint(place, wrong / 10_000, loss) for place in positions(points)])
    assert found == Barrier(0.0, 0.0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_a_barrier_has_no_direction_and_is_never_negative(errors):
    assert barrier(line(*errors)) == barrier(line(*reversed(errors)))
    assert barrier(line(*errors)).error >= 0


@pytest.mark.parametrize("count", [2, 3, 11])
def test_positions_have_both_ends(count):
    found = positions(count)
    assert (found[0], found[-1], len(found)) == (0.0, 1.0, count)


def test_a_line_has_two_ends():
    with pytest.raises(ValueError, match="two ends"):
        positions(1)


def test_agreement_by_hand():
    labels = np.array([0, 1, 2, 3, 0])
    one = np.array([0, 1, 2, 0, 1])
    other = np.array([0, 1, 0, 0, 2])
    found = agreement(one, other, labels, classes=4)
    assert (found.one_top1, found.other_top1) == (0.6, 0.4)
    assert found.churn == pytest.approx(0.4)  # the third and the last
    assert found.expected_churn == pytest.approx(1 - 0.24 - 0.4 * 0.6 / 3)
    assert (found.both_right, found.both_wrong) == (0.4, 0.4)


def test_networks_that_know_nothing_of_each_other_churn_as_expected():
    random = np.random.default_rng(2)
    labels = random.integers(10, size=200_000)

    def network(accuracy):
        wrong = (labels + random.integers(1, 10, size=labels.size)) % 10
        return np.where(random.random(labels.size) < accuracy, labels, wrong)

    found = agreement(network(0.9), network(0.7), labels, 10)
    assert found.churn == pytest.approx(found.expected_churn, abs=0.005)


def test_a_network_agrees_with_itself_except_where_it_has_no_answer():
    labels = np.array([0, 1, 2, 3])
    one = np.array([0, 1, -1, 2])
    assert agreement(one, one, labels, 4).churn == 0.25
    assert agreement(labels, labels, labels, 4).churn == 0
