"""A small sweep of real digits through spark-submit on one machine: to its end, again, interrupted, planned."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.cluster.conftest import descendants, submit, wait_until
from tests.cluster.small_sweep import TRAININGS, arguments, run_directory

pytestmark = pytest.mark.cluster


def test_results_are_whole_and_tidy(undisturbed: Path) -> None:
    run = run_directory(undisturbed)
    rows = pq.read_table(run / "results.parquet").to_pylist()
    assert len(rows) == TRAININGS
    assert {row["status"] for row in rows} == {"done"}
    proper = [row for row in rows if row["control"] == "none"]
    assert len({(row["level"], row["step"]) for row in proper}) == 9
    assert all(row["kept"] == round(row["density"] * row["prunable"]) for row in rows)
    assert {row["prunable"] for row in rows} == {36_784}
    assert {row["task"] for row in rows} == {0, 1}
    assert all(":" in row["executor"] for row in rows)
    dense = json.loads((run / "dense" / "result.json").read_text())
    assert dense["top1"] > 0.9
    best = max(row["top1"] for row in proper if row["level"] == 1)
    assert best > next(row["top1"] for row in rows if row["level"] == 1 and row["control"] == "reinit")
    assert (run / "report" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert not (run / "claim.json").exists()


def test_a_second_run_trains_nothing(data: Path, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.suffix in (".json", ".jsonl")}
    again = submit("lottery_sweep.py", *arguments(data, undisturbed))
    assert again.returncode == 0
    assert "9 of 9 tickets are done, 3 of 3 controls" in again.stdout
    assert "nothing to train" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_interrupted_sweep_stops_and_leaves_nothing_behind(data: Path, tmp_path: Path, start) -> None:
    runs = tmp_path / "runs"
    sweep = start("lottery_sweep.py", *arguments(data, runs))
    wait_until(lambda: descendants(sweep.pid, "lottery.worker"))
    children = descendants(sweep.pid, "lottery.worker")
    (driver,) = [each for each in descendants(sweep.pid, "jobs/lottery_sweep.py") if "python" in each.name()]
    driver.send_signal(signal.SIGINT)
    assert sweep.wait(60) == 130
    log = (tmp_path / "0.log").read_text()
    assert "interrupted; run the same command again, it does what is left" in log
    assert "Traceback" not in log
    assert "anew" not in log
    wait_until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 30)
    assert not list(runs.glob("*/claim.json"))
