"""Iterative pruning: rounds that follow one another, each ranking what the one before it has trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lottery.driver import preflight
from lottery.driver.gang import GangError
from lottery.driver.plan_report import plan_sweep
from lottery.driver.reuse import reuse_dense, reuse_tickets
from lottery.experiment import config
from lottery.experiment.sections import Iterative, Masks
from lottery.protocol import ModelFacts, Question, decode_instructions
from lottery.run.run_directory import RunDirectory
from lottery.run.siblings import find_siblings
from lottery.tickets import iterative, masks
from lottery.tickets.scheduling import bundles, schedule
from lottery.tickets.tickets import Ticket, Training, all_tickets, first_step
from preprocessing.common.errors import InputError
from tests.lottery.fake_cluster import Cluster, fails
from tests.lottery.paths import DIGITS
from tests.lottery.small_training import config as small_config
from tests.lottery.worker_runs import equal, files, final

KEEP, ROUNDS = 0.5, 3
ITERATIVE = (f"masks={{iterative: {{keep: {KEEP}, rounds: {ROUNDS}}}}}", "trellis=[0ep, 0.5ep]")
METHODS = ("global_magnitude", "layerwise_magnitude", "erk_magnitude", "random", "erk_random")


def experiment(method="global_magnitude", keep=KEEP, rounds=ROUNDS):
    return replace(small_config(), masks=Masks(iterative=Iterative(keep, rounds), method=method))


def test_levels_are_rounds():
    assert experiment(keep=0.8, rounds=3).masks.levels == pytest.approx((0.8, 0.64, 0.512))
    assert experiment().masks.of_dense_run == 1
    assert replace(experiment(), masks=Masks((0.5, 0.2))).masks.of_dense_run == 2


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ("{}", "masks: give densities or iterative; neither is there"),
        ("{densities: [0.5], iterative: {keep: 0.5, rounds: 2}}", "masks: give densities or iterative; both are there"),
    ],
)
def test_densities_and_rounds_exclude_each_other(masks, says):
    with pytest.raises(InputError, match=says):
        config.load(DIGITS, [f"masks={masks}"])


def test_a_child_reads_what_the_task_has_sent():
    question = Question(experiment(), (8, 8, 3), 10)
    assert decode_instructions(question.encode()) == question


def test_the_command_line_gives_one_in_the_place_of_the_other():
    rounds = config.load(DIGITS, ["masks.iterative={keep: 0.5, rounds: 2}", "masks.method=random"]).masks
    assert rounds == Masks(iterative=Iterative(0.5, 2), method="random")
    lenet = str(Path(DIGITS).with_name("mnist-lenet.yaml"))
    assert config.load(lenet, ["masks.densities=[0.5]"]).masks.levels == (0.5,)
    assert config.load(lenet, ["masks.iterative.rounds=1"]).masks.iterative == Iterative(0.8, 1)
    assert (config.load(lenet, ["seed=3"]).seed, config.load(lenet, ["seed=3"]).seeds) == (3, ())
    assert config.load(lenet).seeds == (0, 1, 2, 3, 4)


def test_rounds_that_leave_no_weight_are_refused():
    masks.check_levels(Masks(iterative=Iterative(0.5, 4)), 10)
    with pytest.raises(InputError, match=r"masks\.iterative\.rounds: 9 rounds leave none of the 10 .*give at most 4$"):
        masks.check_levels(Masks(iterative=Iterative(0.5, 9)), 10)


def test_more_rounds_than_can_be_listed_are_refused_at_once():
    says = r"masks\.iterative\.rounds: give an integer >= 1 and <= 1000, not 1000000000$"
    with pytest.raises(InputError, match=says) as error:
        config.load(DIGITS, ["masks={iterative: {keep: 0.5, rounds: 1000000000}}"])
    assert type(error.value) is InputError
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["snip", "synflow", "magnitude_at_init"])
def test_methods_that_do_not_rank_trained_weights_are_refused(method):
    with pytest.raises(InputError, match=f"masks.method: {method} does not rank trained weights"):
        iterative.check(experiment(method))
    iterative.check(replace(experiment(), masks=Masks((0.5,), method=method)))


def test_a_round_ranks_what_is_left():
    before = {"a": np.array([True, True, False, True]), "b": np.array([[True], [False]])}
    weights = {"a": np.array([0.0, -3.0, 0.0, 1.0]), "b": np.array([[2.0], [9.0]])}
    found = iterative.round_mask(before, weights, 0.5, experiment())
    assert found["a"].tolist() == [False, True, False, True]  # a pruned weight's value does not count
    assert found["b"].tolist() == [[True], [False]]
    found = iterative.round_mask(before, {**weights, "a": np.zeros(4)}, 0.5, experiment())
    assert found["a"].tolist() == [True, True, False, False]  # a kept weight of 0 comes before a pruned one


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4),
    st.floats(0.3, 0.95),
    st.sampled_from(METHODS),
    st.randoms(use_true_random=False),
)
def test_masks_lie_inside_their_predecessors_and_their_size_is_exact(shapes, keep, method, random):
    chosen = experiment(method, keep, 6)
    generator = np.random.default_rng(random.randrange(2**32))
    mask = {f"k{number}": np.ones(shape, bool) for number, shape in enumerate(shapes)}
    prunable = masks.prunable_weights(mask)
    for density in chosen.masks.levels:
        weights = {path: generator.normal(size=kept.shape) * kept for path, kept in mask.items()}
        inside = iterative.round_mask(mask, weights, density, chosen)
        assert masks.kept(inside) == masks.kept_weights(density, prunable)
        assert all((inside[path] <= mask[path]).all() for path in mask)
        mask = inside


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_what_a_kernel_lacks_others_make_up_for(pairs):
    counts = {str(number): count for number, (count, _) in enumerate(pairs)}
    left = {str(number): most for number, (_, most) in enumerate(pairs)}
    found = iterative.within(counts, left)
    assert all(found[path] <= left[path] for path in found)
    assert sum(found.values()) == min(sum(counts.values()), sum(left.values()))
    if all(counts[path] <= left[path] for path in counts):
        assert found == counts


def rounds_of(sweep):
    return bundles(sweep.tickets, 100, rounds=True)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 9])
def test_the_rounds_of_a_chain_are_trained_by_one_task_in_order(small, tasks):
    sweep = small(*ITERATIVE, "tickets.seeds=[0, 1]", "tickets.controls=[reinit, shuffle, continue]")
    trainings = [Training(replicate, ticket) for replicate in range(2) for ticket in sweep.tickets]
    shares = schedule(trainings, tasks, sweep.training_cost, rounds=True).tasks
    assert sorted(training for share in shares for training in share) == sorted(trainings)
    assert len(shares) == min(tasks, 8)
    for share in shares:
        assert {training.chain for training in share}.isdisjoint(
            training.chain for other in shares if other is not share for training in other
        )
        for size in (1, 2, 5):
            for replicate in {training.replicate for training in share}:
                own = [training for training in share if training.replicate == replicate]
                cut = bundles(own, size, rounds=True)
                assert [bundle[0].level for bundle in cut] == sorted(bundle[0].level for bundle in cut)
                assert all(len({(each.level, each.bundle) for each in bundle}) == 1 for bundle in cut)


def test_a_plan_counts_the_bundles_of_each_round(small, monkeypatch):
    cluster = Cluster(monkeypatch, (1, fails(GangError("not to be begun"))))
    monkeypatch.setattr(preflight.model_check, "ask", lambda *_: ModelFacts(parameters=1470, prunable=1436))
    lines = plan_sweep(small(*ITERATIVE, "gang.bundle=100"), cluster).lines
    assert [line for line in lines if f"of levels 0, 1, 2 in {ROUNDS} bundles" in line]


def test_controls_are_paired_with_their_round(small):
    sweep = small(*ITERATIVE, "tickets.controls=[reinit, shuffle, continue]")
    steps = sweep.timeline.trellis
    names = [(ticket.level, ticket.control, ticket.step) for ticket in all_tickets(sweep.experiment, sweep.timeline)]
    assert [step for level, control, step in names if (level, control) == (0, "reinit")] == [0]  # all share a mask
    assert [step for level, control, step in names if (level, control) == (1, "reinit")] == list(steps)
    assert [level for level, control, step in names if control == "continue"] == [0, 0]
    assert first_step(Ticket(1, steps[1], "reinit"), sweep.experiment) == 0
    assert first_step(Ticket(1, steps[1], "shuffle"), sweep.experiment) == steps[1]


@pytest.fixture
def finished(small, worker):
    """An iterative sweep that nothing disturbed."""

    def make(*overrides):
        sweep = small(*ITERATIVE, *overrides, runs="finished")
        worker(sweep).train_dense()
        for bundle in rounds_of(sweep):
            worker(sweep, *bundle).train_tickets()
        assert not sweep.left()
        return sweep

    return make


def test_each_round_prunes_what_its_own_chain_has_trained(finished):
    sweep = finished()
    assert {path.name for path in (Path(sweep.run.uri) / "masks").iterdir()} == {
        "00.safetensors",
        *(f"{level:02d}-{step:06d}-s0.safetensors" for level in (1, 2) for step in sweep.timeline.trellis),
    }
    for step in sweep.timeline.trellis:
        mask, trained = sweep.run.mask(0), final(sweep, "dense")
        alive = {path: np.abs(trained[path]) for path in mask}
        for level in range(ROUNDS):
            ticket = Ticket(level, step)
            kept = masks.kept_weights(KEEP ** (level + 1), masks.prunable_weights(mask))
            threshold = np.sort(np.concatenate([alive[path].ravel() for path in mask]))[-kept]
            found = sweep.run.mask(level, chain=ticket.chain if level else ())
            for path in mask:
                assert np.array_equal(found[path], alive[path] >= threshold), (ticket, path)
            trained = final(sweep, ticket)
            assert all(not trained[path][~found[path]].any() for path in found)
            assert sweep.run.result(ticket).kept == kept
            alive = {path: np.where(found[path], np.abs(trained[path]), -1) for path in found}
    one, other = (sweep.run.mask(1, chain=Ticket(1, step).chain) for step in sweep.timeline.trellis)
    assert not equal(one, other)
    shuffled = final(sweep, Ticket(1, 0, "shuffle"))
    assert all(np.count_nonzero(shuffled[path]) <= np.count_nonzero(one[path]) for path in one)


def test_a_broken_sweep_goes_on_to_the_same_bits(finished, small, worker):
    """Stopped between rounds and in one; a round's mask is made again if it was lost."""
    whole = finished()
    sweep = small(*ITERATIVE, runs="broken")
    worker(sweep).train_dense()
    first, second, third = rounds_of(sweep)
    for ticket in first:  # a bundle of one each, as in a gang of other size
        worker(sweep, ticket).train_tickets()
    worker(sweep, *second).train_tickets()
    lost = Ticket(1, 0)
    (Path(sweep.run.uri) / "masks" / "01-000000-s0.safetensors").unlink()
    (Path(sweep.run.uri) / "tickets" / lost.name / "result.json").unlink()
    worker(sweep, *second).train_tickets()
    for ticket in reversed(third):
        worker(sweep, ticket).train_tickets()
    assert all(files(sweep, ticket) == files(whole, ticket) for ticket in sweep.tickets)


