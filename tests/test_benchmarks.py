"""Benchmarks start from the virtual environment's Python alone, as nobody has activated it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import feed
from benchmarks.feed_contender import GpuWatch
from tests.environments import ANOTHER_SPARK, ROOT
from tests.lottery.datasets import local_dataset

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
        ("feed", ("--dataset", "nowhere"), "mobilenet_v2, mobilenet_v2_5, resnet50, resnet50_5"),
    ],
)
def test_an_unknown_contender_is_refused(name: str, options: tuple[str, str], choices: str) -> None:
    for only in (choices.partition(",")[0] + ",UNKNOWN", "UNKNOWN"):
        said = python("-m", f"benchmarks.{name}", *options, "--only", only, status=2).stderr
        assert said.startswith(f"error: --only UNKNOWN: there is no such contender; choose from {choices}")
        assert said.count("\n") == 1


ROW = {"input_cpu_us": 200.0, "tickets": 5, "one_batch_cpu_ms": 8.0, "batch": 256, "gpus": 0}


def test_a_bundle_shares_the_cores_that_feed_it() -> None:
    assert feed.cores_needed(ROW, 2500) == 0.1
    assert feed.cores_needed({**ROW, "tickets": 1}, 2500) == 0.5
    assert feed.cores_needed({**ROW, "gpus": 1}, 2500) == 0.18  # with the training process


def test_gpus_are_sampled_until_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = "#!/bin/sh\necho '0, 90, 300.5'; echo '1, 70, 200.5'; echo '0, [N/A], 3'; printf '1, 4'; exec sleep 60\n"
    (tmp_path / "nvidia-smi").write_text(smi)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    watch = GpuWatch()
    time.sleep(0.5)
    assert watch.means() == {"gpu_percent": 80.0, "gpu_watts": 501.0}
    monkeypatch.setenv("PATH", "/nonexistent")
    assert GpuWatch().means() == {}


@pytest.mark.cluster
def test_a_model_trains_on_a_dataset_and_on_one_batch(tmp_path: Path) -> None:
    data, _ = local_dataset(tmp_path, size=48)
    small = ("--batch", "4", "--crop", "32", "--seconds", "0.2", "--rounds", "1", "--only", "mobilenet_v2_5")
    said = python("-m", "benchmarks.feed", "--dataset", data, *small).stdout
    assert "no GPU was there" in said
    row = json.loads(said.splitlines()[-1])["results"]["mobilenet_v2_5"]
    assert (row["tickets"], row["batch"], row["gpus"]) == (5, 4, 0)
    assert min(row[name] for name in ("per_second", "one_batch_per_second", "cpu_ms", "input_cpu_us", "cores")) > 0


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
