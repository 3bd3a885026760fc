"""The job as it runs: through spark-submit, on a cluster of processes, killed in the middle, with tasks that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.spark_session import spark_context
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from preprocessing.job.shards import Shard, ShardRecord
from preprocessing.job.spark_run import convert_all
from tests.preprocessing.archives import write_official
from tests.preprocessing.half_way import half_way
from tests.preprocessing.raw_images import CLASSES, preprocess, write_folders
from tests.preprocessing.submitting import JOB, ROOT, submit

pytestmark = pytest.mark.cluster


def same_files(one: Path, other: Path) -> None:
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) for root in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        # The manifest says where the source was.
        if name != "manifest.json":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert Dataset.open(str(one)).content_hash == Dataset.open(str(other)).content_hash


def test_spark_submit_and_again(raw: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    preprocess(raw, tmp_path / "serial", rows_per_shard=10)
    command = submit(*JOB, "--rows-per-shard", "10", "--source", str(raw), "--output", str(tmp_path / "out"))
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "54 images in = 54 rows (train 42, val 12) + 0 rejected, 3 classes" in first.stdout
    assert "convert: 54 of 54 images (100%)" in first.stdout  # spark-submit joins Python's two streams
    same_files(tmp_path / "out", tmp_path / "serial")
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "nothing to do" in second.stdout


def test_killed_in_the_middle_and_run_again(tmp_path: Path, environment: dict[str, str]) -> None:
    write_folders(tmp_path / "raw", {"train": 40})
    output = tmp_path / "out"
    command = submit(*JOB, "--rows-per-shard", "10", "--source", str(tmp_path / "raw"), "--output", str(output))
    first = half_way(tmp_path / "half-way", environment, f"{output}/_work/*/train-*.json", 5)
    with subprocess.Popen(command, cwd=ROOT, env=first, stderr=subprocess.DEVNULL, start_new_session=True) as job:
        deadline = time.monotonic() + 60
        while len(list(output.glob("_work/*/train-*.json"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(job.pid, signal.SIGKILL)
    records = list(output.glob("_work/*/train-*.json"))
    assert len(records) == 5
    assert not (output / "manifest.json").exists()
    with pytest.raises(InputError, match="is not a dataset"):
        Dataset.open(str(output))
    whole = {path.stem.replace("train-", "train/part-") + ".parquet" for path in records}
    before = {name: (output / name).stat().st_mtime_ns for name in whole}

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "5 of 12 shards were finished by an earlier run" in again.stdout
    assert {name: (output / name).stat().st_mtime_ns for name in whole} == before
    # Temporaries that the kill left behind are gone too.
    preprocess(tmp_path / "raw", tmp_path / "serial", rows_per_shard=10)
    same_files(output, tmp_path / "serial")


def test_a_cluster_of_two_executors(raw: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    import pyspark

    write_official(raw, tmp_path / "tar")
    preprocess(raw, tmp_path / "serial", rows_per_shard=10, holdout=0.2)
    home = {**environment, "SPARK_HOME": str(Path(pyspark.__file__).parent)}
    command = submit("--master", "local-cluster[2,1,1024]", *JOB, "--rows-per-shard", "10", "--holdout", "0.2")
    command += ["--source", str(tmp_path / "tar"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "serial" / "labels.json").write_bytes(
        (tmp_path / "out" / "labels.json").read_bytes()
    )  # tars have names
    same_files(tmp_path / "out", tmp_path / "serial")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--source", "absent"], "error: --source .*/absent does not exist"),
        (["--source", "raw", "--size", "0"], "error: --size 0: give 1 to 4096 pixels"),
        (["--source", "raw", "--size", "big"], "error: --size big: give 1 to 4096 pixels"),
        (["--source", "raw", "--siez", "8"], "error: unrecognized arguments: --siez 8"),
        (["--source", "ftp://raw"], "error: ftp://raw: unknown scheme"),
        (["--source", "raw", "--classes", ","], "error: --classes ',': give 1 or more, or names"),
    ],
)
def test_errors_are_one_line_and_come_before_spark(raw: Path, tmp_path: Path, options: list[str], says: str) -> None:
    import re

    (tmp_path / "raw").symlink_to(raw)
    script = str(ROOT / "jobs/preprocess.py")
    # No Java can be found: an error that came after Spark's start would be another.
    bare = {**os.environ, "JAVA_HOME": "/nonexistent", "PATH": "/nonexistent"}
    command = [sys.executable, script, *options, "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(says, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_no_tensorflow_is_imported() -> None:
    code = "import sys, jobs.preprocess, preprocessing.job.convert; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def context(environment: dict[str, str]) -> Iterator[Any]:
    if "JAVA_HOME" in environment:
        os.environ["JAVA_HOME"] = environment["JAVA_HOME"]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_SUBMIT_ARGS"] = "--master local[2] --driver-memory 512m pyspark-shell"
    with spark_context("tests") as found:
        found.setLogLevel("OFF")
        yield found


@pytest.fixture
def running(context: Any) -> Any:
    @contextmanager
    def start(_: str) -> Iterator[Any]:
        yield context

    return start


def test_too_many_bad_images_stop_the_job_early(running: Any, tmp_path: Path) -> None:
    write_folders(tmp_path / "raw", {"train": 20}, {f"train/{CLASSES[0]}/bad{n}.JPEG": b"<html>" for n in range(20)})
    with pytest.raises(
        InputError, match=r"images rejected so far, more than --max-rejected 0\.1 .*not an image"
    ) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=running, rows_per_shard=4, max_rejected=0.1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", start=running, rows_per_shard=4, max_rejected=0.5)
    assert (manifest.images_in, manifest.rejected) == (80, 20)


def test_a_source_that_changes_under_the_job(running: Any, raw: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import preprocessing.job.run as job

    write_folders(tmp_path / "raw", {"train": 4})
    real = job.plan_shards

    def change_after_planning(*arguments: Any) -> Any:
        shards = real(*arguments)
        (tmp_path / "raw" / "train" / CLASSES[1] / f"{CLASSES[1]}_2.JPEG").unlink()
        return shards

    monkeypatch.setattr(job, "plan_shards", change_after_planning)
    with pytest.raises(
        InputError, match=r"_2\.JPEG has been deleted since the source was listed: run the same"
    ) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", start=running)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("bug", "the Spark job failed: ZeroDivisionError: a bug of ours; see the log above"),
        ("death", "a Python worker died again, .*; give tasks more memory .*, and run the same command again"),
    ],
)
def test_a_task_that_fails_is_explained_in_one_line(context: Any, how: str, says: str) -> None:
    def convert(_: Shard) -> ShardRecord:
        if how == "death":
            os._exit(9)
        raise ZeroDivisionError("a bug of ours")

    shards = [Shard("train", 0, 1, b"")]
    with pytest.raises(InputError, match=says) as caught:
        convert_all(
            context, shards, convert, carefully=convert, finished=[], recorded=lambda _: [], give_up=lambda _: None
        )
    assert "\n" not in str(caught.value)


def test_sparks_own_reader_takes_every_page_with_its_checksum(context: Any, made: Path) -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession(context)
    spark.conf.set("parquet.page.verify-checksum.enabled", "true")
    rows = spark.read.parquet(str(made / "train" / "*.parquet")).collect()
    tables = [pq.read_table(file) for file in (made / "train").glob("*.parquet")]
    expected = {row["id"]: row for table in tables for row in table.to_pylist()}
    assert len(rows) == len(expected) == 42
    for row in rows:
        assert bytes(row.image) == expected[row.id]["image"]
        assert row.label == expected[row.id]["label"]


# A square and a panorama that are scaled while decoded; and what has to be held whole.
LARGEST = [
    "JPEG 8190 8190",
    "JPEG 130 65000",
    "JPEG 511 65000",
    "PROGRESSIVE 5790 5790",
    "CMYK 8190 8190",
    "PNG 5790 5790",
]


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_images_stay_within_a_tasks_memory(kind: str, tmp_path: Path) -> None:
    code = """
