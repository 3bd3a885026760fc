"""Hub Parquet through spark-submit: killed while it stages, finished by the next run; columns named by options."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from preprocessing.dataset.opening import Dataset
from tests.preprocessing.half_way import half_way
from tests.preprocessing.hub_files import hub_table, write_hub
from tests.preprocessing.raw_images import jpeg, preprocess
from tests.preprocessing.submitting import JOB, ROOT, submit

pytestmark = pytest.mark.cluster

FILES = 12


def run(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = submit(*JOB, *options)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_killed_while_staging_and_run_again(tmp_path: Path, environment: dict[str, str]) -> None:
    source, output = tmp_path / "hub", tmp_path / "out"
    source.mkdir()
    photos = [jpeg(300, 400, seed) for seed in range(4)]
    for number in range(FILES):
        rows = [(label, f"{number}-{label}.jpg", photos[label]) for label in range(4)]
        pq.write_table(hub_table(rows, list("abcd")), source / f"train-{number:05}-of-{FILES:05}.parquet")
    options = ("--source", str(source), "--output", str(output))
    first = half_way(tmp_path / "half-way", environment, f"{output}/_work/*/staged/*.json", 5)
    with subprocess.Popen(
        submit(*JOB, *options), cwd=ROOT, env=first, stderr=subprocess.DEVNULL, start_new_session=True
    ) as job:
        deadline = time.monotonic() + 90
        while len(list(output.glob("_work/*/staged/*.json"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(job.pid, signal.SIGKILL)
    staged = {path: path.stat().st_mtime_ns for path in output.glob("_work/*/staged/*.json")}
    assert len(staged) == 5
    assert not list(output.glob("_work/*/train-*.json"))
    before = {path.with_suffix(""): path.with_suffix("").stat().st_mtime_ns for path in staged}

    again = run(environment, *options)
    assert again.returncode == 0, again.stderr
    assert f"5 of {FILES} files were staged by an earlier run" in again.stdout
    assert len(before) == len(staged)
    assert not (output / "_work").exists()
    preprocess(source, tmp_path / "serial")
    ours, theirs = Dataset.open(str(output)), Dataset.open(str(tmp_path / "serial"))
    assert ours.content_hash == theirs.content_hash
    assert f"{FILES * 4:,} images in = {FILES * 4:,} rows" in again.stdout


def test_spark_submit(raw: Path, made: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    write_hub(raw, tmp_path / "hub")
    options = ("--source", str(tmp_path / "hub"), "--output", str(tmp_path / "out"), "--rows-per-shard", "20")
    done = run(environment, *options, "--image-column", "image", "--label-column", "label")
    assert done.returncode == 0, done.stderr
    assert "stage: 6 of 6 files (100%)" in done.stdout
    assert Dataset.open(str(tmp_path / "out")).content_hash == Dataset.open(str(made)).content_hash
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in made.iterdir())


def test_damage_is_one_line(raw: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    write_hub(raw, tmp_path / "hub")
    path = tmp_path / "hub" / "data" / "train-00001-of-00003.parquet"
    pq.write_table(hub_table([(0, "x.jpg", None)], ("n01440764", "n01443537", "n01484850")), path)
    done = run(environment, "--source", str(tmp_path / "hub"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() + done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "train-00001-of-00003.parquet: row 0 has no image (its bytes are null): remove the row" in errors[0]
