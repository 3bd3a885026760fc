"""`--plan` checks the cluster as a run would, and says what would run, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.small_sweep import arguments
from tests.cluster.submit import submit

pytestmark = pytest.mark.cluster


def test_plan_says_what_would_run_and_runs_nothing(data: Path, tmp_path: Path) -> None:
    estimate = ("--images-per-second", "900", "--price-per-hour", "2.5")
    done = submit("lottery_sweep.py", *arguments(data, tmp_path / "runs"), "--plan", *estimate)
    assert done.returncode == 0, done.stdout
    assert "gang: 2 tasks on 2 slots, S = 1.50, E = 0.75" in done.stdout
    assert "model: conv_small, 36,954 parameters, 36,784 of them prunable; the masks keep 7,357" in done.stdout
    assert "estimate: " in done.stdout
    assert " at 2.5 an hour of an executor" in done.stdout
    assert not list((tmp_path / "runs").rglob("*"))


def test_plan_finds_what_a_run_would_not_get_over(cluster, data: Path, tmp_path: Path) -> None:
    """Spark hands out GPUs that TensorFlow does not see."""
    sweep = arguments(data, tmp_path / "runs", "gang.dense_executors=auto")
    done = submit("lottery_sweep.py", *sweep, "--plan", options=cluster.submit_options())
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    assert "dense run: 176 steps on 2 executors" in done.stdout
    assert "gang: 2 tasks on 2 slots" in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: executor ")]
    assert sorted("GPU-stub-0" in line for line in errors) == [False, True]
    assert all("TensorFlow sees 0" in line and "install tensorflow[and-cuda]" in line for line in errors)
