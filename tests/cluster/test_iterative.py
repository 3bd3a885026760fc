"""Iterative pruning on a cluster: chains of rounds, killed in the middle and finished by the same command."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lottery.run import blobs
from tests.cluster.cluster_sweep import begin
from tests.cluster.processes import NOTICE, ROUND_UP, children, wait_until
from tests.cluster.small_sweep import arguments, run_directory
from tests.cluster.submit import submit

pytestmark = pytest.mark.cluster
SEEDS, RESETS, ROUNDS = (0, 1), (0, 44), 3
CHAINS = len(SEEDS) * len(RESETS)
SETTINGS = (
    "seeds=[0, 1]",
    "trellis=[0ep, 1ep]",
    "masks={iterative: {keep: .4, rounds: 3}}",
    "tickets.controls=[]",
)


def test_a_sweep_that_is_killed_between_rounds_ends_as_an_undisturbed_one(cluster, data, tmp_path, start) -> None:
    runs, log = tmp_path / "runs", tmp_path / "1.log"
    sweep = begin(start, cluster, data, runs, *SETTINGS)
    wait_until(lambda: any(_level(path) == 1 for path in _results(runs)), 240)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait(60)
    wait_until(lambda: not children(runs, guards=True), NOTICE + ROUND_UP)
    before = {path: path.stat().st_mtime_ns for path in [*_results(runs), *runs.glob("*/seed-*/dense/result.json")]}
    assert len(_results(runs)) < CHAINS * ROUNDS

    again = begin(start, cluster, data, runs, *SETTINGS)
    assert again.wait(240) == 0, log.read_text()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    left = CHAINS * ROUNDS - sum(path.parent.parent.name == "tickets" for path in before)
    assert f"gang: {left} trainings" in log.read_text()
    assert "dense run" not in log.read_text()
    rows = pq.read_table(run_directory(runs) / "results.parquet").to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    assert len({(row["replicate"], row["step"], row["level"]) for row in rows}) == len(rows) == CHAINS * ROUNDS
    for seed in SEEDS:
        for reset in RESETS:
            _check_chain(run_directory(runs) / f"seed-{seed}", reset)

    undisturbed = tmp_path / "undisturbed"
    done = submit("lottery_sweep.py", *arguments(data, undisturbed, *SETTINGS))
    assert done.returncode == 0, done.stdout
    found = _states(runs)
    assert len(found) == CHAINS * ROUNDS + len(SEEDS)
    assert found == _states(undisturbed)


def _results(runs: Path) -> list[Path]:
    return sorted(runs.glob("*/seed-*/tickets/*/result.json"))


def _level(result: Path) -> int:
    return int(result.parent.name[:2])


def _check_chain(run: Path, reset: int) -> None:
    """Each mask of the chain lies within the one before, and has the weights that its ticket's result counts."""
    masks = [run / "masks" / "00.safetensors"]
    masks += [run / "masks" / f"{level:02}-{reset:06}-s0.safetensors" for level in range(1, ROUNDS)]
    before = None
    for level, path in enumerate(masks):
        mask = blobs.unpack_mask(path.read_bytes())
        result = json.loads((run / "tickets" / f"{level:02}-{reset:06}-s0" / "result.json").read_text())
        assert result["kept"] == sum(np.count_nonzero(kept) for kept in mask.values())
        if before is not None:
            assert not any(np.any(kept & ~before[name]) for name, kept in mask.items())
        before = mask


def _states(runs: Path) -> dict[str, dict[str, bytes]]:
    """The final states of all trainings, to the bit."""
    found = {}
    for path in runs.glob("*/seed-*/**/state.safetensors"):
        arrays, _ = blobs.unpack(path.read_bytes())
        found["/".join(path.parts[len(runs.parts) + 1 : -1])] = {name: each.tobytes() for name, each in arrays.items()}
    return found
