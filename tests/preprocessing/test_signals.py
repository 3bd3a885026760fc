"""Ctrl-C and SIGTERM end the job with one line and a status, keep what is done, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from preprocessing.common.signals import EXIT_INTERRUPTED, EXIT_TERMINATED
from preprocessing.dataset.opening import Dataset
from tests.preprocessing.half_way import half_way
from tests.preprocessing.raw_images import write_folders

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


@pytest.mark.parametrize(
    ("number", "status", "says"),
    [(signal.SIGINT, EXIT_INTERRUPTED, "interrupted"), (signal.SIGTERM, EXIT_TERMINATED, "terminated")],
)
def test_a_signal_is_a_line_and_a_status(number: signal.Signals, status: int, says: str) -> None:
    code = f"""
import os, sys, time
from preprocessing.common.signals import run_until_signal
sys.exit(run_until_signal(lambda: [os.kill(os.getpid(), {number:d}), time.sleep(20)] and 0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == status
    assert done.stderr == f"{says}; run the same command again to continue\n"


@pytest.mark.parametrize("job", ["preprocess", "lottery_sweep"])
@pytest.mark.parametrize("module", ["preprocessing.common.program", "pyspark.accumulators", "argparse"])
def test_a_signal_while_modules_are_imported_is_a_line_and_a_status(job: str, module: str) -> None:
    code = f"""
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.modules.pop("argparse", None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.meta_path.insert(0, Interrupt())
sys.argv = ["job", "--help"]
runpy.run_path("jobs/{job}.py", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, "interrupted\n")


def test_a_signal_before_the_work_begins_is_a_line_and_a_status() -> None:
    code = """
import os, signal
from preprocessing.common.program import run_or_explain
signal.signal(signal.SIGINT, signal.default_int_handler)
run_or_explain(lambda: os.kill(os.getpid(), signal.SIGINT) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, "interrupted\n")


def test_what_other_libraries_log_is_shown() -> None:
    code = """
import logging
from preprocessing.common.signals import run_until_signal
run_until_signal(lambda: logging.getLogger("other").error("lost") or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stderr == "lost\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def runs(process: psutil.Process, word: str = "") -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.mark.cluster
def test_signals_end_the_job_in_order_and_it_can_be_continued(tmp_path: Path) -> None:
    source, output = tmp_path / "raw", tmp_path / "out"
    write_folders(source, {"train": 20})
    command = ["spark-submit", "--properties-file", "conf/spark/local.conf"]
    command += ["--conf", f"spark.pyspark.python={sys.executable}", "jobs/preprocess.py", "--size", "32"]
    command += ["--rows-per-row-group", "5", "--rows-per-shard", "5", "--source", str(source), "--output", str(output)]

    def records() -> int:
        return len(list(output.glob("_work/*/train-*.json")))

    # As a terminal sends Ctrl-C, to all of the job's processes; and as a supervisor may, to the driver alone.
    for number, status, says in ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")):
        before, log = records(), tmp_path / says
        pattern = f"{output}/_work/*/train-*.json"
        environment = half_way(tmp_path / f"to be {says}", dict(os.environ), pattern, 3)
        with log.open("w") as stream:
            job = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            wait_until(lambda before=before: records() == before + 3)  # type: ignore[misc]
            started = psutil.Process(job.pid).children(recursive=True)
            if number == signal.SIGINT:
                os.killpg(job.pid, number)
            else:
                (driver,) = [each for each in started if runs(each, "jobs/preprocess.py")]
                driver.send_signal(number)
            assert job.wait(SECONDS) == status
        finally:
            job.kill()
            job.wait()
        # A Ctrl-C ends spark-submit by itself: the driver may say its line later.
        wait_until(lambda started=started: not any(map(runs, started)))  # type: ignore[misc]
        said = log.read_text()
        assert said.splitlines()[-1] == f"{says}; run the same command again to continue", said
        assert "Traceback" not in said
        assert records() == before + 3
        assert not (output / "manifest.json").exists()

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=2 * SECONDS)
    assert done.returncode == 0, done.stdout
    assert "6 of 12 shards were finished by an earlier run" in done.stdout
    assert Dataset.open(str(output)).split("train").count == 60
