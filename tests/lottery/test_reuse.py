"""What other run directories have trained is adopted; stages are trained here in the test's process."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from lottery.driver import reuse
from lottery.driver.prepare import prepare
from lottery.driver.reuse import choose, plan_reuse, reuse_dense, reuse_tickets, why_trained
from lottery.driver.sweep import run_sweep
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.run.siblings import find_siblings
from lottery.tickets.tickets import Ticket
from preprocessing.common.claim import BusyError, claimed
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from tests.lottery.worker_runs import Killed, equal

KEPT = Path(__file__).parents[1] / "kept"
OTHER = "masks.densities=[0.8, 0.3, 0.1]"  # of which the small sweep has the last one, at another level


@pytest.fixture(autouse=True)
def info(caplog):
    caplog.set_level("INFO", "lottery")


def siblings(sweep):
    return find_siblings(sweep.runs, sweep.home.uri)


def files(run, below=""):
    root = Path(run.uri)
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / below).rglob("*") if path.is_file()}


def test_an_experiment_that_differs_in_densities_adopts_the_dense_run(after_dense, small, caplog):
    first, second = after_dense(), small(OTHER, "tickets.controls=[]")
    before = files(first.run)
    reuse_dense(second, siblings(second))
    assert f"dense run: adopted from {Path(first.run.uri).name}" in caplog.text
    assert files(second.run, "dense") == files(first.run, "dense")
    assert files(second.run, "trellis") == files(first.run, "trellis")
    assert not second.has_masks()
    assert files(first.run) == before


def test_masks_of_an_adopted_dense_run_are_made_by_a_stage_of_their_own(after_dense, small, worker):
    first, second, told = after_dense(), small(OTHER), []
    reuse_dense(second, siblings(second))
    worker(second, tell=told.append).train_dense()
    assert not told  # nothing was trained
    assert second.has_masks()
    assert equal(second.run.mask(2), first.run.mask(1))


def adopt_until_killed(sweep, before, monkeypatch):
    """Adopts the dense run, and is killed where a method of the run directory would be called."""

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, before, killed)
        with pytest.raises(Killed):
            reuse_dense(sweep, siblings(sweep))


@pytest.mark.parametrize("stop", ["write_provenance", "write_checkpoint", "write_dense_result"])
def test_a_copy_that_was_killed_is_made_again(stop, after_dense, small, monkeypatch):
    first, second = after_dense(), small(OTHER)
    adopt_until_killed(second, stop, monkeypatch)
    assert not second.run.has_result(DENSE)
    reuse_dense(second, siblings(second))
    assert files(second.run, "dense") == files(first.run, "dense")


def test_a_copy_that_was_killed_is_trained_on_if_the_other_directory_is_gone(after_dense, small, worker, monkeypatch):
    first, second, told = after_dense(), small(OTHER), []
    expected = files(first.run, "trellis")
    adopt_until_killed(second, "write_dense_result", monkeypatch)
    dense = first.run.dense_result()
    shutil.rmtree(first.run.uri)
    reuse_dense(second, siblings(second))
    worker(second, tell=told.append).train_dense()
    assert second.run.dense_result().loss == dense.loss
    assert files(second.run, "trellis") == expected


def test_a_checkpoint_does_not_survive_beside_the_states_of_another_dense_run(after_dense, small, monkeypatch):
    first, second = after_dense(), small(OTHER)
    second.run.write_checkpoint(DENSE, first.run.trellis_state(5))
    adopt_until_killed(second, "write_provenance", monkeypatch)
    assert second.run.checkpoint(DENSE) is None


def test_tickets_are_not_left_beside_the_dense_run_of_another_training(after_dense, small, worker, caplog):
    first, second = after_dense(), small(OTHER)
    reuse_dense(second, siblings(second))
    worker(second).train_dense()
    worker(second, Ticket(0, 5)).train_tickets()
    shutil.rmtree(Path(second.run.uri, "dense"))  # the remedy for a damaged trellis
    first.run.write_dense_result(structs.replace(first.run.dense_result(), seconds=1.0))
    reuse_dense(second, siblings(second))
    assert not second.run.has_result(DENSE)
    assert "dense run: none is adopted beside the tickets of an earlier one that are here: trained anew" in caplog.text
    assert plan_reuse(second, second.left(), siblings(second)).dense is None


def test_a_reset_point_that_was_not_kept_costs_a_dense_run(after_dense, small, caplog):
    first, second = after_dense(), small("trellis=[0ep, 0.7ep]")
    reuse_dense(second, siblings(second))
    assert not second.run.has_result(DENSE)
    name = Path(first.run.uri).name
    assert f"dense run: trellis point 7 not kept in {name}: trained anew" in caplog.text


def test_fewer_reset_points_cost_none(after_dense, small):
    after_dense()
    second = small("trellis=[0ep, 1ep]")
    reuse_dense(second, siblings(second))
    assert set(files(second.run, "trellis")) == {"trellis/000000.safetensors", "trellis/000010.safetensors"}


def test_a_dense_run_of_another_seed_is_not_adopted(after_dense, small, caplog):
    after_dense()
    second = small("seed=1")
    reuse_dense(second, siblings(second))
    assert not second.run.has_result(DENSE)
    assert "dense run" not in caplog.text


@pytest.mark.parametrize("path", ["trellis/000005.safetensors", "dense/state.safetensors", "dense/result.json"])
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"\0" * 999)])
def test_a_damaged_dense_run_is_not_adopted(path, damage, after_dense, small):
    first, second = after_dense(), small(OTHER)
    damage(Path(first.run.uri, path))
    reuse_dense(second, siblings(second))
    assert not second.run.has_result(DENSE)
    assert second.run.checkpoint(DENSE) is None


@pytest.mark.parametrize(
    "path", ["trellis/000010.safetensors", "dense/state.safetensors", "dense/metrics.jsonl", "dense/provenance.json"]
)
def test_a_dense_run_at_work_is_not_given_up_for_a_damaged_one(path, after_dense, small):
    first, second = after_dense(), small(OTHER)
    second.run.write_checkpoint(DENSE, first.run.trellis_state(5))
    before = files(second.run)
    Path(first.run.uri, path).write_bytes(b"\0" * 999)
    reuse_dense(second, siblings(second))
    assert files(second.run) == before


def test_the_next_of_two_is_adopted_if_the_first_is_damaged(after_dense, small):
    first = after_dense("runs", "tickets.controls=[]")
    after_dense("runs", "tickets.controls=[reinit]")
    second = small(OTHER)
    Path(first.run.uri, "dense", "state.safetensors").write_bytes(b"")
    reuse_dense(second, siblings(second))
    assert second.run.has_result(DENSE)


def test_folders_that_are_no_run_directories_are_passed_over(after_dense, small, tmp_path):
    after_dense()
    second = small(OTHER)
    runs = tmp_path / "runs"
    (runs / "empty").mkdir()
    (runs / "a file").write_text("x")
    (runs / "foreign").mkdir()
    (runs / "foreign" / "experiment.yaml").write_text("name: x\n")
    (runs / "binary").mkdir()
    (runs / "binary" / "experiment.yaml").write_bytes(b"\xff\x00")
    assert len(siblings(second)) == 1


def test_a_run_directory_that_cannot_be_read_is_named(after_dense, small, monkeypatch, caplog):
    first, second = after_dense(), small(OTHER)

    def refused(self):
        raise StorageError(f"cannot read {self.describe()}: permission denied; ask its owner")

    monkeypatch.setattr(RunDirectory, "origin", refused)
    assert siblings(second) == []
    assert f"{first.run.uri} is not looked at for what can be reused: cannot read" in caplog.text


def test_storage_that_is_away_ends_the_adoption(after_dense, small, monkeypatch):
    """Training anew for days is no answer to it."""
    after_dense()
    second = small(OTHER)

    def away(*_):
        raise StorageError("cannot read x: away")

    monkeypatch.setattr(RunDirectory, "trellis_state", away)
    with pytest.raises(StorageError) as caught:
        reuse_dense(second, siblings(second))
    assert type(caught.value) is StorageError


def test_a_dense_run_that_another_sweep_is_training_is_waited_for(after_dense, small, caplog, monkeypatch):
    done, first, second = after_dense("elsewhere"), small(), small(OTHER)
    monkeypatch.setattr(reuse, "_LOOK", 0.05)
    with claimed(open_store(first.home.uri), "sweep"), claimed(open_store(second.home.uri), "sweep"):
        waiting = threading.Thread(target=reuse_dense, args=(second, siblings(second)))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert f"dense run: waiting for {Path(first.run.uri).name}, where a sweep is training it" in caplog.text
        assert choose(first, siblings(first)).wait_for is None  # one of the two goes first
        for name, blob in files(done.run).items():
            if name != "experiment.yaml" and not name.endswith("result.json"):
                open_store(first.run.uri).write(name, blob)
        first.run.write_dense_result(done.run.dense_result())
        waiting.join(20)
    assert not waiting.is_alive()
    assert second.run.has_result(DENSE)


def test_a_driver_that_cannot_wait_says_what_it_would_wait_for(small):
    first, second = small(), small(OTHER)
    with (
        claimed(open_store(first.home.uri), "sweep"),
        claimed(open_store(second.home.uri), "sweep"),
        pytest.raises(InputError, match="^dense run: a sweep is training it in .*; run the same command") as caught,
    ):
        reuse_dense(second, siblings(second), patient=False)
    assert type(caught.value) is BusyError
    assert caught.value.exit_status == 75


def test_a_sweep_that_ends_without_a_dense_run_is_not_waited_for(small, monkeypatch, caplog):
    first, second = small(), small(OTHER)
    monkeypatch.setattr(reuse, "_LOOK", 0.05)
    with claimed(open_store(second.home.uri), "sweep"):
        with claimed(open_store(first.home.uri), "sweep"):
            assert choose(second, siblings(second)).wait_for is None  # its own claim is older
        reuse_dense(second, siblings(second))
    assert "not finished in" in caplog.text


def test_a_sweep_with_a_checkpoint_of_its_own_does_not_wait(after_dense, small):
    first, second = small(), small(OTHER)
    second.run.write_checkpoint(DENSE, after_dense("elsewhere").run.trellis_state(5))
    with claimed(open_store(first.home.uri), "sweep"), claimed(open_store(second.home.uri), "sweep"):
        choice = choose(second, siblings(second))
    assert choice.wait_for is None
    assert why_trained(second, choice) == f"dense run: not finished in {Path(first.run.uri).name}: trained anew"


def prepared(after_dense, small, worker, *overrides):
    """The small sweep with some tickets trained, and another one that has adopted its dense run."""
    first, second = after_dense(), small(*(overrides or (OTHER,)))
    tickets = [Ticket(1, 5), Ticket(1, 0, "reinit"), Ticket(0, 5)]
    worker(first, *tickets).train_tickets()
    reuse_dense(second, siblings(second))
    worker(second).train_dense()
    return first, second


def test_a_ticket_is_adopted_whatever_its_level(after_dense, small, worker, caplog):
    first, second = prepared(after_dense, small, worker)
    reuse_tickets(second, siblings(second))
    (found,) = second.run.results()
    expected = first.run.result(Ticket(1, 5))
    assert (found.ticket, found.density, found.loss) == (Ticket(2, 5), 0.1, expected.loss)
    assert (found.kept, found.seconds, found.executor) == (expected.kept, expected.seconds, expected.executor)
    there, here = (f"tickets/{name}" for name in ("01-000005-s0", "02-000005-s0"))
    for name in ("state.safetensors", "metrics.jsonl", "answers.safetensors"):
        assert files(second.run)[f"{here}/{name}"] == files(first.run)[f"{there}/{name}"]
    assert f"tickets: 1 adopted from {Path(first.run.uri).name}" in caplog.text
    assert Ticket(2, 5) not in second.left()


def test_a_control_is_adopted_at_its_own_level(after_dense, small, worker):
    _, second = prepared(after_dense, small, worker, "masks.densities=[0.8, 0.1]")
    reuse_tickets(second, siblings(second))
    assert second.run.done() == {Ticket(1, 5), Ticket(1, 0, "reinit")}


def test_a_dense_network_that_is_trained_on_is_adopted_whatever_the_densities(after_dense, small, worker):
    controls = "tickets.controls=[continue]"
    first, second = after_dense("runs", controls), small(controls, "masks.densities=[0.9, 0.7]")
    ticket = Ticket(0, 5, "continue")
    worker(first, ticket).train_tickets()
    reuse_dense(second, siblings(second))
    worker(second).train_dense()
    reuse_tickets(second, siblings(second))
    assert second.run.results() == [first.run.result(ticket)]


@pytest.mark.parametrize("override", ["tickets.schedule=restart", "tickets.optimizer_state=rewind"])
def test_a_ticket_that_is_trained_in_another_way_is_not_adopted(override, after_dense, small, worker):
    _, second = prepared(after_dense, small, worker, override)
    reuse_tickets(second, siblings(second))
    assert not second.run.done()


def test_a_ticket_of_another_training_of_the_same_dense_run_is_not_adopted(after_dense, small, worker):
    first, second = prepared(after_dense, small, worker)
    dense = first.run.dense_result()
    second.run.write_dense_result(structs.replace(dense, seconds=dense.seconds + 1))
    reuse_tickets(second, siblings(second))
    assert not second.run.done()


def test_a_ticket_with_another_mask_is_not_adopted(after_dense, small, worker):
    first, second = prepared(after_dense, small, worker)
    second.run.write_mask(2, {path: np.ones_like(kept) for path, kept in first.run.mask(1).items()})
    reuse_tickets(second, siblings(second))
    assert not second.run.done()


def test_a_ticket_that_failed_is_not_adopted_and_one_that_diverged_is(after_dense, small, worker):
    first, second = prepared(after_dense, small, worker, "masks.densities=[0.5, 0.1, 0.3]")
    for ticket, status in ((Ticket(1, 5), "failed"), (Ticket(0, 5), "diverged")):
        first.run.write_result(structs.replace(first.run.result(ticket), status=status))
    reuse_tickets(second, siblings(second))
    assert {result.ticket: result.status for result in second.run.results()} == {
        Ticket(0, 5): "diverged",
        Ticket(1, 0, "reinit"): "done",
    }


@pytest.mark.parametrize("name", ["state.safetensors", "metrics.jsonl", "answers.safetensors", "result.json"])
def test_a_damaged_ticket_is_not_adopted(name, after_dense, small, worker):
    first, second = prepared(after_dense, small, worker)
    Path(first.run.uri, "tickets/01-000005-s0", name).write_bytes(b"\0" * 99)
    reuse_tickets(second, siblings(second))
    assert not second.run.done()


def test_a_run_directory_of_an_earlier_version_is_adopted_from(tmp_path, worker):
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    overrides = ["masks.densities=[0.7, 0.2]", "name=another"]
    second = prepare(str(KEPT / "experiment.yaml"), str(tmp_path / "dataset"), str(tmp_path / "runs"), overrides)
    second.bind_run_directory()
    kept = RunDirectory(open_store(KEPT / "runs" / "kept-ad7a771fb404"))
    reuse_dense(second, siblings(second))
    assert second.run.dense_result() == kept.dense_result()
    worker(second).train_dense()
    assert equal(second.run.mask(1), kept.mask(1))
    reuse_tickets(second, siblings(second))
    assert second.run.done() == {ticket for ticket in kept.done() if ticket.level == 1}
    assert second.run.results() == [result for result in kept.results() if result.level == 1]


def test_a_plan_says_what_would_be_adopted_and_copies_nothing(after_dense, small, worker):
    first, second = after_dense(), small(OTHER)
    worker(first, Ticket(1, 5), Ticket(0, 5)).train_tickets()
    before, name = files(second.run), Path(first.run.uri).name
    plan = plan_reuse(second, second.left(), siblings(second))
    assert plan.lines == (f"dense run: adopted from {name}", f"tickets: 1 adopted from {name}")
    assert (plan.dense, plan.tickets, plan.waits) == (first.run.dense_result(), {Ticket(2, 5)}, False)
    assert files(second.run) == before


def test_a_plan_says_why_the_dense_run_would_be_trained(after_dense, small):
    first, second = after_dense(), small("trellis=[0ep, 0.7ep]")
    plan = plan_reuse(second, second.left(), siblings(second))
    assert plan.lines == (f"dense run: trellis point 7 not kept in {Path(first.run.uri).name}: trained anew",)
    assert plan.dense is None


def test_a_plan_waits_for_nobody(small):
    first, second = small(), small(OTHER)
    with claimed(open_store(first.home.uri), "sweep"):
        plan = plan_reuse(second, second.left(), siblings(second))
    assert plan.waits
    assert plan.lines == (f"dense run: {Path(first.run.uri).name} is training it, and would be waited for",)


def test_no_masks_are_made_of_an_adopted_dense_run_of_another_model(after_dense, small, worker):
    first, second = after_dense(), small(OTHER)
    first.run.write_provenance(structs.replace(first.run.provenance(), model="0123456789abcdef"))
    reuse_dense(second, siblings(second))
    with pytest.raises(InputError, match="its structure or code has changed since the dense run") as caught:
        worker(second).train_dense()
    assert type(caught.value) is InputError
    assert not second.has_masks()


def test_a_dense_run_is_adopted_without_spark(after_dense, small, capsys):
    def no_spark():
        raise AssertionError("there is nothing to train")

    after_dense()
    second = small(OTHER)
    assert run_sweep(second, no_spark, "dense") == 0
    assert capsys.readouterr().out.startswith("dense run: top-1 0.")
    assert not open_store(second.run.uri).exists("claim.json")
