"""An image that kills the process that decodes it, through the whole job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from preprocessing.dataset.opening import Dataset
from preprocessing.images.decode import decode
from tests.preprocessing.raw_images import CLASSES, jpeg, write_folders
from tests.preprocessing.submitting import JOB, ROOT, submit
from tests.preprocessing.treacherous_decoder import write_treachery

pytestmark = pytest.mark.cluster


def run(tmp_path: Path, environment: dict[str, str], bad: dict[str, bytes]) -> subprocess.CompletedProcess[str]:
    write_folders(tmp_path / "raw", {"train": 30}, {f"train/{CLASSES[1]}/{name}": data for name, data in bad.items()})
    path = os.pathsep.join([str(write_treachery(tmp_path / "treachery")), environment.get("PYTHONPATH", "")])
    command = submit("--master", "local[2]", *JOB, "--max-rejected", "0.1")
    command += ["--source", str(tmp_path / "raw"), "--output", str(tmp_path / "out")]
    return subprocess.run(
        command, cwd=ROOT, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def test_an_image_that_kills_its_worker_is_rejected_by_name(tmp_path: Path, environment: dict[str, str]) -> None:
    data = jpeg(60, 70)
    bad = {"deadly.JPEG": data + b"mark: segv", "ends.JPEG": data + b"mark: exit", "page.JPEG": b"<html>"}
    done = run(tmp_path, environment, {**bad, "spoils.JPEG": data + b"mark: spoil"})
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "warning: a Python worker died, perhaps of an image, perhaps for lack of memory; " in said
    assert " unfinished shards are converted again, " in said
    assert "94 images in = 91 rows (train 91) + 3 rejected" in done.stdout
    assert "(decoder crash 2, not an image 1)" in done.stdout
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(row["id"], row["detail"]) for row in rejected[:2]] == [
        (f"{CLASSES[1]}/deadly.JPEG", "its decoder died of SIGSEGV"),
        (f"{CLASSES[1]}/ends.JPEG", "its decoder ended its process with status 9"),
    ]
    rows = pq.read_table(tmp_path / "out" / "train", columns=["id"], partitioning=None)["id"].to_pylist()
    images, _ = Dataset.open(str(tmp_path / "out")).split("train").gather(np.arange(91))
    for name, image in zip(rows, images, strict=True):
        assert np.array_equal(image, decode((tmp_path / "raw" / "train" / name).read_bytes(), 32))


def test_a_decoder_that_the_kernel_kills_rejects_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(tmp_path, environment, {"large.JPEG": jpeg(60, 70) + b"mark: killed"})
    assert done.returncode == 2
    (error,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: ")]
    assert error.startswith(
        f"error: train/{CLASSES[1]}/large.JPEG ({tmp_path}/raw/train/{CLASSES[1]}/large.JPEG) cannot be decoded: "
        "its decoder was killed from outside"
    )
    assert "give tasks more memory" in error
    assert not (tmp_path / "out" / "manifest.json").exists()