def test_a_chain_ends_with_the_round_that_diverged(small, worker):
    sweep = small(*ITERATIVE)
    worker(sweep).train_dense()
    first, second, third = rounds_of(sweep)
    worker(sweep, *first).train_tickets()
    before = sweep.run.result(Ticket(0, 0))
    sweep.run.write_result(replace(before, status="diverged", note="the loss is nan at step 3", top1=None))
    worker(sweep, *second).train_tickets()
    worker(sweep, *third).train_tickets()
    results = {result.ticket: result for result in sweep.run.results()}
    assert not sweep.left()
    for level in (1, 2):
        cut = results[Ticket(level, 0)]
        assert (cut.status, cut.top1, cut.steps) == ("diverged", None, 0)
        assert cut.note == f"the round before it, {level - 1:02d}-000000-s0, diverged"
        assert cut.kept == masks.kept_weights(KEEP ** (level + 1), cut.prunable)
        assert results[Ticket(level, 0, "reinit")].status == "diverged"
        assert results[Ticket(level, sweep.timeline.trellis[1])].status == "done"


def test_a_round_reads_what_was_trained_before_it_once(finished, worker, monkeypatch):
    """It may be hundreds of megabytes on a remote store."""
    sweep, ticket, read = finished(), Ticket(1, 0), []
    sweep.run.reopen(ticket)
    (Path(sweep.run.uri) / "masks" / "01-000000-s0.safetensors").unlink()
    checkpoint = RunDirectory.checkpoint
    monkeypatch.setattr(RunDirectory, "checkpoint", lambda run, name: read.append(name) or checkpoint(run, name))
    worker(sweep, ticket).train_tickets()
    assert read.count(ticket.predecessor.name) == 1