import io, sys
import numpy as np
from PIL import Image
from preprocessing.images.decode import decode
name, height, width = sys.argv[1].split()
if sys.argv[2] == "make":
    Image.MAX_IMAGE_PIXELS = None
    mode = {"CMYK": "CMYK", "PNG": "RGBA"}.get(name, "RGB")
    image = Image.radial_gradient("L").resize((int(width), int(height))).convert(mode)
    options = {"progressive": True, "subsampling": 0} if name == "PROGRESSIVE" else {"compress_level": 1}
    image.save(sys.argv[3], "PNG" if name == "PNG" else "JPEG", quality=10, **options)
else:
    # Of this program alone: ru_maxrss would remember the test process that it was started from.
    peak = lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    before = peak()
    decode(open(sys.argv[3], "rb").read(), 256)
    print(before, peak())
"""
    for step in ("make", "decode"):
        command = [sys.executable, "-c", code, kind, step, str(tmp_path / "image")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    before, peak = map(int, done.stdout.split())
    assert before < peak < 600 << 10  # KiB


def test_storage_and_sources_reach_tasks(context: Any, raw: Path) -> None:
    store = open_store(raw)
    found = context.parallelize(CLASSES, 2).map(lambda name: len(store.list(f"train/{name}"))).collect()
    assert found == [14] * 3
