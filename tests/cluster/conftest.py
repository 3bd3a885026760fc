"""Jobs, datasets, sweeps and clusters that the tests share."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from demo.digits import write_digits
from tests.cluster.processes import descendants
from tests.cluster.small_sweep import arguments, run_directory
from tests.cluster.standalone import Cluster
from tests.cluster.submit import LOCAL, ROOT, command, submit


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a job in the background; after the test all its processes are killed."""
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
    """The runs folder of a sweep that was not disturbed."""
    runs = tmp_path_factory.mktemp("undisturbed")
    done = submit("lottery_sweep.py", *arguments(data, runs))
    assert done.returncode == 0, done.stdout
    run = run_directory(runs)
    assert done.stdout.splitlines()[-3:] == [
        f"results: {run}/results.parquet",
        f"TensorBoard: tensorboard --logdir {run}/events",
        f"report: {run}/report/index.html",
    ]
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
    """A standalone cluster of two workers with a core and a stub GPU each; a test may kill any of them."""
    _cluster.replace_lost_workers()
    return _cluster