def test_a_lost_state_is_named_with_its_remedy(finished, worker):
    sweep = finished()
    ticket = Ticket(1, 0)
    sweep.run.reopen(ticket)
    for name in ("masks/01-000000-s0.safetensors", "tickets/00-000000-s0/state.safetensors"):
        (Path(sweep.run.uri) / name).unlink()
    says = r"tickets/00-000000-s0/state\.safetensors is missing; delete result\.json beside it, and the same command"
    with pytest.raises(InputError, match=says):
        worker(sweep, ticket).train_tickets()


def test_rewinding_the_learning_rate_goes_on_from_the_round_before(finished, worker, monkeypatch):
    """Renda, Frankle and Carbin, 2020: the network that was pruned is trained on."""
    from lottery.training.trainer import Trainer

    sweep = finished("tickets.start=learning_rate_rewinding")
    ticket, starts, load = Ticket(1, 0), [], Trainer.load

    def noted(self, state, mask):
        starts.append({path: np.array(value) for path, value in state.items()})
        load(self, state, mask)

    sweep.run.reopen(ticket)
    (Path(sweep.run.uri) / "tickets" / ticket.name / "state.safetensors").unlink()
    monkeypatch.setattr(Trainer, "load", noted)
    worker(sweep, ticket).train_tickets()
    before, mask = final(sweep, ticket.predecessor), sweep.run.mask(1, chain=ticket.chain)
    assert all(np.array_equal(starts[0][path], before[path] * mask[path]) for path in mask)


