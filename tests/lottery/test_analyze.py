"""`python -m lottery analyze` on small runs: tables, pictures, what is missing, and errors."""

from __future__ import annotations

import io
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from lottery.__main__ import main
from lottery.analysis import analyze as module
from lottery.analysis.forward import one_gpu
from lottery.executor.supervisor import Ended
from lottery.protocol import Line, LinePoints, Passes, Predictions, TrainedNetwork, decode_event, encode_event
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from tests.lottery.s3_proxy import CREDENTIALS, s3_proxy

TWO_ORDERS = (
    "masks.densities=[0.5, 0.1, 1.0]",
    "tickets.seeds=[0, 1]",
    "tickets.controls=[continue]",
    "trellis=[0ep, 1ep]",
    "model={name: tests.lottery.own_models:with_batch_norm, options: {}}",
)
DENSITIES = {0: 0.5, 1: 0.1, 2: 1.0}


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lottery", "analyze", *map(str, arguments)])
    return main()


def rows(run, name):
    return pq.read_table(io.BytesIO(Path(run.uri, "analysis", f"{name}.parquet").read_bytes())).to_pylist()


def in_this_process(passes: Passes):
    """Stands for the child, which would take seconds to start."""
    from lottery.worker.forward_passes import Measurement

    events = []
    measurement = Measurement(passes, events.append)
    for index, line in enumerate(passes.lines):
        events += measurement.line(index, line)
    measurement.predict()
    return [[event for event in events if isinstance(event, kind)] for kind in (LinePoints, Predictions)]


@pytest.fixture(scope="module")
def trained_runs():
    return {}


@pytest.fixture
def finished(after_dense, worker, trained_runs, tmp_path_factory, monkeypatch):
    """Three levels, two reset points, two orders of samples, all trained."""
    sweep = after_dense("runs", *TWO_ORDERS)
    if "finished" not in trained_runs:
        for seed in (0, 1):
            worker(sweep, *(ticket for ticket in sweep.tickets if ticket.seed == seed)).train_tickets()
        trained_runs["finished"] = tmp_path_factory.mktemp("trained")
        shutil.copytree(sweep.run.uri, trained_runs["finished"], dirs_exist_ok=True)
    else:
        shutil.copytree(trained_runs["finished"], sweep.run.uri, dirs_exist_ok=True)
    monkeypatch.setattr(module, "pass_forward", in_this_process)
    return sweep


def test_all_parts_of_a_finished_run(finished, digits, monkeypatch, capsys):
    assert call(monkeypatch, finished.run.uri, "--data", digits, "--points", 5) == 0
    printed = capsys.readouterr().out
    for part in ("overlap", "layers", "distance", "barrier", "line", "agreement"):
        assert rows(finished.run, part), part
        assert Path(finished.run.uri, "analysis", f"{part}.png").read_bytes().startswith(b"\x89PNG"), part
    assert "missing" not in printed
    assert f"tables and pictures: {finished.run.uri}/analysis" in printed
    assert max(map(len, printed.splitlines())) <= 120
    barriers = rows(finished.run, "barrier")
    found = {(row["network"], row["level"], row["reset"], row["statistics"]) for row in barriers}
    networks = [*(("ticket", level) for level in range(3)), ("continue", None)]
    assert found == {
        (*network, reset, statistics)
        for network in networks
        for reset in ("0ep", "1ep")
        for statistics in ("interpolated", "recomputed")
    }
    assert all(
        (row["one_order"], row["other_order"], row["points"], row["images"]) == (0, 1, 5, 160) for row in barriers
    )


def test_the_ends_of_a_line_are_the_recorded_networks_and_the_barrier_follows_from_the_line(
    finished, digits, monkeypatch, capsys
):
    call(monkeypatch, finished.run.uri, "--data", digits, "--points", 3, "--parts", "barrier")
    lines, checked = rows(finished.run, "line"), 0
    for row in rows(finished.run, "barrier"):
        same = ("network", "level", "step", "statistics")
        line = [point for point in lines if all(point[name] == row[name] for name in same)]
        assert [point["position"] for point in line] == [0, 0.5, 1]
        errors, losses = ([point[name] for point in line] for name in ("error", "loss"))
        assert row["barrier"] == max(errors) - (errors[0] + errors[2]) / 2
        assert row["loss_barrier"] == max(losses) - (losses[0] + losses[2]) / 2
        if row["network"] == "ticket" and row["statistics"] == "interpolated":
            for end, error in ((0, row["one_error"]), (1, row["other_error"])):
                recorded = finished.run.result(Ticket(row["level"], row["step"], seed=end))
                assert error == pytest.approx(1 - recorded.top1)
                checked += 1
    assert checked == 12


