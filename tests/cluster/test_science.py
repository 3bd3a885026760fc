"""`make science`, shrunk: through spark-submit to its table of findings, and again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import ROOT
from tests.preprocessing.pixel_files import grays, write_idx

pytestmark = pytest.mark.cluster


def science(fashion: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "science", "--smoke", "--fashion", str(fashion), "--output", str(output)]
    studies = ["--only", "lenet", "lenet_iterative"]
    return subprocess.run(
        [*command, *studies],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )


def test_it_ends_with_findings_and_again_with_the_same(tmp_path: Path) -> None:
    digits = [number % 10 for number in range(100)]
    write_idx(tmp_path / "fashion", {"train": (grays(100), digits), "t10k": (grays(50, seed=100), digits[:50])})
    output = tmp_path / "out"
    first = science(tmp_path / "fashion", output)
    assert first.returncode == 0, first.stdout
    found = output / "findings.json"
    numbers = found.read_bytes()
    names = [finding["name"] for finding in json.loads(numbers)]
    assert names == ["tickets against controls", "iterative pruning"]
    assert "not shown" in first.stdout  # nothing is learnt in 6 steps
    assert first.stdout.count("+ spark-submit --properties-file conf/spark/local.conf") == 3
    assert sorted(path.name for path in output.glob("*.png")) == [
        "iterative-pruning.png",
        "tickets-against-controls.png",
    ]
    assert (output / "findings.txt").read_text() in first.stdout
    found.unlink()
    again = science(tmp_path / "fashion", output)
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("nothing to train") == 2
    assert found.read_bytes() == numbers


def test_the_status_of_a_job_that_fails_is_handed_on(tmp_path: Path) -> None:
    fashion = tmp_path / "fashion"
    write_idx(fashion, {"train": (grays(10), list(range(10))), "t10k": (grays(10), list(range(10)))})
    (fashion / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip file")
    failed = science(fashion, tmp_path / "out")
    assert failed.returncode == 2
    assert failed.stdout.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in failed.stdout
