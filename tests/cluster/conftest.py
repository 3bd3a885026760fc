"""The suite as its users run it: spark-submit, from the repository's root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from demo.digits import write_digits
from tests.cluster.small_sweep import arguments, run_directory
from tests.cluster.standalone import Cluster

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
TIMEOUT = 240  # seconds
MARK = "LOTTERY_TEST_RUNS"  # in the environment of a sweep's executors, and so of their children: its --runs


PYTHON = ("--conf", f"spark.pyspark.python={sys.executable}")  # the properties file's is that of `make setup`
LOCAL = ("--properties-file", "conf/spark/local.conf", "--master", "local[2]", *PYTHON)


def command(job: str, *arguments: str, options: Sequence[str] = LOCAL) -> list[str]:
    return ["spark-submit", *options, f"jobs/{job}", *map(str, arguments)]


def submit(job: str, *arguments: str, options: Sequence[str] = LOCAL) -> subprocess.CompletedProcess[str]:
    """Runs a job to its end. spark-submit hands on the driver's standard error with its standard output, as one."""
    return subprocess.run(
        command(job, *arguments, options=options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a job in the background; all of its processes are gone after the test."""
    started = []

    def begin(job: str, *arguments: str, options: Sequence[str] = LOCAL) -> subprocess.Popen[str]:
        log = (tmp_path / f"{len(started)}.log").open("w")
        process = subprocess.Popen(
            command(job, *arguments, options=options), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        started.append(process)
        return process

    yield begin
    for process in started:
        for child in descendants(process.pid):
            child.kill()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def descendants(pid: int, word: str = "") -> list[psutil.Process]:
    """The processes below `pid` whose command line has `word`."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if word in " ".join(_command_line(process))]


def children(runs: object, guards: bool = False) -> list[psutil.Process]:
    """The child processes of a sweep on a cluster, wherever they run and whatever has become of their parents.

    With `guards` also the small process that each has beside it.
    """
    found = [each for each in psutil.process_iter() if _is_child(each, str(runs))]
    started = {each.pid for each in found}
    return [each for each in found if guards or _parent(each) not in started]


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], T], seconds: float = 120.0) -> T:
    """What the condition returns when it is true of it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "images"
    write_digits(folder)
    return folder


@pytest.fixture(scope="session")
def data(images: Path) -> Path:
    """The digits as a dataset, made by spark-submit."""
    output = images.parent / "data"
    done = submit("preprocess.py", "--source", images, "--output", output, "--size", "8")
    assert done.returncode == 0, done.stdout
    return output


@pytest.fixture(scope="session")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder of a sweep that nothing happened to."""
    runs = tmp_path_factory.mktemp("undisturbed")
    done = submit("lottery_sweep.py", *arguments(data, runs))
    assert done.returncode == 0, done.stdout
    run = run_directory(runs)
    assert done.stdout.splitlines()[-2:] == [f"results: {run}/results.parquet", f"picture: {run}/report/accuracy.png"]
    assert "0 of 9 tickets are done, 0 of 3 controls" in done.stdout
    assert "gang: 12 trainings on 2 tasks" in done.stdout
    return runs


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"), workers=2)
    yield started
    started.stop()


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """A standalone cluster of two workers with a core and a stub GPU each; a test may take any of them away."""
    _cluster.mend()
    return _cluster


def _is_child(process: psutil.Process, runs: str) -> bool:
    if "lottery.worker" not in _command_line(process):  # empty of a zombie
        return False
    try:
        return process.environ().get(MARK) == runs
    except psutil.Error:
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