def test_a_barrier_between_a_training_and_itself_is_exactly_zero(finished, digits, monkeypatch, capsys):
    twice = [(Ticket(level, 0), Ticket(level, 0)) for level in range(3)]
    monkeypatch.setattr("lottery.analysis.network_rows.line_ends", lambda tickets, experiment: twice)
    call(monkeypatch, finished.run.uri, "--data", digits, "--parts", "barrier")
    found = rows(finished.run, "barrier")
    assert [(row["level"], row["statistics"]) for row in found] == [
        (level, statistics) for level in range(3) for statistics in ("interpolated", "recomputed")
    ]
    assert {(row["barrier"], row["loss_barrier"]) for row in found} == {(0.0, 0.0)}


def test_masks_and_distances_are_those_of_the_run(finished, monkeypatch, capsys):
    assert call(monkeypatch, finished.run.uri) == 0
    assert "add --data DATASET" in capsys.readouterr().out
    assert not Path(finished.run.uri, "analysis", "barrier.parquet").exists()
    layers = rows(finished.run, "layers")
    for level, density in DENSITIES.items():
        kept = sum(row["kept"] for row in layers if row["level"] == level)
        assert kept == finished.run.result(Ticket(level, 0)).kept
        assert kept == round(density * sum(row["weights"] for row in layers if row["level"] == level))
    (nested,) = (
        row
        for row in rows(finished.run, "overlap")
        if (row["one_level"], row["other_level"], row["kernel"], row["chance"]) == (0, 1, "", "network")
    )
    assert nested["both_kept"] == nested["other_kept"]
    assert nested["expected"] == pytest.approx(nested["other_kept"] / 2, rel=1e-2)
    distances = rows(finished.run, "distance")
    assert all(row["relative"] > 0 for row in distances if not row["kernel"])
    assert {row["network"] for row in distances} == {"ticket", "dense", "continue"}
    alone = [row for row in distances if (row["network"], row["step"]) == ("dense", 0)]
    assert alone[0]["moved"] ** 2 == pytest.approx(sum(row["moved"] ** 2 for row in alone[1:]))


def test_churn_is_none_between_a_network_and_itself_and_accuracies_are_the_recorded_ones(
    finished, digits, monkeypatch, capsys
):
    call(monkeypatch, finished.run.uri, "--data", digits, "--parts", "agreement")
    found = rows(finished.run, "agreement")
    assert {row["kind"] for row in found} == {"dense", "order", "reset"}
    for row in found:
        step = {"0ep": 0, "1ep": 10}[row["other_reset"]]
        other = finished.run.result(Ticket(row["level"], step, seed=row["other_order"]))
        assert row["other_top1"] == pytest.approx(other.top1)
        if row["kind"] == "dense":
            assert row["one_top1"] == pytest.approx(finished.run.dense_result().top1)
        assert abs(row["one_top1"] - row["other_top1"]) <= row["churn"] + 1e-9


def test_levels_and_resets_can_be_chosen(finished, digits, monkeypatch, capsys):
    call(monkeypatch, finished.run.uri, "--data", digits, "--levels", "1,2", "--resets", "1ep", "--points", 2)
    assert {row["level"] for row in rows(finished.run, "layers")} == {1, 2}
    assert {(row["level"], row["reset"]) for row in rows(finished.run, "barrier")} == {
        (1, "1ep"),
        (2, "1ep"),
        (None, "1ep"),
    }


def test_a_half_finished_run_gives_what_there_is_and_says_what_is_missing(finished, digits, monkeypatch, capsys):
    for ticket in finished.tickets:
        if ticket.seed == 1 or ticket.level == 1:
            finished.run.reopen(ticket)
    Path(finished.run.uri, "masks", "02.safetensors").unlink()
    assert call(monkeypatch, finished.run.uri, "--data", digits) == 0
    printed = capsys.readouterr().out
    assert "missing: 1 of 3 masks are not there" in printed
    assert "missing: 10 of 16 tickets and controls have no result" in printed
    assert "add a seed to tickets.seeds (--set 'tickets.seeds=[0, 1]')" in printed
    assert rows(finished.run, "barrier") == []
    assert {row["level"] for row in rows(finished.run, "agreement")} == {0, 2}


