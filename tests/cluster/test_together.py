"""Executors that train together: the dense run on the whole gang, and tickets on several executors each."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from tests.cluster.conftest import descendants, wait_until
from tests.cluster.small_sweep import arguments, run_directory
from tests.cluster.standalone import Cluster

pytestmark = pytest.mark.cluster

FIRST_PORT = 41_700
SETTINGS = (
    "masks.densities=[0.2, 0.05]",
    "tickets.controls=[]",
    "gang.check_gpus=false",
    "gang.bundle=3",
    "gang.dense_executors=auto",
    "gang.executors_per_ticket=2",
    "gang.checkpoint=1",
    f"gang.ports=[{FIRST_PORT}, {FIRST_PORT + 9}]",
)


def begin(start, cluster: Cluster, data: Path, runs: Path):
    return start("lottery_sweep.py", *arguments(data, runs, *SETTINGS), options=cluster.submit_options())


def children(cluster: Cluster) -> list[psutil.Process]:
    """Those that train; each has a small process beside it that guards its end."""
    below = [child for executor in cluster.executors() for child in descendants(executor.pid, "lottery.worker")]
    return [child for child in below if os.getpgid(child.pid) == child.pid]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def found(runs: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/tickets/*/result.json")}


def check(runs: Path, undisturbed: Path) -> None:
    """What was trained is what one executor trains, but for the order of sums."""
    dense = json.loads((run_directory(runs) / "dense" / "result.json").read_text())
    assert (dense["status"], dense["executors"]) == ("done", 2)
    for point in ("trellis/000022.safetensors", "trellis/000044.safetensors"):
        expected, ours = (load_file(run_directory(folder) / point) for folder in (undisturbed, runs))
        assert expected.keys() == ours.keys()
        for path, value in expected.items():
            assert np.abs(ours[path] - value).max() < 1e-3, path
    results = found(runs)
    assert len(results) == 2 * 3
    for name, result in results.items():
        assert result["status"] == "done", result["note"]
        alone = json.loads((run_directory(undisturbed) / "tickets" / name / "result.json").read_text())
        assert result["top1"] == pytest.approx(alone["top1"], abs=0.05)
        assert (result["kept"], result["steps"]) == (alone["kept"], alone["steps"])


def test_two_executors_train_what_one_does_though_a_port_is_taken_and_children_die(
    cluster, data, undisturbed, tmp_path, start
) -> None:
    runs = tmp_path / "runs"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", FIRST_PORT))
        taken.listen()
        sweep = begin(start, cluster, data, runs)
        for moment in ("*/dense/state.safetensors", "*/tickets/*/result.json"):
            wait_until(lambda moment=moment: list(runs.glob(moment)) and len(children(cluster)) == 2, 120)
            ends = [json.loads(child.environ()["TF_CONFIG"])["cluster"]["worker"] for child in children(cluster)]
            assert ends[0] == ends[1]
            assert len(set(ends[0])) == 2
            assert all(FIRST_PORT < int(end.rsplit(":", 1)[1]) <= FIRST_PORT + 9 for end in ends[0])
            victim = children(cluster)[-1]
            victim.send_signal(signal.SIGKILL)
            wait_until(lambda victim=victim: gone(victim), 60)
        assert sweep.wait(240) == 0, (tmp_path / "0.log").read_text()
    log = (tmp_path / "0.log").read_text()
    assert "steps on 2 executors" in log
    assert "gang: 6 trainings on 2 tasks" in log
    assert "planning what is left anew" not in log
    assert children(cluster) == []
    check(runs, undisturbed)
