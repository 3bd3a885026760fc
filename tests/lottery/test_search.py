"""`search: frontier` on the driver; the cluster is simulated here, and accuracies are made up."""

from __future__ import annotations

import json
import math
from zlib import crc32

import pytest

from lottery.__main__ import main
from lottery.driver import preflight
from lottery.driver.plan_report import plan_sweep
from lottery.driver.prepare import SweepError, prepare
from lottery.driver.sweep import run_sweep
from lottery.experiment.config import identity, parse
from lottery.protocol import ModelFacts
from lottery.run.run_directory import RunDirectory
from lottery.run.search_state import difference
from lottery.tickets.tickets import NO_CONTROL, Ticket
from preprocessing.common.claim import BusyError, claimed
from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.storage import open_store
from tests.lottery.paths import DIGITS
from tests.lottery.searching import DENSE, Gang, dense_result, result
from tests.lottery.small_sweep import SMALL
from tests.lottery.test_replicates import TEXT

LEVELS = 12
DENSITIES = [round(0.9 - 0.07 * level, 2) for level in range(LEVELS)]
THREE = "seeds=[0, 1, 2]"
# The last level at which tickets of each reset point match.
LAST = {0: 3, 5: 7, 10: 7}


def accuracy(seed, ticket):
    """At most a tenth of a point of noise, and three points a level beyond the last."""
    noise = crc32(f"{seed} {ticket.name}".encode()) % 100 / 100_000
    if ticket.control != NO_CONTROL:
        return 0.5
    return round(DENSE - 0.03 * max(0, ticket.level - LAST[ticket.step]) - noise, 5)


@pytest.fixture
def searching(small):
    def make(*overrides, search="frontier", runs="runs"):
        return small(f"masks.densities={DENSITIES}", f"search={search}", *overrides, runs=runs)

    return make


def no_spark():
    raise AssertionError("there is something to do")


def done(sweep):
    return {(each.experiment.seed, ticket) for each in sweep.replicates for ticket in each.run.done()}


def proper(trainings):
    return {(seed, ticket) for seed, ticket in trainings if ticket.control == NO_CONTROL}


def test_it_ends_with_the_answers_and_says_what_it_left_out(searching, monkeypatch, capsys):
    gang, sweep = Gang(monkeypatch, accuracy), searching(THREE)
    assert run_sweep(sweep, lambda: gang) == 0
    assert sorted(gang.dense) == [0, 1, 2]
    said = capsys.readouterr().out
    rows = {
        line.split()[0]: line.split() for line in said.splitlines() if line.strip().startswith(("0ep", "0.5", "1ep"))
    }
    assert [rows[point][1:3] for point in ("0ep", "0.5ep", "1ep")] == [
        ["3", "69.00%"],
        ["7", "41.00%"],
        ["7", "41.00%"],
    ]
    tickets = proper(gang.trained)
    assert set(gang.trained.values()) == {1}
    assert 3 * len(tickets) <= 3 * 3 * LEVELS
    assert f"trained: {len(tickets)} of 108 tickets, {len(gang.trained) - len(tickets)} of 144 controls" in said
    assert "--set search=grid trains them too" in said


def test_controls_are_those_of_the_answers_on_all_seeds(searching, monkeypatch):
    gang = Gang(monkeypatch, accuracy)
    run_sweep(searching(THREE, "tickets.controls=[reinit, shuffle, continue]"), lambda: gang)
    expected = {(level, 0, "reinit") for level in (3, 7)}
    expected |= {(LAST[step], step, "shuffle") for step in LAST} | {(0, step, "continue") for step in LAST}
    found = {key for key in gang.trained if key[1].control != NO_CONTROL}
    assert found == {(seed, Ticket(*where)) for seed in (0, 1, 2) for where in expected}


def test_reset_points_share_rounds_and_a_round_goes_to_as_many_tasks_as_there_are(searching, monkeypatch):
    gang = Gang(monkeypatch, accuracy, slots=20)
    run_sweep(searching(THREE, "tickets.controls=[]"), lambda: gang)
    _, first, *others = gang.begun
    assert first == (6, 1)  # three reset points, two seeds
    assert len(others) <= 8


