"""A frontier search through spark-submit: killed in a round, it goes on with that round, and ends as if undisturbed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cluster.processes import NOTICE, ROUND_UP, children, wait_until
from tests.cluster.small_sweep import arguments, kept, measured, results, run_directory, unchanged
from tests.cluster.submit import submit

pytestmark = pytest.mark.cluster
LEVELS, RESETS = 6, 2
SETTINGS = (
    "search=frontier",
    "verdict.margin=2",
    "masks.densities=[.4, .2, .1, .05, .02, .01]",
    "trellis=[0ep, 1ep]",
)


def search(said: str) -> list[str]:
    """The lines of the search in a report."""
    lines = said.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("search: the sparsest level"))
    return lines[begin : begin + 2 + RESETS]


def test_a_search_that_is_killed_in_a_round_goes_on_with_it(data: Path, tmp_path: Path, start) -> None:
    runs, log = tmp_path / "runs", tmp_path / "1.log"
    sweep = start("lottery_sweep.py", *arguments(data, runs, *SETTINGS))
    wait_until(lambda: len(results(runs)) > RESETS, 240)  # in the second round
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait(60)
    wait_until(lambda: not children(runs, guards=True), NOTICE + ROUND_UP)
    before = kept(runs)

    again = start("lottery_sweep.py", *arguments(data, runs, *SETTINGS))
    assert again.wait(240) == 0, log.read_text()
    assert unchanged(before)
    assert "search: round 1," not in log.read_text()

    undisturbed = tmp_path / "undisturbed"
    done = submit("lottery_sweep.py", *arguments(data, undisturbed, *SETTINGS))
    assert done.returncode == 0, done.stdout
    assert measured(runs) == measured(undisturbed)
    assert search(log.read_text()) == search(done.stdout)
    tickets = [path for path in results(runs) if "-reinit-" not in path.parent.name]
    assert len(tickets) <= RESETS * 3
    reinit = {path.parent.name[:2] for path in results(runs) if "-reinit-" in path.parent.name}
    assert reinit <= {path.parent.name[:2] for path in tickets}

    grid = submit("lottery_sweep.py", *arguments(data, runs, *SETTINGS, "search=grid"))
    assert grid.returncode == 0, grid.stdout
    assert len(results(runs)) == LEVELS * (RESETS + 1)
    assert unchanged(before)
    assert run_directory(runs).name == run_directory(undisturbed).name
