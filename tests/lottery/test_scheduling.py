import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lottery.experiment import config as experiment
from lottery.experiment.steps import timeline
from lottery.tickets import scheduling
from lottery.tickets.tickets import Ticket, all_tickets, first_step, from_name
from tests.lottery.paths import DIGITS


def digits(*overrides):
    config = experiment.load(DIGITS, overrides)
    return config, all_tickets(config, timeline(config, 1437))


def cost(ticket):
    return 440 - ticket.step


def test_digits_has_100_tickets_and_a_control_a_level():
    _, tickets = digits()
    proper = [ticket for ticket in tickets if ticket.control == "none"]
    assert len(proper) == 100
    assert len({(ticket.level, ticket.step) for ticket in proper}) == 100
    assert [ticket for ticket in tickets if ticket.control == "reinit"] == [
        Ticket(level, 0, "reinit") for level in range(20)
    ]
    assert len(tickets) == 120


def test_shuffle_controls_are_one_a_ticket_and_seeds_multiply():
    _, tickets = digits("tickets.controls=[shuffle]", "tickets.seeds=[0, 1]")
    assert len(tickets) == 2 * (100 + 100)


def test_names_are_distinct_and_read_back():
    _, tickets = digits("tickets.controls=[reinit, shuffle]", "tickets.seeds=[0, 3]")
    assert len({ticket.name for ticket in tickets}) == len(tickets)
    assert [from_name(ticket.name) for ticket in tickets] == tickets
    assert from_name("state") is None
    assert from_name("00-000000-s0.bak") is None


def test_schedule_decides_the_first_step():
    config, _ = digits()
    assert first_step(Ticket(3, 88), config) == 88
    assert first_step(Ticket(3, 88), digits("tickets.schedule=restart")[0]) == 0


@given(st.integers(1, 30), st.data())
def test_a_plan_has_every_ticket_once_and_masks_whole(tasks, data):
    _, tickets = digits("tickets.seeds=[0, 1]")
    left = data.draw(st.lists(st.sampled_from(tickets), unique=True, min_size=1))
    work = scheduling.schedule(left, tasks, cost)
    assert sorted(ticket for task in work.tasks for ticket in task) == sorted(left)
    owners = {}
    for task, members in enumerate(work.tasks):
        assert members
        for ticket in members:
            assert owners.setdefault((ticket.seed, ticket.level), task) == task


def test_twenty_masks_on_twenty_slots_are_one_a_task():
    _, tickets = digits()
    work = scheduling.schedule(tickets, 20, cost)
    assert [len(task) for task in work.tasks] == [6] * 20
    assert scheduling.speed_up(work, cost) == (20.0, 1.0)


def test_work_is_balanced_longest_first():
    tickets = [Ticket(level, 0) for level in range(5)]
    work = scheduling.schedule(tickets, 2, lambda ticket: [5, 4, 3, 3, 3][ticket.level])
    loads = sorted(sum([5, 4, 3, 3, 3][ticket.level] for ticket in task) for task in work.tasks)
    assert loads == [8, 10]
    assert scheduling.speed_up(work, lambda ticket: [5, 4, 3, 3, 3][ticket.level]) == (1.8, 0.9)


@given(st.integers(1, 60))
def test_bundles_are_even_and_of_one_seed(size):
    _, tickets = digits("tickets.seeds=[0, 1]")
    found = scheduling.bundles(tickets, size)
    assert sorted(ticket for bundle in found for ticket in bundle) == sorted(tickets)
    assert all(len({ticket.seed for ticket in bundle}) == 1 for bundle in found)
    sizes = [len(bundle) for bundle in found]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_bundle_size_follows_memory():
    assert scheduling.bundle_size(3, 10**9, 1) == 3
    assert scheduling.bundle_size("auto", 3_504_872, 8 << 30) == 30
    assert scheduling.bundle_size("auto", 10**9, 1 << 30) == 1


def test_checkpoint_interval_is_youngs_where_a_checkpoint_costs_little():
    assert scheduling.checkpoint_interval(1e-4, 1e8) == pytest.approx((2 * 1e-4 * 1e8) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(("cost", "between"), [(2.0, 10_000.0), (60.0, 3600.0), (300.0, 1800.0)])
def test_checkpoint_interval_loses_the_least_time(cost, between):
    """Daly's model: failures at random, of which each costs the work since the last checkpoint."""

    def lost(interval):
        return (math.exp((interval + cost) / between) - 1) / interval

    best = min(lost(cost * step / 50) for step in range(1, 50_000))
    assert lost(scheduling.checkpoint_interval(cost, between)) == pytest.approx(best, rel=1e-3)


def test_checkpoints_that_cost_more_than_failures_leave():
    assert scheduling.checkpoint_interval(500.0, 200.0) == 200.0


def test_hours_are_those_of_the_longest_task():
    work = scheduling.Schedule(((Ticket(0, 0), Ticket(0, 40)), (Ticket(1, 0),)))
    found = scheduling.estimate(work, cost, 9.0, slots=3)
    assert (found.hours, found.executor_hours) == pytest.approx((2.1, 6.3))
    both = scheduling.estimate(work, cost, 9.0, slots=5, together=2, dense=440 / 4)
    assert both.hours == pytest.approx(1.05 + 440 * 9 / 4 / 3600)
    assert both.executor_hours == pytest.approx(5 * both.hours)
    assert scheduling.estimate(scheduling.Schedule(()), cost, 9.0, slots=1).hours == 0
