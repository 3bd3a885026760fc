"""A small sweep of real digits through spark-submit on one machine: to its end, again, interrupted, planned."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.cluster.processes import descendants, wait_until
from tests.cluster.small_sweep import TRAININGS, arguments, run_directory
from tests.cluster.submit import submit

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


@pytest.mark.parametrize(
    ("number", "whom", "status", "says"),
    [
        (signal.SIGINT, "driver", 130, "interrupted"),
        (signal.SIGTERM, "driver", 143, "terminated"),
        (
            signal.SIGTERM,
            "spark-submit",
            143,
            "error: Spark has ended, by SIGTERM or because its process or application was killed",
        ),
    ],
)
def test_a_sweep_that_is_told_to_end_says_so_in_one_line_and_leaves_nothing_behind(
    data: Path, tmp_path: Path, start, number: signal.Signals, whom: str, status: int, says: str
) -> None:
    runs = tmp_path / "runs"
    sweep = start("lottery_sweep.py", *arguments(data, runs))
    wait_until(lambda: descendants(sweep.pid, "lottery.worker"))
    children = descendants(sweep.pid, "lottery.worker")
    (driver,) = [each for each in descendants(sweep.pid, "jobs/lottery_sweep.py") if "python" in each.name()]
    (driver if whom == "driver" else sweep).send_signal(number)
    assert sweep.wait(60) == status
    log = (tmp_path / "0.log").read_text()
    last = [line for line in log.splitlines() if "trainings done" not in line][-2:]
    assert last[0].startswith("dense run: ")
    assert last[1] == f"{says}; run the same command again to continue"
    wait_until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 30)
    wait_until(lambda: not list(runs.glob("*/claim.json")), 10)