def test_before_the_dense_run_there_is_nothing_and_that_is_said(small, digits, monkeypatch, capsys):
    sweep = small()
    assert call(monkeypatch, sweep.run.uri, "--data", digits) == 0
    printed = capsys.readouterr().out
    for line in (
        "overlap: ",
        "layers: ",
        "distance: ",
        "barrier: ",
        "agreement: ",
        "missing: the dense run is not done",
    ):
        assert f"\n{line}" in f"\n{printed}"


def test_replicates_are_compared(small, worker, monkeypatch, capsys):
    sweep = small("seeds=[0, 1]", "tickets.controls=[]")
    for replicate in sweep.replicates:
        worker(replicate).train_dense()
    assert call(monkeypatch, sweep.run.uri) == 0
    assert "missing: seed 1: 6 of 6 tickets and controls have no result" in capsys.readouterr().out
    found = [row for row in rows(sweep.run, "overlap") if row["kind"] == "replicate" and not row["kernel"]]
    assert {(row["one_replicate"], row["other_replicate"], row["one_level"]) for row in found} == {(0, 1, 0), (0, 1, 1)}


def test_methods_are_compared_by_another_run_directory(after_dense, monkeypatch, capsys):
    sweep, other = after_dense("runs"), after_dense("others", "masks.method=layerwise_magnitude")
    assert call(monkeypatch, sweep.run.uri, "--with", other.run.uri, "--parts", "overlap") == 0
    name = Path(other.run.uri).name
    found = [row for row in rows(sweep.run, "overlap") if row["kind"] == "run"]
    assert {(row["other_run"], row["one_level"], row["other_level"]) for row in found} == {(name, 0, 0), (name, 1, 1)}
    assert f"run ({name})" in capsys.readouterr().out


def test_a_run_of_another_model_is_refused(after_dense, monkeypatch):
    sweep = after_dense("runs")
    other = after_dense("others", "model.options={filters: 5, units: 16}")
    with pytest.raises(InputError, match="are of different networks: kernel conv_small/.* has shape") as raised:
        call(monkeypatch, sweep.run.uri, "--with", other.run.uri, "--parts", "overlap")
    assert type(raised.value) is InputError


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [({}, ("0",)), ({"CUDA_VISIBLE_DEVICES": "2,3"}, ("2",)), ({"CUDA_VISIBLE_DEVICES": "-1"}, ())],
)
def test_the_child_gets_one_gpu(visible, gpus):
    assert one_gpu(visible) == gpus


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--levels", "3"), "--levels: 3 is no level of .*; it has 0 to 1"),
        (("--levels", "a"), "argument --levels: a is not a list of numbers, such as 0,3,5"),
        (("--resets", "9ep"), "--resets: 9ep is no reset point of .*; it has 0ep, 0.5ep, 1ep"),
        (("--parts", "barriers"), "--parts: barriers is not a part; give some of overlap, layers, "),
        (("--parts", "layers,barrier"), "--parts: barrier takes forward passes over the dataset; give it as --data"),
        (("--points", "1"), "--points: 1 is less than a line's two ends"),
        (("--statistics-images", "-1"), "--statistics-images: -1 is negative"),
        (("--with", "RUN"), "--with: .* is given twice"),
        (("--with", "nowhere"), "nowhere is not a run directory"),
        (("--data", "nowhere"), "nowhere is not a dataset"),
    ],
)
def test_what_cannot_be_analysed_is_one_line(small, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    run = small().run.uri
    with pytest.raises(InputError, match=message) as raised:
        call(monkeypatch, run, *(run if argument == "RUN" else argument for argument in arguments))
    assert type(raised.value) is InputError


def test_another_dataset_than_the_sweeps_is_refused(small, monkeypatch, tmp_path):
    from tests.lottery.datasets import local_dataset

    uri, _ = local_dataset(tmp_path)
    with pytest.raises(InputError, match="--data .*: its hash is .*; give the dataset that the sweep ran on") as raised:
        call(monkeypatch, small().run.uri, "--data", uri)
    assert type(raised.value) is InputError


def test_a_damaged_mask_is_named(after_dense, monkeypatch):
    sweep = after_dense("runs")
    path = Path(sweep.run.uri, "masks", "01.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"01\.safetensors is damaged .*; delete it"):
        call(monkeypatch, sweep.run.uri, "--parts", "layers")


def test_a_missing_state_is_named(finished, digits, monkeypatch):
    Path(finished.run.uri, "tickets", Ticket(1, 10, seed=1).name, "state.safetensors").unlink()
    with pytest.raises(InputError, match=r"state\.safetensors is missing; delete it"):
        call(monkeypatch, finished.run.uri, "--data", digits, "--parts", "barrier")


def test_a_model_that_was_changed_since_is_refused(finished, digits, monkeypatch):
    import msgspec

    recorded = finished.run.provenance()
    finished.run.write_provenance(msgspec.structs.replace(recorded, model="0" * 16))
    with pytest.raises(InputError, match="its structure or code has changed since the dense run"):
        call(monkeypatch, finished.run.uri, "--data", digits, "--parts", "barrier")


def test_a_loss_that_is_not_finite_is_an_answer(tensorflow):
    from lottery.worker.forward_passes import Measurement

    measurement = object.__new__(Measurement)
    measurement._network, measurement._evaluation = SimpleNamespace(sums=None), SimpleNamespace(count=4)
    measurement._in_turns = lambda *_: ([], [[np.array([2, 4, loss, 4])] for loss in (8, math.nan, math.inf)])
    found = measurement._scores(0, "none", [{}] * 3)
    assert found == LinePoints(0, "none", (0.5,) * 3, (2.0, None, None), 4)
    assert decode_event(encode_event(found)) == found


LINE, LABELS = LinePoints(0, "interpolated", (0.5,), (None,), 4), Predictions(None, b"")


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([LINE, LABELS, Predictions(0, b"")], "answer of the line between a and b of run; run the same command again"),
        ([LINE, replace(LINE, statistics="recomputed"), LABELS], "answer with predictions; run the same command again"),
        ([LINE, replace(LINE, statistics="recomputed"), LABELS, Predictions(0, b"")], None),
        ([replace(LINE, statistics="none"), LABELS, Predictions(0, b"")], None),
    ],
)
def test_an_answer_that_is_missing_is_an_error(small, monkeypatch, events, words):
    from lottery.analysis.forward import pass_forward

    def supervise(module, told, environment, hang_after, on_line, other_ended):
        for event in events:
            on_line(encode_event(event))
        return Ended(0, "", "")

    monkeypatch.setattr("lottery.executor.child.supervise", supervise)
    asked = Passes(
        small().experiment, "data", "hash", 1, (0.0,), (Line("run", "a", "b"),), 64, (TrainedNetwork("run", "a"),)
    )
    if words is None:
        assert pass_forward(asked) == (events[:-2], events[-2:])
        return
    with pytest.raises(InputError, match=words) as caught:
        pass_forward(asked)
    assert type(caught.value) is InputError