@pytest.mark.parametrize("trainings", [1, 8, 17])
def test_killed_anywhere_it_goes_on_with_the_same_round(searching, monkeypatch, trainings):
    whole = Gang(monkeypatch, accuracy)
    run_sweep(searching(THREE), lambda: whole)
    sweep = searching(THREE, runs="killed")
    killed = Gang(monkeypatch, accuracy, dies_after=trainings)
    with pytest.raises(SweepError, match="executor lost"):
        run_sweep(sweep, lambda: killed)
    again = Gang(monkeypatch, accuracy)
    assert run_sweep(sweep, lambda: again) == 0
    assert killed.trained + again.trained == whole.trained
    assert run_sweep(sweep, no_spark) == 0


def test_the_grid_is_filled_in_later_and_answers_the_same(searching, monkeypatch, capsys):
    gang, sweep = Gang(monkeypatch, accuracy), searching(THREE)
    run_sweep(sweep, lambda: gang)
    searched = capsys.readouterr().out
    grid = searching(THREE, search="grid")
    assert grid.run.uri == sweep.run.uri
    rest = Gang(monkeypatch, accuracy)
    assert run_sweep(grid, lambda: rest) == 0
    assert not rest.dense
    assert len(gang.trained + rest.trained) == sum((gang.trained + rest.trained).values()) == 3 * len(grid.tickets)
    assert "search:" not in capsys.readouterr().out
    again = searching(THREE)
    assert run_sweep(again, no_spark) == 0
    found = capsys.readouterr().out
    assert rows(found) == rows(searched)
    assert "trained: 108 of 108 tickets, 144 of 144 controls of the grid" in found


def rows(said):
    """The table of the search, without the count of what was trained."""
    lines = said.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("search: "))
    return lines[begin : begin + 5]


def test_one_seed_is_bisected_and_called_no_verdict(searching, monkeypatch, capsys):
    gang = Gang(monkeypatch, accuracy)
    assert run_sweep(searching(), lambda: gang) == 0
    said = capsys.readouterr().out
    assert "one seed: not a verdict" in said
    assert "on one seed" in said
    assert len(proper(gang.trained)) <= 3 * 4
    assert [line.split()[1] for line in rows(said)[2:]] == ["3", "7", "7"]


def test_a_failed_ticket_stops_its_reset_point_and_is_tried_again(searching, monkeypatch, capsys):
    def fails_once(seed, ticket):
        return OSError() if ticket == Ticket(7, 5) and seed == 1 and not healed else accuracy(seed, ticket)

    healed, sweep = [], searching(THREE, "tickets.controls=[reinit]")
    assert run_sweep(sweep, lambda: Gang(monkeypatch, fails_once)) == 1
    said = capsys.readouterr().out
    assert "stopped at reset 0.5ep: a ticket failed; the same command tries it again" in said
    assert [line.split()[1] for line in rows(said)[2:]] == ["3", "not", "7"]
    healed.append(True)
    again = Gang(monkeypatch, fails_once)
    assert run_sweep(sweep, lambda: again) == 0
    assert (1, Ticket(7, 5)) in again.trained
    assert [line.split()[1] for line in rows(capsys.readouterr().out)[2:]] == ["3", "7", "7"]


def test_failed_tickets_that_the_search_does_not_ask_for_stay(searching, monkeypatch, caplog):
    """The grid trains them, and a search would never again."""
    control = Ticket(11, 0, "reinit")
    unasked, asked = {Ticket(0, 5), control}, {Ticket(7, 5), Ticket(3, 0, "reinit"), Ticket(5, 10)}

    def fails_once(seed, ticket):
        return OSError() if seed == 1 and ticket in unasked | asked and not healed else accuracy(seed, ticket)

    healed, options = [], (THREE, "tickets.controls=[reinit]")
    assert run_sweep(searching(*options, search="grid"), lambda: Gang(monkeypatch, fails_once)) == 1
    healed.append(True)
    again, sweep = Gang(monkeypatch, fails_once), searching(*options)
    assert run_sweep(sweep, lambda: again) == 0
    assert again.trained == {(1, ticket): 1 for ticket in asked}
    assert {training.ticket for training in sweep.trainings_failed()} == unasked
    assert run_sweep(sweep, no_spark) == 0
    assert f"ticket {control.name} of seed 1 failed" in caplog.text
    assert run_sweep(searching(*options, search="grid"), lambda: Gang(monkeypatch, fails_once)) == 0
    assert not sweep.trainings_failed()


