"""What YARN may do to a sweep: nothing is lost, and one line tells the user."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.cluster.processes import NOTICE, ROUND_UP, children, gone, send, wait_until
from tests.cluster.small_sweep import A_LEVEL, TRAININGS, after_dense, kept, measured, results, unchanged
from tests.cluster.yarn.client import APART, PATIENCE, Client
from tests.hadoop.yarn import Yarn

pytestmark = pytest.mark.yarn

SPARKS_OWN = re.compile(r"\d\d/\d\d/\d\d |\t|Caused by|(\w+\.)+\w+(Exception|Error)\b")
OUT_OF_MEMORY = re.compile(
    r"YARN killed an executor's container for using [\d.]+ [MG]B of [\d.]+ [MG]B physical memory: "
    r"raise spark\.executor\.memoryOverhead\b"
)


def last_line(log: Path) -> str:
    """What the user sees last, apart from Spark's own log with its stack traces."""
    lines = [line for line in log.read_text().splitlines() if line and not SPARKS_OWN.match(line)]
    return lines[-1]


def some_are_done(runs: Path, before: int = A_LEVEL) -> bool:
    """Whether a sweep that began with so many results is at work on tickets, of which some are done."""
    return before < len(results(runs)) < TRAININGS and bool(children(runs))


def run_again(client: Client, data: Path, runs: Path) -> str:
    """What the same command prints when it is run to its end."""
    done = client.run(client.sweep(data, runs, *APART))
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.long
def test_a_container_that_exceeds_its_memory_once_is_killed_and_the_sweep_goes_on(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    after_dense(undisturbed, runs, levels=[0])
    with client.started(log, client.sweep(data, runs, *APART)) as sweep:
        wait_until(lambda: children(runs) or sweep.poll() is not None, PATIENCE)
        yarn.fill_a_container()
        wait_until(lambda: OUT_OF_MEMORY.search(log.read_text()) or sweep.poll() is not None, PATIENCE)
        done = kept(runs)
        assert sweep.wait(PATIENCE) == 0, log.read_text()
    assert "the stage failed: YARN killed" in log.read_text()
    assert "planning the remaining work again, on the executors that are left" in log.read_text()
    assert unchanged(done)
    assert not children(runs, guards=True)
    assert measured(runs) == measured(undisturbed)


@pytest.mark.long
def test_containers_with_too_little_memory_end_the_sweep_with_the_setting_and_lose_nothing(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    after_dense(undisturbed, runs, levels=[0])
    # Enough for a Java that takes all its memory at once and for Spark's Python, but not for TensorFlow besides.
    little = {
        "spark.executor.instances": "1",
        "spark.executor.memoryOverhead": "384m",
        "spark.executor.extraJavaOptions": "-Xms512m -XX:+AlwaysPreTouch -XX:+UseSerialGC",
    }
    options = [word for name, value in little.items() for word in ("--conf", f"{name}={value}")]
    done = client.run(client.sweep(data, runs, options=options))
    (tmp_path / "log").write_text(done.stdout)
    assert done.returncode == 1, done.stdout
    assert last_line(tmp_path / "log").startswith("error: gave up after 3 stages without progress: YARN killed ")
    assert OUT_OF_MEMORY.search(last_line(tmp_path / "log")), done.stdout
    assert not children(runs, guards=True)
    assert len(results(runs)) == A_LEVEL
    run_again(client, data, runs)
    assert measured(runs) == measured(undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("with_master", [False, True], ids=["an executor's", "the application master's"])
def test_a_node_that_is_lost_for_good_is_planned_around(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path, with_master: bool
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    after_dense(undisturbed, runs)  # of three levels, which keep both machines busy
    with client.started(log, client.sweep(data, runs, *APART)) as sweep:
        wait_until(lambda: some_are_done(runs, 0) or sweep.poll() is not None, PATIENCE)
        number = next(number for number in range(len(yarn.nodes)) if bool(yarn.masters(number)) == with_master)
        before = [each for each in children(runs, guards=True) if each in yarn.containers(number)]
        done = kept(runs)
        assert before, log.read_text()
        send(signal.SIGKILL, yarn.machine(number))
        wait_until(lambda: all(map(gone, before)), NOTICE + ROUND_UP)
        assert sweep.wait(PATIENCE) == 0, log.read_text()
    assert unchanged(done)
    assert "planning the remaining work again, on the executors that are left" in log.read_text()
    assert not children(runs, guards=True)
    assert measured(runs) == measured(undisturbed)


def test_an_application_that_is_killed_says_so_and_the_next_run_continues(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    after_dense(undisturbed, runs, levels=[0])
    with client.started(log, client.sweep(data, runs, *APART)) as sweep:
        wait_until(lambda: some_are_done(runs) or sweep.poll() is not None, PATIENCE)
        yarn.application("-kill", yarn.applications()[-1].id)
        assert sweep.wait(NOTICE + ROUND_UP) == 1, log.read_text()
    wait_until(lambda: not children(runs, guards=True), NOTICE + ROUND_UP)
    assert last_line(log).startswith("error: Spark has ended"), log.read_text()
    assert last_line(log).endswith("; run the same command again to continue")
    assert not list(runs.glob("*/claim.json"))
    done = kept(runs)
    assert A_LEVEL < len(done) < TRAININGS
    run_again(client, data, runs)
    assert unchanged(done)
    assert measured(runs) == measured(undisturbed)


@pytest.mark.long
def test_a_restart_of_the_resource_manager_goes_unnoticed(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    after_dense(undisturbed, runs, levels=[0])
    with client.started(log, client.sweep(data, runs, *APART)) as sweep:
        wait_until(lambda: some_are_done(runs) or sweep.poll() is not None, PATIENCE)
        yarn.resource_manager.stop()
        yarn.resource_manager.start_again()
        yarn.wait_until_ready()
        assert sweep.wait(PATIENCE) == 0, log.read_text()
    assert "planning the remaining work again" not in log.read_text()
    assert yarn.applications()[-1].final == "SUCCEEDED"
    assert measured(runs) == measured(undisturbed)


@pytest.mark.long
def test_an_application_that_waits_in_a_full_queue_says_so_and_starts_when_there_is_room(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs, log, waiting = tmp_path / "runs", tmp_path / "log", tmp_path / "waiting"
    after_dense(undisturbed, runs, levels=[0])
    with client.started(log, client.sweep(data, runs, *APART)) as first:
        wait_until(lambda: children(runs) or first.poll() is not None, PATIENCE)
        held = list(children(runs))
        send(signal.SIGSTOP, held)  # or it would have ended before the other says that it waits
        # No node has room for its master now, and afterwards there is room for one executor.
        large = ("--conf", "spark.yarn.am.memory=3g", "--conf", "spark.executor.instances=1")
        plan = client.sweep(data, tmp_path / "others", options=large)
        with client.started(waiting, [*plan, "--plan"]) as second:
            wait_until(lambda: "its queue may be full" in waiting.read_text(), 120)
            assert yarn.applications()[-1].state == "ACCEPTED"
            assert second.poll() is None
            yarn.application("-kill", yarn.applications()[-2].id)
            send(signal.SIGCONT, held)  # or they would not see that their parents are gone
            assert second.wait(PATIENCE) == 0, waiting.read_text()
            assert "\ngang: " in waiting.read_text()


@pytest.mark.long
def test_cron_runs_a_sweep_and_mails_nothing(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    after_dense(undisturbed, runs, levels=[0, 1])
    sweep = client.sweep(data, runs)
    arguments = [word.replace("env/conf", "conf") for word in sweep[sweep.index("--experiment") :]]
    done = client.cron(arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert measured(runs) == measured(undisturbed)


@pytest.mark.long
def test_in_cluster_mode_a_failure_is_1_and_the_containers_log_has_the_line(
    yarn: Yarn, client: Client, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    after_dense(undisturbed, runs, levels=[0, 1])
    done = client.run(client.sweep(data, runs, options=("--deploy-mode", "cluster")))
    assert done.returncode == 0, done.stdout
    assert measured(runs) == measured(undisturbed)

    failed = client.run(client.sweep(tmp_path / "nothing", runs, options=("--deploy-mode", "cluster")))
    assert failed.returncode == 1, failed.stdout
    assert re.search(r"Application application_\d+_\d+ finished with failed status", failed.stdout)
    application = yarn.applications()[-1].id
    logs = list(yarn.folder.glob(f"node-*/logs/{application}/container_*_000001/stdout"))
    assert len(logs) == 2  # YARN tries a failed application once more, which also goes on after a machine is lost
    for log in logs:
        said = (log.read_text() + log.with_name("stderr").read_text()).splitlines()
        (line,) = [line for line in said if line.startswith("error: ")]
        assert line.startswith(f"error: {tmp_path}/nothing is not a dataset: ")
