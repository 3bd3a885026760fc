"""Mask x trellis state, without TensorFlow: what a ticket starts from."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lottery.tickets.start_state import reinit_seed, start_state
from lottery.tickets.tickets import Ticket

SLOTS = {"conv/kernel": ["optimizer/conv/kernel/m", "optimizer/conv/kernel/v"], "dense/kernel": []}
REST = ("conv/bias", "norm/moving_mean", "optimizer/conv/bias/m", "optimizer/iteration")


def array(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def mask():
    return {"conv/kernel": array(3, 3, 2, seed=0) > 0, "dense/kernel": array(5, 4, seed=1) > 0.5}


@pytest.fixture
def saved(mask):
    state = {kernel: array(*kept.shape, seed=2) for kernel, kept in mask.items()}
    state |= {slot: array(*mask[kernel].shape, seed=3) for kernel, slots in SLOTS.items() for slot in slots}
    return state | {path: array(4, seed=4) for path in REST}


@pytest.fixture
def fresh(saved):
    return {path: np.zeros_like(value) for path, value in saved.items() if path.startswith("optimizer/")}


def test_weights_and_slots_are_mask_times_saved_state(saved, mask):
    start = start_state(saved, mask, SLOTS)
    assert start.keys() == saved.keys()
    for kernel, kept in mask.items():
        for path in (kernel, *SLOTS[kernel]):
            assert start[path].dtype == np.float32
            assert np.array_equal(start[path][kept], saved[path][kept])
            assert saved[path][~kept].all()
            assert not start[path][~kept].any()


def test_what_has_no_mask_is_as_it_was_saved(saved, mask):
    start = start_state(saved, mask, SLOTS)
    for path in REST:
        assert np.array_equal(start[path], saved[path])


def test_a_fresh_optimizer_replaces_the_saved_one_and_no_weight(saved, mask, fresh):
    start, rewound = start_state(saved, mask, SLOTS, fresh), start_state(saved, mask, SLOTS)
    assert start.keys() == saved.keys()
    for path in saved:
        assert np.array_equal(start[path], fresh[path] if path in fresh else rewound[path])
    assert any(rewound[path].any() for path in fresh)


def test_the_saved_state_is_not_changed(saved, mask, fresh):
    """Tickets of one trellis point share it."""
    before = {path: value.copy() for path, value in saved.items()}
    start_state(saved, mask, SLOTS, fresh)
    assert all(np.array_equal(saved[path], before[path]) for path in before)


def test_new_weights_differ_by_seed_and_mask_and_not_by_reset_point():
    seeds = {reinit_seed(Ticket(level, 0, "reinit", seed), 0) for level in range(3) for seed in range(2)}
    assert len(seeds) == 6
    assert reinit_seed(Ticket(1, 5, "reinit"), 0) == reinit_seed(Ticket(1, 0, "reinit"), 0) == 1814464840
    assert reinit_seed(Ticket(1, 0, "reinit"), 1) not in seeds


def test_it_needs_no_tensorflow():
    code = "import lottery.tickets.start_state, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
