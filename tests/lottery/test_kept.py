"""A dataset and a run directory that an earlier version made: they open, report and continue."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lottery.__main__ import main
from lottery.driver.prepare import prepare
from lottery.driver.sweep import run_sweep
from lottery.tickets.tickets import Ticket
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
    assert pq.read_table(KEPT / "runs" / RUN / "results.parquet").equals(
        pq.read_table(Path(sweep.run.uri) / "results.parquet")
    )


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
    result = next(result for result in sweep.run.results() if result.ticket == TICKET)
    assert (result.status, result.kept, result.steps) == ("done", 52, 10)
    # The model is still the one that was recorded; another version of a library may be noted.
    assert "structure" not in result.note