@pytest.mark.cluster
def test_forward_passes_are_done_by_a_child(finished, digits, monkeypatch, capsys):
    from lottery.analysis.forward import pass_forward

    arguments = (finished.run.uri, "--data", digits, "--points", 3)
    call(monkeypatch, *arguments)
    expected = {name: rows(finished.run, name) for name in ("barrier", "line", "agreement")}
    monkeypatch.setattr(module, "pass_forward", pass_forward)
    call(monkeypatch, *arguments)
    assert {name: rows(finished.run, name) for name in expected} == expected


@pytest.mark.cluster
def test_an_error_of_the_child_is_one_line(finished, digits, monkeypatch):
    from lottery.analysis.forward import pass_forward

    monkeypatch.setattr(module, "pass_forward", pass_forward)
    Path(finished.run.uri, "tickets", Ticket(1, 10, seed=1).name, "state.safetensors").unlink()
    with pytest.raises(InputError, match=r"state\.safetensors is missing; delete it") as raised:
        call(monkeypatch, finished.run.uri, "--data", digits, "--parts", "barrier")
    assert type(raised.value) is InputError


@pytest.mark.cluster
def test_a_run_directory_in_a_bucket_is_analysed_as_one_on_disk(finished, digits, monkeypatch, capsys):
    arguments = ("--data", digits, "--points", 2)
    call(monkeypatch, finished.run.uri, *arguments)
    names = ("overlap", "layers", "distance", "barrier", "line", "agreement")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_proxy() as proxy:
        uri = proxy.uri(f"runs/{Path(finished.run.uri).name}")
        store = open_store(uri)
        for path in Path(finished.run.uri).rglob("*"):
            if path.is_file() and path.parent.name != "analysis":
                store.write(str(path.relative_to(finished.run.uri)), path.read_bytes())
        call(monkeypatch, uri, *arguments)
        for name in names:
            table = pq.read_table(io.BytesIO(store.read(f"analysis/{name}.parquet"))).to_pylist()
            assert table == rows(finished.run, name), name
            assert store.read(f"analysis/{name}.png").startswith(b"\x89PNG")
    assert "tables and pictures: s3://" in capsys.readouterr().out
