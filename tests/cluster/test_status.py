"""`status` on a sweep that runs: in processes of its own, as a user calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import descendants, wait_until
from tests.cluster.small_sweep import TRAININGS, arguments, run_directory
from tests.cluster.submit import ROOT, submit

pytestmark = pytest.mark.cluster

# Prints the status, and which of the large libraries that took.
POLL = """
import sys
from lottery.__main__ import main
sys.argv = ["lottery", "status", sys.argv[1], "--json", "--price-per-hour", "6"]
main()
print([name for name in ("tensorflow", "pyspark", "matplotlib") if name in sys.modules])
"""


def poll(run: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", POLL, str(run)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tree, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    found: dict[str, Any] = json.loads(tree)
    return found


def at_work(run: Path, stage: str, seen: list[dict[str, Any]]) -> bool:
    """Whether a task of this stage says what it is training."""
    if not (run / "experiment.yaml").exists():
        return False
    seen.append(poll(run))
    return seen[-1]["stage"] == stage and any(task["trainings"] for task in seen[-1]["tasks"])


def test_a_sweep_is_followed_killed_and_finished(data: Path, tmp_path: Path, start) -> None:
    runs, seen = tmp_path / "runs", []
    # Long enough for heartbeats to tell of it, which come after 5 s.
    settings = ("training.length=60ep", "gang.checkpoint=3", "tickets.controls=[]", "masks.densities=[0.2, 0.05]")
    sweep = start("lottery_sweep.py", *arguments(data, runs, *settings))
    run = wait_until(lambda: list(runs.glob("*/experiment.yaml")))[0].parent
    wait_until(lambda: at_work(run, "tickets", seen), 240)
    now = seen[-1]
    assert (now["state"], now["trainings"]["total"], now["dense"][0]["status"]) == ("running", 6, "done")
    assert {state["state"] for state in seen} == {"running"}
    task = next(task for task in now["tasks"] if task["trainings"])
    assert 0 < task["step"] <= task["steps"] == 60 * (task["steps"] // 60)
    assert task["images_per_s"] > 0
    assert task["loss"] > 0
    assert task["memory_mib"] > 100
    assert task["cpu_percent"] > 0
    assert now["cost"]["spent"] > 0
    (child, *_) = wait_until(lambda: descendants(sweep.pid, "lottery.worker"))
    child.kill()
    died = wait_until(lambda: [fault for fault in poll(run)["faults"] if fault["kind"] == "process died"], 60)
    assert died[0]["message"].startswith("killed by SIGKILL")
    assert "its process died: killed by SIGKILL" in (tmp_path / "0.log").read_text()
    (driver,) = [each for each in descendants(sweep.pid, "jobs/lottery_sweep.py") if "python" in each.name()]
    driver.send_signal(signal.SIGTERM)
    assert sweep.wait(90) == 143
    stopped = poll(run)
    assert (stopped["state"], stopped["tasks"]) == ("stopped", [])
    assert stopped["ended"]
    done = submit("lottery_sweep.py", *arguments(data, runs, *settings))
    assert done.returncode == 0, done.stdout
    after = poll(run)
    assert (after["state"], after["trainings"]["done"], after["seconds_left"]) == ("done", 6, 0)
    assert after["executor_hours"] > stopped["executor_hours"]


def test_a_finished_sweep_has_no_faults(undisturbed: Path) -> None:
    found = poll(run_directory(undisturbed))
    assert (found["state"], found["trainings"]["done"], found["faults"]) == ("done", TRAININGS, [])
    assert found["executor_hours"] > 0
