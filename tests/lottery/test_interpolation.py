import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lottery.training.interpolation import interpolate

WEIGHTS = arrays(np.float32, 5, elements=st.floats(-(2.0**100), 2.0**100, width=32))
POSITIONS = st.integers(0, 20).map(lambda place: place / 20)


def between(one, other, position):
    return interpolate({"w": one}, {"w": other}, position)["w"]


@given(WEIGHTS, WEIGHTS)
def test_ends_are_exact_whatever_the_magnitudes(one, other):
    assert np.array_equal(between(one, other, 0.0), one)
    assert np.array_equal(between(one, other, 1.0), other)


def test_the_usual_formula_is_not_exact_at_its_end():
    one, other = np.float32(1), np.float32(1e-20)
    assert one + (other - one) != other


@given(WEIGHTS, POSITIONS)
def test_between_equal_weights_there_is_nothing_else(weights, position):
    assert np.array_equal(between(weights, weights.copy(), position), weights)


@given(WEIGHTS, WEIGHTS, POSITIONS)
def test_it_lies_between_and_has_no_direction(one, other, position):
    found = between(one, other, position)
    assert found.dtype == np.float32
    assert (np.minimum(one, other) <= found).all()
    assert (found <= np.maximum(one, other)).all()
    if position != 0.5:
        assert np.allclose(found, between(other, one, 1 - position), rtol=1e-6)


@given(WEIGHTS, WEIGHTS, POSITIONS, arrays(bool, 5))
def test_masked_weights_stay_exactly_zero(one, other, position, mask):
    assert not between(one * mask, other * mask, position)[~mask].any()


def test_a_quarter_of_the_way():
    assert between(np.float32([0, 4]), np.float32([8, 0]), 0.25) == pytest.approx([2, 3])


def test_integers_are_those_of_the_nearer_end():
    one, other = np.array([3, 1]), np.array([7, 2])
    assert between(one, other, 0.5).tolist() == [3, 1]
    assert between(one, other, 0.6).tolist() == [7, 2]
