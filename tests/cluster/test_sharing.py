"""Experiments below one --runs train nothing twice, and several seeds are one sweep."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cluster.cluster_sweep import begin
from tests.cluster.processes import wait_until
from tests.cluster.small_sweep import arguments, run_directory
from tests.cluster.submit import submit

pytestmark = pytest.mark.cluster

OTHER = "masks.densities=[0.5, 0.05]"  # of which the small sweep has the second, at the same level


def test_an_experiment_that_differs_in_densities_trains_what_is_new(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(undisturbed, runs)
    first = run_directory(runs)
    plan = submit("lottery_sweep.py", *arguments(data, runs, OTHER), "--plan")
    assert plan.returncode == 0, plan.stdout
    for line in (f"dense run: adopted from {first.name}", f"tickets: 4 adopted from {first.name}"):
        assert f"\n{line}\n" in plan.stdout
    assert list(runs.iterdir()) == [first]

    masks = submit("lottery_sweep.py", *arguments(data, runs, OTHER), "--until", "masks")
    assert masks.returncode == 0, masks.stdout
    assert "dense run: 176 steps" not in masks.stdout
    (second,) = [run for run in runs.iterdir() if run != first]
    assert masks.stdout.splitlines()[-1] == "masks: of densities 0.5, 0.05"
    assert (second / "dense" / "result.json").read_bytes() == (first / "dense" / "result.json").read_bytes()
    assert (second / "masks" / "01.safetensors").read_bytes() == (first / "masks" / "01.safetensors").read_bytes()
    assert not (second / "tickets").exists()

    done = submit("lottery_sweep.py", *arguments(data, runs, OTHER))
    assert done.returncode == 0, done.stdout
    assert f"tickets: 4 adopted from {first.name}" in done.stdout
    assert "gang: 4 trainings on 1 task" in done.stdout
    rows = {
        (row["level"], row["step"], row["control"]): row
        for row in pq.read_table(second / "results.parquet").to_pylist()
    }
    expected = pq.read_table(first / "results.parquet").to_pylist()
    assert len(rows) == 8
    for row in expected:
        if row["level"] == 1:
            assert rows[1, row["step"], row["control"]] == row


@pytest.mark.long
def test_several_seeds_are_one_sweep_that_is_killed_and_finished(cluster, data, undisturbed, tmp_path, start) -> None:
    runs, log = tmp_path / "runs", tmp_path / "0.log"
    settings = ("seeds=[0, 1]", "masks.densities=[0.2, 0.05]", "trellis=[0ep, 1ep]", "gang.bundle=2")
    sweep = begin(start, cluster, data, runs, *settings)
    wait_until(lambda: len(list(runs.glob("*/seed-*/tickets/*/result.json"))) >= 2, 240)
    assert "dense runs: 2 of 176 steps, 2 at once, states kept at 0, 44" in log.read_text()
    assert "gang: 12 trainings on 2 tasks" in log.read_text()
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/seed-*/*/*/result.json")}
    sweep.send_signal(signal.SIGTERM)
    sweep.wait(60)
    again = begin(start, cluster, data, runs, *settings)
    assert again.wait(240) == 0, (tmp_path / "1.log").read_text()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    run = run_directory(runs)
    rows = pq.read_table(run / "results.parquet").to_pylist()
    assert {row["replicate"] for row in rows} == {0, 1}
    assert len({(row["replicate"], row["level"], row["step"], row["control"]) for row in rows}) == len(rows) == 12
    assert {row["status"] for row in rows} == {"done"}
    assert "mean of 2 seeds" in (tmp_path / "1.log").read_text()
    # Seed 0 is what a sweep of that seed alone is.
    alone = {(row["density"], row["step"], row["control"]): row["loss"] for row in _rows(undisturbed)}
    found = {(row["density"], row["step"], row["control"]): row["loss"] for row in rows if row["replicate"] == 0}
    assert found.items() <= alone.items()


def _rows(runs: Path) -> list[dict]:
    return pq.read_table(run_directory(runs) / "results.parquet").to_pylist()
