"""Executors that train together: the dense run on the whole gang, and tickets on several executors each."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from tests.cluster.conftest import children, gone, wait_until
from tests.cluster.small_sweep import run_directory
from tests.cluster.test_standalone import begin

pytestmark = pytest.mark.cluster

PORTS = 10
SETTINGS = (
    "masks.densities=[0.2, 0.05]",
    "tickets.controls=[]",
    "gang.bundle=3",
    "gang.dense_executors=auto",
    "gang.executors_per_ticket=2",
    "gang.checkpoint=1",
)


def pair(runs: Path) -> dict[psutil.Process, list[str]]:
    """The two children that train together, with the endpoints that they were told; none where there are not two."""
    with contextlib.suppress(psutil.Error, KeyError, ValueError):  # they begin or end just now
        told = {child: json.loads(child.environ()["TF_CONFIG"])["cluster"]["worker"] for child in children(runs)}
        return told if len(told) == 2 else {}
    return {}


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
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        sweep = begin(start, cluster, data, runs, *SETTINGS, f"gang.ports=[{first}, {first + PORTS - 1}]")
        for moment in ("*/dense/state.safetensors", "*/tickets/*/result.json"):
            wait_until(lambda moment=moment: list(runs.glob(moment)))
            told = wait_until(lambda: pair(runs))
            (ends, same), victim = told.values(), list(told)[-1]
            assert ends == same
            assert len(set(ends)) == 2
            assert all(first < int(end.rsplit(":", 1)[1]) < first + PORTS for end in ends)
            victim.kill()
            wait_until(lambda victim=victim: gone(victim))
        assert sweep.wait(240) == 0, (tmp_path / "0.log").read_text()
    log = (tmp_path / "0.log").read_text()
    assert "steps on 2 executors" in log
    assert "gang: 6 trainings on 2 tasks" in log
    assert "planning what is left anew" not in log
    assert not children(runs, guards=True)
    check(runs, undisturbed)
