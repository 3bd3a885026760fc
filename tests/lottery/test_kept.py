"""A dataset and a run directory that an earlier version made: they open, report and continue."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lottery.__main__ import main
from lottery.driver.prepare import prepare
from lottery.driver.sweep import run_sweep
from lottery.protocol import Progress
from lottery.run.run_directory import DENSE, RunDirectory
from lottery.tickets.tickets import Ticket
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.dataset.verify import verify

KEPT = Path(__file__).parents[1] / "kept"
RUN = "kept-ad7a771fb404"
TICKET = Ticket(1, 5)


@pytest.fixture
def sweep(tmp_path):
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    return prepare(str(KEPT / "experiment.yaml"), str(tmp_path / "dataset"), str(tmp_path / "runs"))


def contents(sweep):
    root = Path(sweep.run.uri)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def no_spark():
    raise AssertionError("there is something to do")


def test_the_dataset_opens_and_holds_what_it_held():
    dataset = Dataset.open(str(KEPT / "dataset"))
    assert dataset.content_hash == "b89ffe41483ed57cfccbc311228175ab4fd891555f6509cd038106e8a888057c"
    assert verify(dataset) == 160
    images, labels = dataset.split("train").gather(np.arange(80))
    assert images.shape == (80, 8, 8, 3)
    assert np.bincount(labels).tolist() == [8] * 10


def test_a_finished_sweep_is_reported_without_spark(sweep, capsys):
    assert Path(sweep.run.uri).name == RUN
    before = contents(sweep)
    assert run_sweep(sweep, no_spark) == 0
    assert "50.00%" in capsys.readouterr().out
    after = contents(sweep)
    assert {name for name in before if before[name] != after[name]} <= {"results.parquet"}
    kept = pq.read_table(KEPT / "runs" / RUN / "results.parquet")
    found = pq.read_table(Path(sweep.run.uri) / "results.parquet")
    assert found.column_names[: kept.num_columns] == kept.column_names  # new columns come after those
    assert kept.equals(found.select(kept.column_names))


@pytest.mark.parametrize(("command", "said"), [("status", "10 of 10 are done"), ("report", "20.00%")])
def test_the_command_line_reads_it(sweep, capsys, monkeypatch, command, said):
    monkeypatch.setattr("sys.argv", ["lottery", command, sweep.run.uri])
    assert main() == 0
    assert said in capsys.readouterr().out


def test_a_training_that_was_saved_at_its_end_is_finished_and_not_trained_again(sweep, worker):
    before = {result.ticket: result for result in sweep.run.results()}
    (Path(sweep.run.uri) / "tickets" / TICKET.name / "result.json").unlink()
    assert sweep.left() == [TICKET]
    contents_before = contents(sweep)
    worker(sweep, TICKET).train_tickets()
    result = next(result for result in sweep.run.results() if result.ticket == TICKET)
    assert (result.status, result.top1, result.loss, result.seconds) == (
        "done",
        before[TICKET].top1,
        before[TICKET].loss,
        before[TICKET].seconds,
    )
    for name, blob in contents_before.items():
        if name.startswith(("trellis", "masks", "dense", "tickets")) and TICKET.name not in name:
            assert contents(sweep)[name] == blob


def test_a_ticket_is_trained_from_the_states_and_masks_there_are(sweep, worker):
    folder = Path(sweep.run.uri) / "tickets" / TICKET.name
    shutil.rmtree(folder)
    assert sweep.left() == [TICKET]
    worker(sweep, TICKET).train_tickets()
    (result,) = [result for result in sweep.run.results() if result.ticket == TICKET]
    assert (result.status, result.kept, result.steps) == ("done", 52, 10)
    check_scores(result, TICKET)


def check_scores(result, ticket):
    """As they were recorded, but for how another processor rounds."""
    path = KEPT / "runs" / RUN / ("dense" if ticket is None else f"tickets/{ticket.name}") / "result.json"
    recorded = json.loads(path.read_text())
    assert result.loss == pytest.approx(recorded["loss"], rel=1e-4)
    assert result.top1 == pytest.approx(recorded["top1"], abs=0.02)


def begun(tmp_path, runs):
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    return prepare(str(KEPT / "experiment.yaml"), str(tmp_path / "dataset"), str(tmp_path / runs))


def test_a_dense_run_that_was_killed_goes_on(tmp_path, worker):
    sweep, told = begun(tmp_path, "half-dense"), []
    assert sweep.run.checkpoint(DENSE).step == 5
    worker(sweep, tell=told.append).train_dense()
    assert sum(event.images for event in told if isinstance(event, Progress)) == 10 * 16
    assert [row["step"] for row in sweep.run.metrics(DENSE)] == [5, 10, 15]
    check_scores(sweep.run.dense_result(), None)
    for step in (0, 5):
        made, kept = sweep.run.trellis_state(step), RunDirectory(open_store(KEPT / "runs" / RUN)).trellis_state(step)
        assert all(np.allclose(made.variables[path], value, atol=1e-6) for path, value in kept.variables.items())


def test_a_ticket_that_was_killed_goes_on(tmp_path, worker):
    ticket = Ticket(1, 0)
    sweep, told = begun(tmp_path, "half-ticket"), []
    assert sweep.run.checkpoint(ticket.name).step == 5
    worker(sweep, ticket, tell=told.append).train_tickets()
    assert sum(event.images for event in told if isinstance(event, Progress)) == 10 * 16
    (result,) = sweep.run.results()
    check_scores(result, ticket)