def test_diverged_tickets_do_not_match(searching, monkeypatch, capsys):
    def diverges(seed, ticket):
        return None if ticket.level > 5 else accuracy(seed, ticket)

    assert run_sweep(searching(THREE), lambda: Gang(monkeypatch, diverges)) == 0
    assert [line.split()[1] for line in rows(capsys.readouterr().out)[2:]] == ["3", "5", "5"]


def test_no_level_matches(searching, monkeypatch, capsys):
    assert run_sweep(searching(THREE), lambda: Gang(monkeypatch, lambda seed, ticket: 0.5)) == 0
    said = capsys.readouterr().out
    assert [line.split()[1] for line in rows(said)[2:]] == ["none"] * 3
    assert "0 of 144 controls" in said


def test_levels_may_be_in_any_order(searching, monkeypatch, capsys):
    """Levels keep their numbers; the search goes by density."""
    order = [11, 0, 5, 7, 1, 2, 3, 4, 6, 8, 9, 10]

    def shuffled(seed, ticket):
        return accuracy(seed, Ticket(order[ticket.level], ticket.step, ticket.control, ticket.seed))

    sweep = searching(THREE, f"masks.densities={[DENSITIES[rank] for rank in order]}")
    assert run_sweep(sweep, lambda: Gang(monkeypatch, shuffled)) == 0
    assert [line.split()[1:3] for line in rows(capsys.readouterr().out)[2:]] == [
        [str(order.index(3)), "69.00%"],
        [str(order.index(7)), "41.00%"],
        [str(order.index(7)), "41.00%"],
    ]


def test_every_seed_of_a_ticket_counts(searching, monkeypatch):
    gang = Gang(monkeypatch, accuracy)
    assert run_sweep(searching("tickets.seeds=[0, 1]"), lambda: gang) == 0
    assert {(0, Ticket(3, 0, seed=seed)) for seed in (0, 1)} <= set(gang.trained)
    assert len({ticket.seed for _, ticket in gang.trained}) == 2
    assert len(proper(gang.trained)) % 2 == 0


def test_what_other_run_directories_have_is_adopted_but_no_more_than_is_asked_for(searching, monkeypatch):
    run_sweep(searching(search="grid"), lambda: Gang(monkeypatch, accuracy))
    more = searching(f"masks.densities={[*DENSITIES, 0.01]}")
    gang = Gang(monkeypatch, accuracy)
    assert run_sweep(more, lambda: gang) == 0
    assert not gang.trained
    assert 3 * 3 <= len(proper(done(more))) <= 3 * 4


def test_until_makes_all_dense_runs_and_masks(searching, monkeypatch, capsys):
    gang, sweep = Gang(monkeypatch, accuracy), searching(THREE)
    assert run_sweep(sweep, lambda: gang, "masks") == 0
    assert sorted(gang.dense) == [0, 1, 2]
    assert not gang.trained
    assert "masks of seed 2" in capsys.readouterr().out
    assert run_sweep(sweep, no_spark, "masks") == 0


def test_storage_that_fails_the_driver_between_rounds_is_tried_again(searching, monkeypatch):
    failures, results = [], RunDirectory.results

    def away(run):
        if len(gang.begun) == 3 and not failures:
            failures.append(run)
            raise StorageError("cannot read x: away")
        return results(run)

    monkeypatch.setattr(RunDirectory, "results", away)
    gang = Gang(monkeypatch, accuracy)
    assert run_sweep(searching(THREE), lambda: gang) == 0
    assert len(failures) == 1


