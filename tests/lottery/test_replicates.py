"""Several seeds: a run directory for each, below one; one gang and one report for all."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lottery.__main__ import main
from lottery.driver import preflight
from lottery.driver.gang import GangError
from lottery.driver.plan_report import plan_sweep
from lottery.driver.prepare import SweepError
from lottery.driver.reuse import reuse_dense, reuse_tickets
from lottery.driver.sweep import run_sweep
from lottery.experiment.config import identity, parse
from lottery.experiment.smoke import shrink
from lottery.protocol import ModelFacts
from lottery.report import publish
from lottery.run.run_directory import RunDirectory
from lottery.run.siblings import find_siblings
from lottery.tickets import gang_size
from lottery.tickets.gang_size import Layout
from lottery.tickets.scheduling import bundles, schedule
from lottery.tickets.tickets import Ticket, Training
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from tests.lottery.fake_cluster import Cluster, fails

TEXT = """
name: first
data: {batch: 16}
model: {name: conv_small}
training: {length: 3ep, optimizer: {name: sgd}, learning_rate: {peak: 0.1}}
trellis: [0]
masks: {densities: [0.5, 0.2]}
"""
TWO = "seeds=[0, 1]"


def experiment(*overrides):
    return parse(TEXT, "test", overrides)


def test_one_seed_alone_is_the_seed():
    assert experiment("seeds=[3]") == experiment("seed=3")
    assert identity(experiment("seeds=[3]"), "") == identity(experiment("seed=3"), "")
    assert experiment("seeds=[0]") == experiment()


def test_several_seeds_are_an_experiment_each():
    several = experiment("seeds=[2, 0]")
    assert several.replicates == (experiment("seed=2"), experiment())
    assert identity(several, "") not in {identity(each, "") for each in several.replicates}
    assert experiment().replicates == (experiment(),)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=1", "seeds=[0, 1]"], "seed and seeds are both given; keep one of them"),
        (["seeds=[1, 1]"], "seeds names 1 twice; name each once"),
        (["seeds=1"], r"seeds: give a list .* did you mean \[1\]"),
        (["seeds=[-1]"], r"seeds\[0\]: give an integer"),
    ],
)
def test_wrong_seeds_are_named(overrides, words):
    with pytest.raises(InputError, match=words) as caught:
        experiment(*overrides)
    assert type(caught.value) is InputError


def test_a_smoke_run_has_two_seeds():
    assert shrink(experiment("seeds=[4, 5, 6]")).seeds == (4, 5)


def test_each_seed_has_a_run_directory_as_if_it_were_alone(small):
    several, alone = small(TWO), small("seed=1")
    root = Path(several.run.uri)
    assert [Path(each.run.uri) for each in several.replicates] == [root / "seed-0", root / "seed-1"]
    origins = [each.run.origin() for each in several.replicates]
    assert [each.experiment.seed for each in origins] == [0, 1]
    assert origins[1].identity == alone.run.origin().identity
    assert RunDirectory(open_store(several.run.uri)).origin().experiment.seeds == (0, 1)
    assert [each.uri for each in several.run.replicates()] == [each.run.uri for each in several.replicates]
    assert {each.home.uri for each in several.replicates} == {several.run.uri}


def test_the_gang_fans_out_over_seeds_and_masks():
    trainings = [Training(seed, Ticket(level, step)) for seed in (0, 1) for level in (0, 1) for step in (0, 5)]
    shares = schedule(trainings, 4, lambda training: 1)
    assert sorted({(each.replicate, each.level) for each in tickets} for tickets in shares.tasks) == [
        {(seed, level)} for seed in (0, 1) for level in (0, 1)
    ]
    assert [{each.replicate for each in bundle} for bundle in bundles(trainings, 100)] == [{0}, {1}]


def test_trainings_are_told_by_the_run_directory_that_they_are_in(small):
    sweep = small(TWO)
    left = sweep.trainings_left()
    assert len(left) == 2 * len(sweep.tickets)
    first, second = sweep.assignments([left[0], left[-1]])
    assert [first.run, second.run] == [each.run.uri for each in sweep.replicates]
    assert (first.experiment.seed, second.experiment.seed) == (0, 1)
    assert {first.home, second.home} == {sweep.run.uri}


def layout(slots, dense_runs, separate=True, **gang):
    settings = [f"gang.{name}={value}" for name, value in gang.items()]
    return gang_size.layout(experiment(*settings).gang, 240, slots, masks=20, separate=separate, dense_runs=dense_runs)


def test_dense_runs_are_trained_at_once_if_there_are_executors():
    assert layout(8, 3) == Layout(dense=2, tasks=8, together=1, dense_runs=3)
    assert layout(9, 3) == Layout(dense=3, tasks=9, together=1, dense_runs=3)
    assert layout(2, 3) == Layout(dense=1, tasks=2, together=1, dense_runs=2)
    assert layout(1, 3) == Layout(dense=1, tasks=1, together=1, dense_runs=1)
    assert layout(8, 3, dense_executors=4) == Layout(dense=4, tasks=8, together=1, dense_runs=2)
    assert layout(8, 3, tasks=4) == Layout(dense=1, tasks=4, together=1, dense_runs=3)
    assert layout(4, 2, separate=False) == Layout(dense=1, tasks=4, together=1, dense_runs=2)
    assert layout(8, 1) == Layout(dense=8, tasks=8, together=1)
    assert layout(8, 3).most == 8
    assert layout(8, 0) == Layout(dense=8, tasks=8, together=1)


def test_the_dense_runs_of_a_sweep_are_one_stage(small, monkeypatch):
    cluster = Cluster(monkeypatch, *[(5, fails(GangError("executor lost")))] * 3)
    with pytest.raises(SweepError, match="executor lost"):
        run_sweep(small(TWO), lambda: cluster)
    assert cluster.begun == [(4, 2)] * 3  # two dense runs, by two executors each


def test_a_plan_counts_replicates(small, monkeypatch):
    cluster = Cluster(monkeypatch, (5, fails(GangError("not to be begun"))))
    monkeypatch.setattr(preflight.model_check, "ask", lambda *_: ModelFacts(parameters=1470, prunable=1436))
    lines = plan_sweep(small(TWO), cluster, images_per_second=16.0).lines
    assert "0 of 12 tickets are done, 0 of 16 controls, of 2 seeds" in lines
    assert "dense runs: 2 of 30 steps, 2 at once, each on 2 executors, states kept at 0, 5, 10" in lines
    assert any(line.startswith("gang: 4 tasks on 5 slots") for line in lines)


@pytest.fixture
def finished(small, after_dense, worker):
    """Two seeds, with a few tickets each."""
    sweep = small(TWO, "tickets.controls=[]")
    for replicate in sweep.replicates:
        worker(replicate).train_dense()
        worker(replicate, Ticket(0, 5), Ticket(1, 5)).train_tickets()
    return sweep


def test_the_report_has_all_seeds(finished, capsys):
    results = [result for each in publish.publish(finished.run).values() for result in each]
    rows = pq.read_table(io.BytesIO(Path(finished.run.uri, "results.parquet").read_bytes())).to_pylist()
    assert sorted((row["replicate"], row["level"], row["seed"]) for row in rows) == [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0),
        (1, 1, 0),
    ]
    assert {row["top1"] for row in rows} == {result.top1 for result in results}
    table = capsys.readouterr().out
    mean = sum(result.top1 for result in results if result.level == 0) / 2
    dense = sum(each.dense_result().top1 for each in finished.replicates) / 2
    assert f"{100 * mean:.2f}" in table.splitlines()[1]
    assert f"dense network: {100 * dense:.2f}" in table
    assert "means over 2 seeds" in table
    assert Path(finished.run.uri, "report", "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_counts_the_seeds_that_are_there(finished, capsys):
    Path(finished.replicates[0].run.uri, "dense", "result.json").unlink()
    publish.publish(finished.run)
    assert "means over 1" not in (table := capsys.readouterr().out)
    assert "means over" not in table


@pytest.mark.parametrize(
    ("command", "said"), [("status", "of seed 1: 2 of 6 are done"), ("report", "means over 2 seeds")]
)
def test_the_command_line_reads_it(finished, capsys, monkeypatch, command, said):
    monkeypatch.setattr("sys.argv", ["lottery", command, finished.run.uri])
    assert main() == 0
    assert said in capsys.readouterr().out


def test_a_seed_is_adopted_from_a_run_directory_of_its_own_and_the_other_way_round(finished, small):
    alone = small("seed=1", "tickets.controls=[reinit]")
    reuse_dense(alone, siblings := find_siblings(alone.runs, alone.home.uri))
    assert alone.run.dense_result() == finished.replicates[1].run.dense_result()
    assert [each.name.rpartition("/")[2] for each in siblings] == ["seed-0", "seed-1"]
    more = small("seeds=[0, 1, 2]")
    for replicate in more.replicates:
        reuse_dense(replicate, find_siblings(more.runs, more.home.uri))
    assert [each.run.dense_result() is not None for each in more.replicates] == [True, True, False]


def test_tickets_are_adopted_among_replicates(finished, small, worker):
    more = small("seeds=[0, 1, 2]", "masks.densities=[0.9, 0.1]")
    found = find_siblings(more.runs, more.home.uri)
    for replicate in more.replicates[:2]:
        reuse_dense(replicate, found)
        worker(replicate).train_dense()
        reuse_tickets(replicate, found)
    assert [each.run.done() for each in more.replicates] == [{Ticket(1, 5)}, {Ticket(1, 5)}, set()]
    assert len(more.trainings_left()) == 3 * len(more.tickets) - 2
