"""Benchmarks start from the virtual environment's Python alone, as nobody has activated it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import ANOTHER_SPARK, ROOT

BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **ANOTHER_SPARK, "PYTHONPATH": ""}
del BARE["PYTHONINSPECT"]


def python(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=BARE, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def test_the_environment_of_a_benchmark_is_the_activated_one() -> None:
    code = (
        "import os, shutil; from benchmarks.environment import activate; activate(); "
        "print(shutil.which('spark-submit'), os.environ.get('SPARK_HOME'), sep='\\n')"
    )
    assert python("-c", code).stdout.splitlines() == [f"{sys.prefix}/bin/spark-submit", "None"]


@pytest.mark.parametrize("name", ["preprocess", "sweep", "training"])
def test_a_benchmark_activates_before_it_measures(name: str) -> None:
    code = (
        f"import sys; from benchmarks import {name} as benchmark; from preprocessing.common.errors import InputError\n"
        "def stop(): raise InputError('was activated')\n"
        "benchmark.activate = stop; from preprocessing.common.program import run_or_explain\n"
        "sys.argv = ['benchmark', *sys.argv[1:]]; run_or_explain(benchmark.main)"
    )
    options = ["--images", "nowhere"] if name == "preprocess" else []
    assert python("-c", code, *options, status=2).stderr == "error: was activated\n"


@pytest.mark.parametrize(
    ("name", "options", "choices"),
    [
        ("preprocess", ("--images", "nowhere"), "limit, pillow, ours, hub, petastorm, tfrecord, webdataset, mosaic"),
        ("input", ("--dataset", "nowhere"), "limit, limit_2, mapped, "),
    ],
)
def test_an_unknown_contender_is_refused(name: str, options: tuple[str, str], choices: str) -> None:
    for only in ("limit,UNKNOWN", "UNKNOWN"):
        said = python("-m", f"benchmarks.{name}", *options, "--only", only, status=2).stderr
        assert said.startswith(f"error: --only UNKNOWN: there is no such contender; choose from {choices}")
        assert said.count("\n") == 1


def test_a_command_that_fails_is_one_line() -> None:
    code = (
        "from benchmarks.environment import run\nfrom preprocessing.common.program import run_or_explain\n"
        "run_or_explain("
    )
    said = python("-c", code + "lambda: run(['sh', '-c', 'echo much; echo why >&2; exit 3']))", status=2).stderr
    assert said.startswith("error: sh ended with status 3: why; run it by hand: sh -c")


def test_a_catalogue_is_measured() -> None:
    found = json.loads(
        python("-m", "benchmarks.catalogue", "--images", "1000", "--classes", "7").stdout.splitlines()[-1]
    )
    assert found["images"] == 1000
    assert list(found["seconds"]) == ["catalogue", "signature", "select", "shards"]


@pytest.mark.cluster
def test_a_benchmark_runs_without_activation(tmp_path: Path) -> None:
    from tests.preprocessing.raw_images import write_folders

    write_folders(tmp_path / "raw", {"train": 2})
    arguments = (
        "--images",
        str(tmp_path / "raw"),
        "--count",
        "6",
        "--rounds",
        "1",
        "--cores",
        "1",
        "--only",
        "ours,hub",
    )
    said = python("-m", "benchmarks.preprocess", *arguments).stdout
    found = json.loads(said.splitlines()[-1])
    assert min(found["images_per_s"][name] for name in ("ours", "hub")) > 0
    assert found["ratios"]["hub_cpu"] > 0
