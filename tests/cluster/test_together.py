"""Executors that train together: the dense run on the whole gang, and tickets on several executors each."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from lottery.run import checkpoint
from tests.cluster.cluster_sweep import begin
from tests.cluster.processes import NOTICE, ROUND_UP, children, descendants, gone, send, wait_until
from tests.cluster.small_sweep import TRAININGS, after_dense, run_directory

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
    """The two children that train together, with their endpoints; empty unless there are exactly two."""
    with contextlib.suppress(psutil.Error, KeyError, ValueError):  # they are just starting or ending
        told = {child: json.loads(child.environ()["TF_CONFIG"])["cluster"]["worker"] for child in children(runs)}
        return told if len(told) == 2 else {}
    return {}


def found(runs: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/tickets/*/result.json")}


def check(runs: Path, undisturbed: Path) -> None:
    """The results are those of one executor, except for the order of sums."""
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
        check_ticket(result, undisturbed, name)


def check_ticket(result: dict[str, object], undisturbed: Path, name: str) -> None:
    """The result is that of a single executor, except that the order of sums lets single images change sides."""
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
        settings = (*SETTINGS, f"gang.ports=[{first}, {first + PORTS - 1}]")
        sweep = begin(start, cluster, data, runs, *settings)
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
    assert "planning the remaining work again" not in log
    assert not children(runs, guards=True)
    check(runs, undisturbed)


def test_a_pair_outlives_what_befalls_a_child_or_a_ticket(cluster, data, undisturbed, tmp_path, start) -> None:
    """A child is stopped, which holds up the other; a ticket diverges, another does not fit into memory."""
    runs, log = tmp_path / "runs", tmp_path / "0.log"
    settings = (
        "model={name: treacherous:conv_small}",
        "masks.densities=[0.05, 0.02]",
        "trellis=[0ep, 1ep]",
        "tickets.controls=[]",
        "gang.bundle=2",
        "gang.executors_per_ticket=2",
        "gang.hang_after=40",
    )
    sweep = begin(start, cluster, data, runs, *settings, more=("--py-files", "tests/cluster/treacherous.py"))
    stopped = list(wait_until(lambda: pair(runs)))[-1]
    stopped.send_signal(signal.SIGSTOP)
    assert sweep.wait(420) == 1, log.read_text()
    assert not children(runs, guards=True)
    assert "child ended: no progress for 40 s" in cluster.executors_said()
    assert "planning the remaining work again" not in log.read_text()
    results = found(runs)
    assert len(results) == 4
    diverged, failed = results.pop("00-000000-s0"), results.pop("01-000000-s0")
    assert diverged["status"] == "diverged"
    assert diverged["note"].startswith("the loss is nan at step 5")
    assert failed["status"] == "failed"
    assert failed["note"].startswith("out of memory")
    assert "\nwarning: ticket 01-000000-s0 failed: out of memory" in log.read_text()
    check_ticket(results["00-000044-s0"], undisturbed, "01-000044-s0")
    check_ticket(results["01-000044-s0"], undisturbed, "02-000044-s0")


@pytest.mark.long
def test_a_pair_that_is_lost_is_planned_anew_down_to_one(cluster, data, undisturbed, tmp_path, start) -> None:
    """An executor is killed, then the driver; in the next run a machine is given notice and taken away for good."""
    runs = tmp_path / "runs"
    run = after_dense(undisturbed, runs)
    # All in one bundle, which is saved only when the pair ends.
    settings = ("gang.bundle=12", "gang.executors_per_ticket=2", "gang.checkpoint=1e6")

    def steps() -> int:
        """How far the checkpoints are, together."""
        return sum(checkpoint.unpack(path.read_bytes()).step for path in run.glob("tickets/*/state.safetensors"))

    def training() -> dict[psutil.Process, list[str]]:
        """The pair, once it has trained on something."""
        with contextlib.suppress(FileNotFoundError):
            beat = json.loads((run / "heartbeats" / "000.json").read_text())
            return pair(runs) if beat["images"] else {}
        return {}

    def lose(victims: Callable[[psutil.Process], list[psutil.Process]], by: signal.Signals) -> None:
        """Sends the signal, and checks that both children end and that what they have trained so far is saved."""
        both = list(wait_until(training))
        send(signal.SIGSTOP, both)  # so that nothing happens between this check and the loss
        before = steps()
        send(by, victims(both[-1]))
        send(signal.SIGCONT, both)
        wait_until(lambda: all(map(gone, both)), NOTICE + ROUND_UP)
        assert steps() > before

    def machine(number: int) -> list[psutil.Process]:
        worker, *others = cluster.machine(number)
        worker.kill()  # else it would start another executor in its last second
        return others

    def executor_of(child: psutil.Process) -> list[psutil.Process]:
        return [executor for executor in cluster.executors() if child in descendants(executor.pid)]

    first, log = begin(start, cluster, data, runs, *settings), tmp_path / "0.log"
    lose(executor_of, by=signal.SIGKILL)
    wait_until(lambda: log.read_text().count("gang: 12 trainings on 2 tasks") == 2)
    lose(lambda _: descendants(first.pid, "jobs/lottery_sweep.py"), by=signal.SIGKILL)
    first.wait(60)
    wait_until(lambda: not children(runs, guards=True), NOTICE + ROUND_UP)
    assert "planning the remaining work again, on the executors that are left" in log.read_text()

    (run / "heartbeats" / "000.json").unlink()
    second, log = begin(start, cluster, data, runs, *settings, all_stay=False), tmp_path / "1.log"
    lose(lambda _: machine(0), by=signal.SIGTERM)
    assert second.wait(240) == 0, log.read_text()
    assert not children(runs, guards=True)
    assert "planning the remaining work again, on the executors that are left" in log.read_text()
    assert "gang: 12 trainings on 2 tasks" in log.read_text()
    assert "gang: 12 trainings on 1 task" in log.read_text()
    results = found(runs)
    assert len(results) == TRAININGS
    for name, result in results.items():
        check_ticket(result, undisturbed, name)
