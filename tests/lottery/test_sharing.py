"""What a dense run and a ticket depend on, and which run directory's are adopted."""

import pytest

from lottery.experiment.config import parse
from lottery.tickets.sharing import DenseChoice, DenseOffer, adoptable, choose_dense, dense_identity, ticket_identity
from lottery.tickets.tickets import Ticket

TEXT = """
name: first
data: {batch: 16}
model: {name: conv_small, options: {filters: 2}}
training: {length: 3ep, optimizer: {name: sgd}, learning_rate: {peak: 0.1}}
trellis: [0]
masks: {densities: [0.5, 0.2, 0.1]}
"""


def experiment(*overrides):
    return parse(TEXT, "test", overrides)


def dense(*overrides, dataset="0"):
    return dense_identity(experiment(*overrides), dataset)


@pytest.mark.parametrize(
    "override",
    [
        "name=second",
        "trellis=[0, 5]",
        "masks.densities=[0.3]",
        "masks.classifier=false",
        "tickets.controls=[reinit]",
        "tickets.seeds=[0, 1]",
        "tickets.schedule=restart",
        "tickets.optimizer_state=rewind",
        "gang.tasks=2",
        "input.threads=2",
    ],
)
def test_a_dense_run_does_not_depend_on_what_comes_after_it(override):
    assert dense(override) == dense()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "data.batch=8",
        "data.flip=true",
        "model.options={filters: 4}",
        "training.length=4ep",
        "training.evaluate_every=1ep",
        "training.learning_rate.peak=0.2",
        "input.shuffle_window=3",
    ],
)
def test_a_dense_run_depends_on_how_it_is_trained(override):
    assert dense(override) != dense()


def test_a_dense_run_depends_on_the_dataset():
    assert dense(dataset="1") != dense()


@pytest.mark.parametrize("override", ["masks.densities=[0.2]", "masks.densities=[0.9, 0.8, 0.2]"])
def test_a_ticket_is_the_same_at_another_level(override):
    other = experiment(override)
    level = other.masks.densities.index(0.2)
    assert ticket_identity(other, Ticket(level, 5, seed=1)) == ticket_identity(experiment(), Ticket(1, 5, seed=1))


@pytest.mark.parametrize("control", ["reinit", "shuffle"])
def test_a_control_is_the_same_only_at_its_level(control):
    same, moved = experiment("masks.densities=[0.9, 0.2]"), experiment("masks.densities=[0.2]")
    ours = ticket_identity(experiment(), Ticket(1, 0, control))
    assert ticket_identity(same, Ticket(1, 0, control)) == ours
    assert ticket_identity(moved, Ticket(0, 0, control)) != ours


@pytest.mark.parametrize(
    ("override", "ticket"),
    [
        ("masks.classifier=false", Ticket(1, 5)),
        ("tickets.schedule=restart", Ticket(1, 5)),
        ("tickets.optimizer_state=rewind", Ticket(1, 5)),
        ("name=second", Ticket(2, 5)),
        ("name=second", Ticket(1, 0)),
        ("name=second", Ticket(1, 5, seed=1)),
        ("name=second", Ticket(1, 5, "shuffle")),
    ],
)
def test_a_ticket_depends_on_its_mask_its_start_and_its_seed(override, ticket):
    assert ticket_identity(experiment(override), ticket) != ticket_identity(experiment(), Ticket(1, 5))


@pytest.mark.parametrize(
    "override", ["masks.densities=[0.3]", "masks.method=random", "masks={iterative: {keep: 0.3, rounds: 2}}"]
)
def test_a_dense_network_that_is_trained_on_is_the_same_whatever_the_masks(override):
    ticket = Ticket(0, 5, "continue")
    assert ticket_identity(experiment(override), ticket) == ticket_identity(experiment(), ticket)
    prunable = experiment(override, "masks.classifier=false")  # its result counts the prunable weights
    assert ticket_identity(prunable, ticket) != ticket_identity(experiment(), ticket)


def test_other_tickets_of_the_experiment_do_not_change_one():
    other = experiment("tickets.controls=[shuffle]", "tickets.seeds=[0, 3]", "trellis=[0, 5]")
    assert ticket_identity(other, Ticket(1, 0)) == ticket_identity(experiment(), Ticket(1, 0))


def offer(name, status="done", kept=(0, 5, 10), **more):
    return DenseOffer(name, status, frozenset(kept), **more)


def test_a_finished_dense_run_that_kept_the_trellis_is_adopted():
    offers = [offer("a", kept=(0,)), offer("b", None, goes_first=True), offer("c"), offer("d")]
    assert choose_dense([0, 10], offers) == DenseChoice(adopt="c")


def test_a_dense_run_at_work_is_waited_for_if_it_goes_first_and_will_keep_the_trellis():
    at_work = offer("b", None, goes_first=True)
    assert choose_dense([0, 10], [offer("a", kept=(0,)), at_work]) == DenseChoice(wait_for="b")
    assert choose_dense([0, 10], [at_work], patient=False).wait_for is None
    assert choose_dense([0, 10], [offer("b", None)]).wait_for is None
    assert choose_dense([0, 7], [at_work]).wait_for is None


def test_why_a_dense_run_is_trained_is_said():
    offers = [offer("a", kept=(0,)), offer("b", "diverged"), offer("c", None), offer("d", kept=())]
    assert choose_dense([0, 1200], [offer("a", kept=(0,))]).remarks == ("trellis point 1,200 not kept in a",)
    assert choose_dense([0, 5], offers).remarks == (
        "trellis point 5 not kept in a",
        "diverged in b",
        "not finished in c",
        "trellis points 0, 5 not kept in d",
    )
    assert choose_dense([0], []) == DenseChoice()


def test_a_ticket_is_adopted_from_the_first_that_has_it():
    wanted = {Ticket(0, 0): "x", Ticket(1, 0): "y", Ticket(2, 0): "z"}
    offered = {"a": {Ticket(3, 0): "y"}, "b": {Ticket(1, 0): "y", Ticket(0, 0): "x"}}
    assert adoptable(wanted, offered) == {Ticket(0, 0): ("b", Ticket(0, 0)), Ticket(1, 0): ("a", Ticket(3, 0))}
