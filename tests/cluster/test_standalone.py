"""The gang on a real cluster of master, workers, executors and driver, any of which may be lost."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from lottery.run import checkpoint
from tests.cluster.cluster_sweep import begin, options
from tests.cluster.processes import NOTICE, ROUND_UP, children, descendants, gone, send, wait_until
from tests.cluster.small_sweep import A_LEVEL, TRAININGS, after_dense, arguments, kept, measured, results, unchanged
from tests.cluster.submit import submit

pytestmark = pytest.mark.cluster


def gpu(child: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return child.environ()["CUDA_VISIBLE_DEVICES"]
    return ""


def test_the_gang_survives_the_failures_of_children_and_tickets(cluster, data, undisturbed, tmp_path, start) -> None:
    """A child is killed, another stopped; a ticket diverges, another does not fit into memory."""
    runs, log = tmp_path / "runs", tmp_path / "0.log"
    settings = ["model={name: treacherous:conv_small}", "tickets.controls=[]", "gang.bundle=2", "gang.hang_after=20"]
    treacherous = ("--py-files", "tests/cluster/treacherous.py")
    sweep = begin(start, cluster, data, runs, *settings, more=treacherous)
    wait_until(lambda: "gang: 9 trainings on 2 tasks" in log.read_text())
    wait_until(lambda: {gpu(child) for child in children(runs)} == {"GPU-stub-0", "GPU-stub-1"})
    killed, stopped = sorted(children(runs), key=gpu)
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    assert sweep.wait(240) == 1, log.read_text()
    assert not children(runs, guards=True)

    said = cluster.executors_said()
    assert "child ended: killed by SIGKILL" in said
    assert "child ended: no progress for 20 s" in said
    found, whole = measured(runs), measured(undisturbed)
    rows = {path.parent.name: json.loads(path.read_text()) for path in results(runs)}
    assert len({row["executor"] for row in rows.values()}) == 2
    diverged, failed = rows.pop("01-000000-s0"), rows.pop("02-000000-s0")
    assert diverged["status"] == "diverged"
    assert diverged["note"].startswith("the loss is nan at step 5")
    assert failed["status"] == "failed"
    assert failed["note"].startswith("out of memory at step 0: ")
    assert "\nwarning: ticket 02-000000-s0 failed: out of memory at step 0: OOM when allocating" in log.read_text()
    assert len(rows) == 7
    assert [found[name] for name in (*rows, "dense")] == [whole[name] for name in (*rows, "dense")]


def test_what_is_lost_is_planned_anew_down_to_one_executor(cluster, data, undisturbed, tmp_path, start) -> None:
    """An executor is killed in the dense run, a Python worker among tickets, and then a whole machine for good."""
    runs, log = tmp_path / "runs", tmp_path / "0.log"
    sweep = begin(start, cluster, data, runs, "gang.bundle=2", all_stay=False)

    def lose(victims: list[psutil.Process]) -> None:
        """Kills them, and checks that results stay, that no child is left, and that another gang begins."""
        before, done, gangs = children(runs, guards=True), kept(runs), log.read_text().count("planning the remaining")
        send(signal.SIGKILL, victims)
        send(signal.SIGCONT, before)  # those that were held
        wait_until(lambda: all(map(gone, before)), NOTICE + ROUND_UP)
        wait_until(lambda: log.read_text().count("planning the remaining") == gangs + 1)
        assert unchanged(done)

    def held(due: Callable[[], bool]) -> psutil.Process:
        """A child at work once it is due: stopped, so that its work cannot end unnoticed."""

        def stopped() -> psutil.Process | None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in children(runs) if due() else []:
                    if child.children():  # its guard, which ends it when its executor is lost
                        child.send_signal(signal.SIGSTOP)
                        return child
            return None

        child = wait_until(stopped)
        assert len(results(runs)) < TRAININGS
        return child

    dense = held(lambda: "\ndense run: " in log.read_text())
    lose([executor for executor in cluster.executors() if dense in descendants(executor.pid)])
    lose([held(lambda: bool(results(runs))).parent()])
    done = len(results(runs))
    child = held(lambda: len(results(runs)) > done)
    lose(next(machine for machine in map(cluster.machine, (0, 1)) if child in machine))
    assert sweep.wait(240) == 0, log.read_text()
    assert not children(runs, guards=True)
    assert "planning the remaining work again, on the executors that are left" in log.read_text()
    assert re.findall(r"gang: \d+ trainings on (\d) tasks?", log.read_text()) == ["2", "2", "1"]
    assert measured(runs) == measured(undisturbed)


def test_a_machine_that_is_given_notice_saves_and_leaves(cluster, data, undisturbed, tmp_path, start) -> None:
    """As on spot machines: SIGTERM to all that runs there, and SIGKILL after 30 s."""
    runs, log = tmp_path / "runs", tmp_path / "0.log"
    run = after_dense(undisturbed, runs, levels=[0, 1])
    settings = ("gang.bundle=4", "gang.checkpoint=1e6")  # saves on notice alone
    sweep = begin(start, cluster, data, runs, *settings, all_stay=False)

    def trained() -> int:
        with contextlib.suppress(FileNotFoundError):
            return int(json.loads((run / "heartbeats" / "000.json").read_text())["images"])
        return 0

    wait_until(trained)
    (child,) = children(runs)
    child.send_signal(signal.SIGSTOP)  # so that nothing happens between this check and the notice
    images = trained()
    assert len(results(runs)) == 2 * A_LEVEL
    assert not list(run.glob("tickets/02-*/state.safetensors"))
    number = next(number for number in (0, 1) if child in cluster.machine(number))
    machine = cluster.machine(number)
    send(signal.SIGTERM, machine)
    child.send_signal(signal.SIGCONT)
    told = time.monotonic()
    wait_until(lambda: gone(child), NOTICE)
    steps = {}
    for path in run.glob("tickets/02-*/state.safetensors"):
        steps[path.parent.name] = checkpoint.unpack(path.read_bytes()).step
    assert len(results(runs)) == 2 * A_LEVEL
    wait_until(lambda: all(map(gone, machine)) or time.monotonic() > told + NOTICE, NOTICE + ROUND_UP)
    send(signal.SIGKILL, machine)

    first = {name: int(name.split("-")[1]) for name in measured(undisturbed) if name.startswith("02-")}
    assert steps.keys() == first.keys()
    assert sum(steps[name] - first[name] for name in first) * 32 >= images > 0
    assert sweep.wait(240) == 0, log.read_text()
    assert not children(runs, guards=True)
    assert "planning the remaining work again, on the executors that are left" in log.read_text()
    assert measured(runs) == measured(undisturbed)


def test_a_killed_driver_leaves_no_child_and_the_next_run_does_what_is_left(
    cluster, data, undisturbed, tmp_path, start
) -> None:
    runs = tmp_path / "runs"
    run = after_dense(undisturbed, runs, levels=[0])
    claim = run / "claim.json"
    sweep = begin(start, cluster, data, runs, "gang.bundle=2")

    def next_run(spark: list[str]):
        return submit("lottery_sweep.py", *arguments(data, runs, "gang.check_gpus=false"), options=spark)

    def refused(who: str) -> None:
        done = next_run(options(cluster, runs))
        assert done.returncode == 75
        assert re.match(rf"error: .* is being worked on by process \d+ on {who} since 20", done.stdout.splitlines()[-1])
        assert "Traceback" not in done.stdout

    wait_until(claim.exists)
    refused(".*")
    wait_until(lambda: A_LEVEL < len(results(runs)) < TRAININGS and children(runs))
    # The Python driver, and the JVM that started it.
    send(signal.SIGKILL, descendants(sweep.pid, "jobs/lottery_sweep.py"))
    sweep.wait(60)
    wait_until(lambda: not children(runs, guards=True), NOTICE + ROUND_UP)
    done = kept(runs)
    assert A_LEVEL < len(done) < TRAININGS

    held = json.loads(claim.read_text())
    elsewhere = {**held, "host": "elsewhere", "numbering": "of another boot", "heartbeat": time.time() - 200}
    claim.write_text(json.dumps(elsewhere))
    refused("elsewhere")
    claim.write_text(json.dumps(held))
    again = next_run(options(cluster, runs))
    assert again.returncode == 0, again.stdout
    assert "dense run:" not in again.stdout
    assert unchanged(done)
    assert not claim.exists()
    assert measured(runs) == measured(undisturbed)

    finished = next_run(["--master", "spark://127.0.0.1:1"])  # where there is none
    assert finished.returncode == 0, finished.stdout
    assert "nothing to train" in finished.stdout