def test_more_rounds_later_train_only_what_is_new(finished, small, worker):
    done = finished()
    sweep = small(f"masks={{iterative: {{keep: {KEEP}, rounds: {ROUNDS + 1}}}}}", ITERATIVE[1], runs="finished")
    siblings = find_siblings(sweep.runs, sweep.run.uri)
    reuse_dense(sweep, siblings)
    worker(sweep).train_dense()  # makes the first round's mask
    reuse_tickets(sweep, siblings)
    assert {ticket.level for ticket in sweep.left()} == {ROUNDS}
    assert all(files(sweep, ticket) == files(done, ticket) for ticket in done.tickets)
    worker(sweep, *sweep.left()).train_tickets()
    assert {result.status for result in sweep.run.results()} == {"done"}


def test_a_chain_is_not_adopted_from_its_middle(finished, small, worker):
    """What comes before has to be the same training: here it was trained anew."""
    finished()
    sweep = small(f"masks={{iterative: {{keep: {KEEP}, rounds: {ROUNDS + 1}}}}}", ITERATIVE[1], runs="finished")
    siblings = find_siblings(sweep.runs, sweep.run.uri)
    reuse_dense(sweep, siblings)
    worker(sweep).train_dense()
    worker(sweep, Ticket(0, 0)).train_tickets()
    reuse_tickets(sweep, siblings)
    left = sweep.left()
    assert {ticket.level for ticket in left if ticket.step == 0 and ticket.control != "reinit"} == {1, 2, 3}
    assert {ticket.level for ticket in left if ticket.step != 0 and ticket.control == "none"} == {3}
