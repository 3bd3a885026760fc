"""The suite as its users run it: spark-submit, from the repository's root."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demo.digits import write_digits

ROOT = Path(__file__).parents[2]
TIMEOUT = 240  # seconds


def command(job: str, *arguments: str) -> list[str]:
    return ["spark-submit", "--properties-file", "conf/spark/local.conf", f"jobs/{job}", *map(str, arguments)]


def submit(job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a job to its end. spark-submit hands on the driver's standard error with its standard output, as one."""
    return subprocess.run(
        command(job, *arguments),
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

    def begin(job: str, *arguments: str) -> subprocess.Popen[str]:
        log = (tmp_path / f"{len(started)}.log").open("w")
        process = subprocess.Popen(command(job, *arguments), cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
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


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


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


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
