"""The gang on a real cluster: separate master, workers, executors and driver; and what happens when one is lost."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import psutil
import pytest

from tests.cluster.conftest import descendants, wait_until
from tests.cluster.small_sweep import TRAININGS, arguments, measured, results
from tests.cluster.standalone import Cluster

pytestmark = pytest.mark.cluster


def begin(start, cluster: Cluster, data: Path, runs: Path):
    chosen = arguments(data, runs, "gang.check_gpus=false", "gang.bundle=2")
    return start("lottery_sweep.py", *chosen, options=cluster.submit_options())


def children(cluster: Cluster) -> list[psutil.Process]:
    return [child for executor in cluster.executors() for child in descendants(executor.pid, "lottery.worker")]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_gang_on_two_executors_with_a_gpu_each(cluster, data, undisturbed, tmp_path, start) -> None:
    runs = tmp_path / "runs"
    sweep = begin(start, cluster, data, runs)
    seen = set()

    def look() -> bool:
        for child in children(cluster):
            with contextlib.suppress(psutil.Error):
                seen.add(child.environ()["CUDA_VISIBLE_DEVICES"])
        return sweep.poll() is not None

    wait_until(look, 200)
    assert sweep.returncode == 0, (tmp_path / "0.log").read_text()
    assert seen == {"GPU-stub-0", "GPU-stub-1"}
    found = [json.loads(path.read_text()) for path in results(runs)]
    assert len({result["executor"] for result in found}) == 2
    assert measured(runs) == measured(undisturbed)


@pytest.mark.parametrize("lost", ["a Python worker", "an executor", "a machine"])
def test_what_is_lost_is_planned_anew(cluster, data, undisturbed, tmp_path, start, lost) -> None:
    runs = tmp_path / "runs"
    sweep = begin(start, cluster, data, runs)
    wait_until(lambda: 0 < len(results(runs)) < TRAININGS and children(cluster), 200)
    before = children(cluster)
    if lost == "a Python worker":
        victims = [before[0].parent()]
    elif lost == "an executor":
        victims = [cluster.executors()[0]]
    else:
        victims = cluster.machine(0)
    for victim in victims:
        victim.kill()
    kept = {path: path.stat().st_mtime_ns for path in results(runs)}
    assert sweep.wait(240) == 0, (tmp_path / "0.log").read_text()
    assert "planning what is left anew, on" in (tmp_path / "0.log").read_text()
    assert all(gone(child) for child in before)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert measured(runs) == measured(undisturbed)
