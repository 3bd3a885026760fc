"""Controls and starts, without TensorFlow: which there are, their masks, and where they start from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery.experiment import config
from lottery.experiment.steps import timeline
from lottery.tickets import controls, masks
from lottery.tickets.tickets import (
    Ticket,
    all_tickets,
    first_step,
    from_name,
    is_fine_tuned,
    mask_density,
    own_mask,
    start_weights,
)
from preprocessing.common.errors import InputError
from tests.lottery.paths import DIGITS

ALL = f"tickets.controls=[{', '.join(controls.CONTROLS)}]"


def experiment(*overrides):
    return config.load(DIGITS, ["masks.densities=[0.5, 0.1]", "trellis=[0ep, 1ep]", *overrides])


def tickets(*overrides):
    chosen = experiment(*overrides)
    return all_tickets(chosen, timeline(chosen, 1437))


def some_mask(seed=0, density=0.3):
    random = np.random.default_rng(seed)
    kernels = {"conv/kernel": random.normal(size=(3, 3, 3, 8)), "dense/kernel": 0.1 * random.normal(size=(40, 11))}
    return masks.global_magnitude_masks(kernels, [density])[0]


def counts(mask):
    return {name: int(kept.sum()) for name, kept in mask.items()}


def test_controls_are_one_a_ticket_or_one_a_level_or_one_a_reset_point():
    found = [ticket.name for ticket in tickets(ALL) if ticket.control != "none"]
    assert found == [
        *("00-000000-reinit-s0", "00-000000-shuffle-s0", "00-000044-shuffle-s0"),
        *("00-000000-random-s0", "00-000044-random-s0", "00-000000-continue-s0", "00-000044-continue-s0"),
        "00-000000-narrow-s0",
        *("01-000000-reinit-s0", "01-000000-shuffle-s0", "01-000044-shuffle-s0"),
        *("01-000000-random-s0", "01-000044-random-s0", "01-000000-narrow-s0"),
    ]
    assert all(from_name(ticket.name) == ticket for ticket in tickets(ALL))


def test_an_unknown_control_is_refused():
    with pytest.raises(InputError) as error:
        tickets("tickets.controls=[randm]")
    assert type(error.value) is InputError
    assert str(error.value).startswith("tickets.controls: randm is not a known control; give reinit, shuffle, random")


def test_shuffled_keeps_each_kernels_density_and_moves_weights():
    mask = some_mask()
    shuffled = controls.shuffled(mask, seed=0, level=4)
    assert counts(shuffled) == counts(mask)
    assert not np.array_equal(shuffled["conv/kernel"], mask["conv/kernel"])
    assert np.array_equal(shuffled["conv/kernel"], controls.shuffled(mask, seed=0, level=4)["conv/kernel"])
    assert not np.array_equal(shuffled["conv/kernel"], controls.shuffled(mask, seed=0, level=5)["conv/kernel"])


def test_random_keeps_as_many_weights_in_all_and_nearly_the_same_fraction_of_each_kernel():
    mask = some_mask()
    random = controls.scattered(mask, seed=0, level=4)
    assert masks.kept(random) == masks.kept(mask)
    assert mask["dense/kernel"].mean() < 0.1 < 0.5 < mask["conv/kernel"].mean()
    assert all(0.2 < kept.mean() < 0.4 for kept in random.values())
    assert not np.array_equal(random["conv/kernel"], controls.scattered(mask, seed=1, level=4)["conv/kernel"])
    assert not np.array_equal(random["conv/kernel"], controls.scattered(mask, seed=0, level=5)["conv/kernel"])


@given(seed=st.integers(0, 5), kept=st.floats(0.01, 1), control=st.sampled_from(sorted(controls.CONTROLS)))
@settings(deadline=None, max_examples=60)
def test_a_control_keeps_as_many_weights_as_its_ticket_or_all(seed, kept, control):
    chosen, mask = experiment(f"masks.densities=[{kept}]"), some_mask(seed, kept)
    ticket = Ticket(0, 0, control)
    own = own_mask(ticket, mask, chosen)
    assert masks.kept(own) == masks.kept_weights(mask_density(ticket, chosen), masks.prunable_weights(mask))
    if control in ("reinit", "shuffle"):
        assert counts(own) == counts(mask)
    if control in ("continue", "narrow"):
        assert all(kernel.all() for kernel in own.values())
    else:
        assert masks.kept(own) == masks.kept(mask)


def test_a_ticket_that_is_no_control_has_the_mask_of_its_level_and_its_density():
    mask, chosen = some_mask(), experiment()
    assert own_mask(Ticket(1, 44), mask, chosen) is mask
    assert mask_density(Ticket(1, 44), chosen) == 0.1


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("weight_rewinding", {"none": "reset", "shuffle": "reset", "random": "reset"}),
        ("learning_rate_rewinding", {"none": "final", "shuffle": "final", "random": "final"}),
        ("fine_tuning", {"none": "final", "shuffle": "final", "random": "final"}),
    ],
)
def test_tickets_and_their_controls_start_from_the_same_weights_except_for_what_the_control_changes(start, expected):
    chosen = experiment(f"tickets.start={start}")
    for control, weights in {**expected, "reinit": "new", "narrow": "new", "continue": "final"}.items():
        ticket = Ticket(0, 0 if weights == "new" else 44, control)
        assert start_weights(ticket, chosen) == weights
        assert first_step(ticket, chosen) == ticket.step
        assert is_fine_tuned(ticket, chosen) == (start == "fine_tuning" and weights == "final")


def test_a_new_control_is_a_function_and_a_line(monkeypatch):
    def upside_down(mask, seed, level):
        return {name: kept[::-1] for name, kept in mask.items()}

    monkeypatch.setitem(controls.CONTROLS, "flipped", controls.Control(mask=upside_down))
    ticket, mask = Ticket(1, 44, "flipped"), some_mask()
    assert ticket in tickets("tickets.controls=[flipped]")
    assert from_name(ticket.name) == ticket
    assert np.array_equal(own_mask(ticket, mask, experiment())["conv/kernel"], mask["conv/kernel"][::-1])
