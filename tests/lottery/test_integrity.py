"""The checks that are always on: each can fail, and says why."""

import numpy as np
import pytest

from lottery.tickets import integrity, masks

SLOTS = {"a/kernel": ["optimizer/a/kernel/momentum"], "b/kernel": ["optimizer/b/kernel/momentum"]}
DENSITY = 0.25


@pytest.fixture
def ticket():
    """A mask that keeps 100 of 400 weights, and a state of it."""
    random = np.random.default_rng(0)
    state = {"a/kernel": random.normal(size=(10, 20)), "b/kernel": random.normal(size=(4, 50)), "b/bias": np.ones(50)}
    (mask,) = masks.global_magnitude_masks({kernel: state[kernel] for kernel in SLOTS}, [DENSITY])
    for kernel, slots in SLOTS.items():
        state[kernel] = state[kernel] * mask[kernel]
        state |= dict.fromkeys(slots, mask[kernel] * 0.5)
    return mask, state


def test_a_tickets_state_has_no_violation(ticket):
    assert integrity.violation(*ticket, SLOTS, DENSITY) is None
    assert integrity.density_note(*ticket) == ""


@pytest.mark.parametrize("path", [*SLOTS, *(slot for slots in SLOTS.values() for slot in slots)])
def test_one_masked_weight_or_slot_that_lives(ticket, path):
    mask, state = ticket
    kernel = next(kernel for kernel in SLOTS if kernel in path)
    masked = tuple(place[0] for place in np.nonzero(~mask[kernel]))
    state[path] = state[path].copy()
    state[path][masked] = 1e-30
    assert integrity.violation(mask, state, SLOTS, DENSITY) == f"masked weights of {path} are not 0"


def test_weights_that_are_not_finite(ticket):
    _, state = ticket
    assert integrity.not_finite(state, SLOTS) is None
    state["b/kernel"][0, 0] = np.inf
    assert integrity.not_finite(state, SLOTS) == "b/kernel"


def test_a_mask_of_another_density(ticket):
    assert integrity.violation(*ticket, SLOTS, 0.26) == "the mask keeps 100 weights, density 0.26 is 104"


def test_a_mask_of_another_model(ticket):
    mask, state = ticket
    fewer = {"a/kernel": mask["a/kernel"]}
    assert integrity.violation(fewer, state, SLOTS, DENSITY) == "the mask does not fit the model's kernels: b/kernel"
    turned = {**mask, "a/kernel": mask["a/kernel"].T}
    assert integrity.violation(turned, state, SLOTS, DENSITY) == "the mask does not fit the model's kernels: a/kernel"
    more = {**mask, "c/kernel": np.zeros(3, bool)}
    assert integrity.violation(more, state, SLOTS, DENSITY) == "the mask does not fit the model's kernels: c/kernel"


def test_kept_weights_that_became_0_are_noted_if_they_are_many(ticket):
    mask, state = ticket
    kept = np.argwhere(mask["a/kernel"])
    state["a/kernel"][tuple(kept[0])] = 0.0
    assert integrity.density_note(mask, state) == ""  # 1 of 100
    state["a/kernel"][tuple(kept[1])] = 0.0
    assert integrity.density_note(mask, state) == "2 of 100 kept weights have become 0: the realised density is 0.245"
    assert integrity.violation(mask, state, SLOTS, DENSITY) is None