def test_a_plan_says_what_a_search_costs_and_what_is_next(searching, monkeypatch):
    monkeypatch.setattr(preflight.model_check, "ask", lambda *_: ModelFacts(parameters=1470, prunable=1436))
    sweep = searching(THREE)
    lines = plan_sweep(sweep, Gang(monkeypatch, accuracy), images_per_second=16.0).lines
    assert "search: 18 to 36 of the grid's 108 tickets (17% to 33%), and at most 18 of its 144 controls" in lines, lines
    assert "search: round 1, 6 trainings at 3 reset points, which is planned here" in lines
    assert sum("1 training of level 5" in line for line in lines) == 2
    run_sweep(sweep, lambda: Gang(monkeypatch, accuracy))
    lines = plan_sweep(sweep, Gang(monkeypatch, accuracy), images_per_second=16.0).lines
    assert "search: it is over" in lines


def test_status_shows_the_search_and_knows_when_it_is_over(searching, monkeypatch, capsys):
    def status(*options):
        monkeypatch.setattr("sys.argv", ["lottery", "status", sweep.run.uri, *options])
        assert main() == 0
        return capsys.readouterr().out

    sweep = searching(THREE)
    with pytest.raises(SweepError):
        run_sweep(sweep, lambda: Gang(monkeypatch, accuracy, dies_after=4))
    capsys.readouterr()
    said = status()
    assert "the search is not over: 2 tickets of its next round are not trained" in said
    assert "not known yet" in said
    assert json.loads(status("--json"))["state"] == "stopped"
    run_sweep(sweep, lambda: Gang(monkeypatch, accuracy))
    capsys.readouterr()
    assert json.loads(status("--json"))["state"] == "done"


def test_status_reads_each_result_once(searching, monkeypatch, capsys):
    """A sweep that begins may delete a failure at any time, to try it again."""
    sweep, read = searching(), []
    run_sweep(sweep, lambda: Gang(monkeypatch, accuracy))
    whole = RunDirectory.result
    monkeypatch.setattr(RunDirectory, "result", lambda run, ticket: read.append(ticket) or whole(run, ticket))
    monkeypatch.setattr("sys.argv", ["lottery", "status", sweep.run.uri])
    assert main() == 0
    assert "search: the sparsest level" in capsys.readouterr().out
    assert sorted(read) == sorted(sweep.run.done())


def test_rounds_of_iterative_pruning_are_refused_in_one_line():
    with pytest.raises(
        InputError, match="search: frontier bisects levels.*give search: grid, or masks.densities$"
    ) as error:
        parse(TEXT, "test", ["masks={iterative: {keep: .5, rounds: 3}}", "search=frontier"])
    assert type(error.value) is InputError


def test_differences_are_of_the_split_on_which_reset_points_are_chosen():
    dense, tickets = dense_result(select_top1=0.8), [result(Ticket(0, 0), top1=0.91, select_top1=0.79)]
    assert difference(dense, tickets, select=False) == pytest.approx(1.0)
    assert difference(dense, tickets, select=True) == pytest.approx(-1.0)
    diverged, failed = (result(Ticket(0, 0), status=status, top1=None) for status in ("diverged", "failed"))
    assert difference(dense, [*tickets, diverged], select=False) == -math.inf
    assert difference(dense, [diverged, failed], select=False) is None


@pytest.mark.parametrize("until", [None, "masks"])
def test_a_sweep_at_work_keeps_its_settings_whatever_another_command_says(until, searching, digits, monkeypatch):
    sweep = searching(THREE)
    run_sweep(sweep, lambda: Gang(monkeypatch, accuracy), "masks")
    other = prepare(
        DIGITS,
        str(digits),
        sweep.runs,
        (*SMALL, f"masks.densities={DENSITIES}", "search=frontier", THREE, "verdict.margin=3", "gang.tasks=1"),
    )
    assert other.run.uri == sweep.run.uri
    with claimed(open_store(sweep.run.uri), "sweep"):
        if until is None:
            with pytest.raises(BusyError):
                run_sweep(other, no_spark)
        else:
            assert run_sweep(other, no_spark, until) == 0
        assert [each.run.origin().experiment for each in sweep.replicates] == list(sweep.experiment.replicates)
        assert sweep.run.origin().experiment == sweep.experiment
    run_sweep(other, lambda: Gang(monkeypatch, accuracy), until)
    assert sweep.run.origin().experiment == other.experiment


def test_the_search_is_not_in_the_identity():
    assert identity(parse(TEXT, "test", ["search=frontier"]), "") == identity(parse(TEXT, "test"), "")
